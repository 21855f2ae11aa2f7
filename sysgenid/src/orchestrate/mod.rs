// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Causing a change, and waiting until every watcher has acknowledged it. What a watcher does about
//! it is no matter here.

mod orchestrator;
mod quiesce;
mod straggler;
pub(crate) mod stragglers;
mod trigger;

pub use orchestrator::{Orchestrator, OrchestratorOptions, PendingWait, Settled};
pub use quiesce::{Parked, Quiescing};
pub use straggler::{Straggler, StragglerSummary};
