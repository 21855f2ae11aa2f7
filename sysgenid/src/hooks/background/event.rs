// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::BackgroundError;
use crate::base::Generation;
use crate::hooks::HooksRan;

/// What has happened in the background: see
/// [`BackgroundOptions::report`](super::BackgroundOptions::report).
#[derive(Debug)]
#[non_exhaustive]
pub enum BackgroundEvent<'a> {
    /// The hooks after a restore have succeeded, and the change is acknowledged; or there was none, and the
    /// process resumes after it was at rest.
    Handled {
        /// What they ran for.
        generation: Generation,
        /// What they did: hooks whose failure is ignored may have failed.
        ran: &'a HooksRan,
    },
    /// The hooks after a restore have failed, and are tried again; the change is not acknowledged.
    Failed {
        /// What the hooks ran for.
        generation: Generation,
        /// Why.
        error: &'a BackgroundError,
    },
    /// The hooks before a snapshot have succeeded, and the orchestrator that asked for that is told so.
    Resting {
        /// What they did: hooks whose failure is ignored may have failed.
        ran: &'a HooksRan,
    },
    /// The hooks before a snapshot have failed, and are tried again; the orchestrator waits.
    NotResting {
        /// Why.
        error: &'a BackgroundError,
    },
    /// A broker is lost. What changes meanwhile is noticed late, or when it is back.
    Lost,
    /// It is back.
    Found,
}
