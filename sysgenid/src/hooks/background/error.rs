// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::base::error::Error;
use crate::hooks::HookErrors;

/// Why a change is not handled.
#[derive(Clone, Debug)]
pub struct BackgroundError(Arc<Reason>);

#[derive(Debug)]
enum Reason {
    Hooks(HookErrors),
    Source(Error),
}

impl BackgroundError {
    pub(super) fn hooks_failed(errors: HookErrors) -> Self {
        Self(Arc::new(Reason::Hooks(errors)))
    }

    pub(super) fn source_failed(error: Error) -> Self {
        Self(Arc::new(Reason::Source(error)))
    }

    /// The hooks that failed; `None` if it was the source that did not take the acknowledgement, or the
    /// system that could not wait. That error is the [`source`](StdError::source) then.
    #[must_use]
    pub fn hooks(&self) -> Option<&HookErrors> {
        match &*self.0 {
            Reason::Hooks(errors) => Some(errors),
            Reason::Source(_) => None,
        }
    }
}

impl fmt::Display for BackgroundError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Reason::Hooks(errors) => errors.fmt(f),
            Reason::Source(error) => error.fmt(f),
        }
    }
}

impl StdError for BackgroundError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &*self.0 {
            Reason::Hooks(errors) => errors.source(),
            Reason::Source(error) => Some(error),
        }
    }
}
