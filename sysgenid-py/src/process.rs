// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the process as a whole sees.

use pyo3::prelude::*;
use sysgenid::{ProcessWide, Refreshed, Witness};

use crate::uniqueness::Uniqueness;
use crate::waiting;

/// The current generation of this system, at the cost of one load from memory.
///
/// The sources are looked for at the first call. Without one it is 0. A source that appears later is
/// noticed by `verify` and `refresh`, and within about a second by calls that are slow anyway: the
/// build of a guarded or cached value, a seed, and hooks that run. This call does not look.
///
/// >>> import sysgenid
/// >>> before = sysgenid.generation()
/// >>> sysgenid.generation() == before
/// True
#[pyfunction]
pub(crate) fn generation() -> u64 {
    sysgenid::generation().get()
}

/// What this process has seen of restores and forks: equal to an earlier one if nothing happened.
///
/// It never waits, and makes no system call.
#[pyfunction]
pub(crate) fn uniqueness() -> Uniqueness {
    Uniqueness(sysgenid::uniqueness())
}

/// Makes all that is `Guarded`, `cached` and seeded by `sysgenid.random` old, as a restore does that
/// a source shows: for a program that has learned of a restore in another way, for example from its
/// container's runtime.
///
/// Afterwards `uniqueness()` is another one. A use that has begun before may still return an old
/// value.
///
/// It affects this process alone: other processes and this one's watchers are not notified, no hook
/// runs, and `generation()` stays the same. It does not reseed the kernel.
///
/// >>> import sysgenid
/// >>> before = sysgenid.uniqueness()
/// >>> sysgenid.assume_restored()
/// >>> before == sysgenid.uniqueness()
/// False
#[pyfunction]
pub(crate) fn assume_restored() {
    sysgenid::assume_restored();
}

/// Checks that the process sees what it relies on: some tens of system calls, for a health check.
///
/// A process without a source takes one that is there by now, as `refresh` does. A broker is asked
/// whether it is there: the page of one that has ended can still be read, and does not change.
///
/// Raises `AbsentError` if there is no source, or one that is in use was removed; `LostError` if no
/// broker runs in the directory that is the source, and `TimedOutError` if that one does not answer
/// within five seconds; `BrokenError` if the source was replaced, or if there is a second one now that
/// was not there when the process looked: `refresh`. Else the error of opening a `Probe`.
#[pyfunction]
pub(crate) fn verify(py: Python<'_>) -> PyResult<()> {
    waiting::call(py, || ProcessWide.verify())
}

/// Whether restores are seen: whether the process has a source. While it has none, this looks for
/// one, at most once a second.
#[pyfunction]
pub(crate) fn shows_restores(py: Python<'_>) -> bool {
    // A look opens files.
    py.detach(|| ProcessWide.shows_restores())
}

/// Looks for sources again: for those that appeared, and in the place of those that were replaced.
///
/// Returns whether the process looks at another source now, which counts as a change. Raises as
/// `Probe` if there is no source that works; then the process looks at what it looked at before.
#[pyfunction]
pub(crate) fn refresh(py: Python<'_>) -> PyResult<bool> {
    let refreshed = waiting::call(py, || ProcessWide.refresh())?;
    Ok(refreshed == Refreshed::Moved)
}
