// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Restores;

/// A future that is in a world of a test whenever it is polled: see [`Restores::around`].
#[must_use = "a future does nothing unless it is polled"]
pub struct Around<F> {
    restores: Restores,
    /// In a box, because this crate has no unsafe code to reach into a pinned value with. `None` only
    /// while it is dropped.
    future: Option<Pin<Box<F>>>,
}

impl<F> Around<F> {
    pub(super) fn new(restores: Restores, future: F) -> Self {
        Self {
            restores,
            future: Some(Box::pin(future)),
        }
    }
}

impl<F: Future> Future for Around<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _scope = self.restores.scope();
        match &mut self.future {
            Some(future) => future.as_mut().poll(context),
            None => Poll::Pending,
        }
    }
}

impl<F> Drop for Around<F> {
    fn drop(&mut self) {
        let _scope = self.restores.scope();
        self.future = None;
    }
}

impl<F> fmt::Debug for Around<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Around")
            .field("restores", &self.restores)
            .finish_non_exhaustive()
    }
}
