// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::ffi::OsString;
use std::path::PathBuf;

use pyo3::prelude::*;
use sysgenid::{Backend, Dialect, Source};

use crate::timeout::{AnswerTime, Timeout};
use crate::waiting;

/// What a source tells of itself: see `status`.
#[pyclass(frozen, module = "sysgenid", get_all)]
pub(crate) struct Status {
    /// What kind of source it is: "device", "broker", "page-file", "vmclock" or "vmgenid".
    kind: &'static str,
    /// Where it is.
    path: OsString,
    /// The current generation.
    generation: u64,
    /// How many watchers it has; `None` where it does not tell.
    watchers: Option<Py<WatcherCounts>>,
    /// The dialect of the kernel driver, "v5" or "v6"; `None` if it does not tell, and where there is
    /// none.
    dialect: Option<&'static str>,
    /// Who tells the kernel driver of restores: "vmfork", "acpi" or "trigger"; `None` if it does not
    /// say, and where there is none.
    backend: Option<&'static str>,
}

/// How many watchers a source has.
#[pyclass(frozen, module = "sysgenid", get_all)]
pub(crate) struct WatcherCounts {
    /// All watchers.
    total: u32,
    /// Those that orchestrators wait for.
    tracked: u32,
    /// Tracked ones that have not acknowledged the current generation.
    outdated: u32,
}

/// The state of a source: the one at `path`, or the one that a `Probe` would find.
///
/// Asks once, keeps nothing open, and does not become a watcher. `timeout` is for a broker that does
/// not answer; at least a tenth of a second is given.
///
/// Raises `AbsentError` if there is none, `DeniedError` if it may not be opened, `WrongKindError` or
/// `BrokenError` if it is something else or does not work, `LostError` if the broker has ended, and
/// `TimedOutError`.
///
/// >>> import sysgenid
/// >>> status = sysgenid.status()
/// >>> status.kind, status.generation == sysgenid.generation()
/// ('broker', True)
#[pyfunction]
#[pyo3(
    signature = (path=None, timeout=Timeout::of(AnswerTime::DEFAULT.0)),
    text_signature = "(path=None, timeout=5.0)"
)]
pub(crate) fn status(py: Python<'_>, path: Option<PathBuf>, timeout: Timeout) -> PyResult<Status> {
    let source = waiting::call(py, || match path {
        Some(path) => Source::at(path),
        None => Source::discover_for_probe(),
    })?;
    let status = waiting::ask(py, timeout.0, |deadline| source.status(deadline))?;
    let counts = status.watchers.map(|counts| WatcherCounts {
        total: counts.total,
        tracked: counts.tracked,
        outdated: counts.outdated,
    });
    Ok(Status {
        kind: source.kind().name(),
        path: source.path().into(),
        generation: status.generation.get(),
        watchers: counts.map(|counts| Py::new(py, counts)).transpose()?,
        dialect: status.dialect.map(Dialect::name),
        backend: status.backend.map(Backend::name),
    })
}

/// Changes the generation to the next one, or to `min` if that is more, of the source at `path`, or of
/// the one that a `Watcher` would find. Returns a generation that is at least as new as this change.
///
/// Keeps nothing open and does not become a watcher: on a broker that has no room for one this still
/// works, for its owner. `timeout` is for a broker that does not answer; at least a tenth of a second
/// is given. To wait until every watcher has acknowledged the change takes an `Orchestrator`.
///
/// Raises `AbsentError` if there is no source; `DeniedError` without `CAP_CHECKPOINT_RESTORE` or
/// `CAP_SYS_ADMIN` (`EACCES`), or if the broker belongs to another user; `UnsupportedError` for a page
/// file or a hypervisor counter; `LostError` if no broker runs there, and `TimedOutError` if it does
/// not answer: the change may yet come then.
///
/// >>> import sysgenid
/// >>> before = sysgenid.generation()
/// >>> sysgenid.trigger() == before + 1
/// True
#[pyfunction]
#[pyo3(
    signature = (path=None, timeout=Timeout::of(AnswerTime::DEFAULT.0), *, min=0),
    text_signature = "(path=None, timeout=5.0, *, min=0)"
)]
pub(crate) fn trigger(
    py: Python<'_>,
    path: Option<PathBuf>,
    timeout: Timeout,
    min: u32,
) -> PyResult<u64> {
    // Not in slices: a request that was not answered may yet be granted, and is not made twice.
    let triggered = waiting::call(py, || {
        let source = match path {
            Some(path) => Source::at(path)?,
            None => Source::discover()?,
        };
        source.trigger_at_least(min, timeout.0)
    })?;
    Ok(triggered.get())
}
