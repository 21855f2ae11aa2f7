// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `sysgenid.random` needs of native code: the check of each draw, and seeds.

mod draws;
mod lock;
mod seed;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use pyo3::prelude::*;
use sysgenid::{ProcessWide, Uniqueness, Witness};

use crate::attached::{Attached, Shared};

pub(crate) use self::draws::draws_type;
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

impl Shared for Option<Mark> {
    #[inline]
    fn share(&self, _: Python<'_>) -> Self {
        *self
    }
}

/// Since when the state of a generator is this process's own.
struct Seeded {
    /// How things were just before the state was set. `None` if the state is to be set before it is
    /// used.
    mark: Attached<Option<Mark>>,
    /// How often it was set.
    epoch: AtomicU64,
}

impl Seeded {
    /// For a state that is set now, or was and may be used on.
    fn now() -> Self {
        Self {
            mark: Attached::new(Some(Mark::now())),
            epoch: AtomicU64::new(0),
        }
    }

    // `owner` is the object that this is a part of.

    #[inline]
    fn mark(&self, owner: &Bound<'_, PyAny>) -> Option<Mark> {
        self.mark.get(owner)
    }

    /// Has `set` set the state. If it fails, the state counts for what it was.
    fn renew<T>(&self, owner: &Bound<'_, PyAny>, set: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
        // A source that appeared is a change, which the mark is to have.
        let _ = ProcessWide.shows_restores();
        // Before the state: a change in between makes the next check fail.
        let now = Mark::now();
        let done = set()?;
        self.epoch.fetch_add(1, Ordering::Relaxed);
        self.mark.replace(owner, Some(now));
        Ok(done)
    }

    /// Takes the state for this process's own as it is. It goes on, so its epoch does.
    fn keep(&self, owner: &Bound<'_, PyAny>) {
        let _ = ProcessWide.shows_restores();
        self.mark.replace(owner, Some(Mark::now()));
    }

    /// Makes the generator draw a new seed before its next number.
    fn outdate(&self, owner: &Bound<'_, PyAny>) {
        self.mark.replace(owner, None);
    }

    fn is_current(&self, owner: &Bound<'_, PyAny>) -> bool {
        self.mark(owner) == Some(Mark::now())
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }
}
