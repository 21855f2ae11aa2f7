// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `sysgenid.random` needs of native code: the check of each draw, and seeds.

mod draws;
mod lock;
mod seed;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use sysgenid::{ProcessWide, Uniqueness, Witness};

pub(crate) use self::draws::GuardedDraws;
pub(crate) use self::lock::GuardedLock;
pub(crate) use self::seed::entropy;

/// Whether the warning was given that seeded generators are not protected.
static WARNED: AtomicBool = AtomicBool::new(false);

/// Warns once if no restore is seen: a seeded generator then draws in a clone what it draws in all.
///
/// It is for the slow path: it looks for a source.
#[cold]
fn warn_if_unprotected(py: Python<'_>) -> PyResult<()> {
    if WARNED.load(Ordering::Relaxed)
        || ProcessWide.shows_restores()
        || WARNED.swap(true, Ordering::Relaxed)
    {
        return Ok(());
    }
    py.import("sysgenid._unprotected")?.call_method0("warn")?;
    Ok(())
}

/// What a state is as good as.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark(Uniqueness);

impl Mark {
    #[inline]
    fn now() -> Self {
        // What was drawn comes before the look at the counters, whose partner is the store of
        // whoever changes them.
        fence(Ordering::Acquire);
        Self(sysgenid::uniqueness())
    }
}

/// Since when the state of a generator is this process's own.
struct Seeded {
    /// How things were just before the state was set. No lock is held while Python runs, so none is
    /// held across a fork, and nobody waits for longer than a copy takes.
    /// `None` if the state is to be set before it is used.
    mark: Mutex<Option<Mark>>,
    /// How often it was set.
    epoch: AtomicU64,
}

impl Seeded {
    /// For a state that is set now, or was and may be used on.
    fn now() -> Self {
        Self {
            mark: Mutex::new(Some(Mark::now())),
            epoch: AtomicU64::new(0),
        }
    }

    fn mark(&self) -> Option<Mark> {
        *self.mark.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `set` set the state. If it fails, the state counts for what it was.
    fn renew<T>(&self, set: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
        // A source that appeared is a change, which the mark is to have.
        let _ = ProcessWide.shows_restores();
        // Before the state: a change in between makes the next check fail.
        let now = Mark::now();
        let done = set()?;
        self.epoch.fetch_add(1, Ordering::Relaxed);
        *self.mark.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        Ok(done)
    }

    /// Makes the generator draw a new seed before its next number.
    fn outdate(&self) {
        *self.mark.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn is_current(&self) -> bool {
        self.mark() == Some(Mark::now())
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }
}
