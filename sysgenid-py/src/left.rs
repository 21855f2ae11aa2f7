// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Watchers that the program has let go of while they were outdated.
//!
//! To close one would tell orchestrators that there is nothing to wait for. It stays open, and so the
//! process stays a straggler, until the change is acknowledged after all, or the process ends.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

/// The lock is never held over anything that lets another thread attach to the interpreter: see `Handle`.
static LEFT: Mutex<Vec<Arc<dyn Any + Send + Sync>>> = Mutex::new(Vec::new());

/// Keeps it as long as the process lives. It may be closed all the same.
pub(crate) fn keep(left: Arc<dyn Any + Send + Sync>) {
    LEFT.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(left);
}
