// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Waiting until a look at a registered descriptor's source finds something.
//!
//! The runtime remembers that a descriptor became readable until it is told that it no longer is.
//! It is told so only after a look that found nothing, and only of the event that came before the
//! look. A change during the look is another event, so none is lost.

use std::os::fd::AsRawFd;
use std::task::{Context, Poll, ready};

use sysgenid::{Result, Source};
use tokio::io::Ready;
use tokio::io::unix::AsyncFd;
use tokio::task::coop;

use crate::runtime;

/// Polls until `look` finds something. Only the task that polled last is woken.
pub(crate) fn poll_found<T: AsRawFd, F>(
    registered: &AsyncFd<T>,
    source: Option<&Source>,
    cx: &mut Context<'_>,
    mut look: impl FnMut(Ready) -> Result<Option<F>>,
) -> Poll<Result<F>> {
    loop {
        let mut ready = ready!(registered.poll_read_ready(cx))
            .map_err(|error| runtime::not_registered(&error, source))?;
        if let Some(found) = look(ready.ready())? {
            return Poll::Ready(Ok(found));
        }
        ready.clear_ready();
    }
}

/// Waits until `look` finds something. Any number of tasks may.
pub(crate) async fn found<T: AsRawFd, F>(
    registered: &AsyncFd<T>,
    source: Option<&Source>,
    mut look: impl FnMut(Ready) -> Result<Option<F>>,
) -> Result<F> {
    loop {
        // `readable` does not count as a step of the task, and one that is never asked to yield
        // would starve the others with a change that it does not acknowledge.
        coop::consume_budget().await;
        let mut ready = registered
            .readable()
            .await
            .map_err(|error| runtime::not_registered(&error, source))?;
        if let Some(found) = look(ready.ready())? {
            return Ok(found);
        }
        ready.clear_ready();
    }
}
