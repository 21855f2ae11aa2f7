// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::BackgroundError;
use crate::base::Generation;
use crate::hooks::HooksRan;

/// What has happened in the background: see
/// [`BackgroundOptions::report`](super::BackgroundOptions::report).
#[derive(Debug)]
#[non_exhaustive]
pub enum BackgroundEvent<'a> {
    /// The hooks have succeeded, and the change is acknowledged.
    Handled {
        /// What they ran for.
        generation: Generation,
        /// What they did: hooks whose failure is ignored may have failed.
        ran: &'a HooksRan,
    },
    /// The change is not handled, and is tried again.
    Failed {
        /// What the hooks ran for.
        generation: Generation,
        /// Why.
        error: &'a BackgroundError,
    },
    /// A broker is lost. What changes meanwhile is noticed late, or when it is back.
    Lost,
    /// It is back.
    Found,
}
