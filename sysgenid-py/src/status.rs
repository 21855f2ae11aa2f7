// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::ffi::OsString;
use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use sysgenid::{Backend, Dialect, Source};

use crate::timeout::{AnswerTime, Timeout};
use crate::waiting;

/// What a source tells of itself: see `status`.
///
/// Two are equal if all attributes are.
#[pyclass(frozen, eq, hash, get_all, module = "sysgenid")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Status {
    /// What kind of source it is: "device", "broker", "page-file", "vmclock" or "vmgenid".
    kind: String,
    /// Where it is.
    path: OsString,
    /// The current generation.
    generation: u64,
    /// How many watchers it has; `None` where it does not tell.
    watchers: Option<WatcherCounts>,
    /// The dialect of the kernel driver, "v5" or "v6"; `None` if it does not tell, and where there is
    /// none.
    dialect: Option<String>,
    /// Who tells the kernel driver of restores: "vmfork", "acpi" or "trigger"; `None` if it does not
    /// say, and where there is none.
    backend: Option<String>,
}

/// How many watchers a source has.
///
/// Two are equal if all attributes are.
#[pyclass(frozen, eq, hash, get_all, from_py_object, module = "sysgenid")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct WatcherCounts {
    /// All watchers.
    total: u32,
    /// Those that orchestrators wait for.
    tracked: u32,
    /// Tracked ones that have not acknowledged the current generation.
    outdated: u32,
}

#[pymethods]
impl Status {
    #[new]
    #[pyo3(signature = (kind, path, generation, watchers=None, dialect=None, backend=None))]
    fn new(
        kind: String,
        path: OsString,
        generation: u64,
        watchers: Option<WatcherCounts>,
        dialect: Option<String>,
        backend: Option<String>,
    ) -> Self {
        Self {
            kind,
            path,
            generation,
            watchers,
            dialect,
            backend,
        }
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        shown(
            slf.as_any(),
            "Status",
            &[
                "kind",
                "path",
                "generation",
                "watchers",
                "dialect",
                "backend",
            ],
        )
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyType>, Fields<'py>)> {
        let Self {
            kind,
            path,
            generation,
            watchers,
            dialect,
            backend,
        } = slf.get().clone();
        let fields = (kind, path, generation, watchers, dialect, backend);
        Ok((slf.get_type(), fields.into_pyobject(slf.py())?))
    }
}

#[pymethods]
impl WatcherCounts {
    #[new]
    fn new(total: u32, tracked: u32, outdated: u32) -> Self {
        Self {
            total,
            tracked,
            outdated,
        }
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        shown(
            slf.as_any(),
            "WatcherCounts",
            &["total", "tracked", "outdated"],
        )
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyType>, Fields<'py>)> {
        let counts = slf.get();
        let fields = (counts.total, counts.tracked, counts.outdated);
        Ok((slf.get_type(), fields.into_pyobject(slf.py())?))
    }
}

/// What an object is made of again, where it is unpickled.
pub(crate) type Fields<'py> = Bound<'py, PyTuple>;

/// An object of plain values, with all that it is equal by: as the call that makes it.
pub(crate) fn shown(
    object: &Bound<'_, PyAny>,
    class: &str,
    attributes: &[&str],
) -> PyResult<String> {
    let mut shown = Vec::with_capacity(attributes.len());
    for attribute in attributes {
        let value = object.getattr(*attribute)?.repr()?;
        shown.push(format!("{attribute}={value}"));
    }
    Ok(format!("sysgenid.{class}({})", shown.join(", ")))
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
        kind: source.kind().name().to_owned(),
        path: source.path().into(),
        generation: status.generation.get(),
        watchers: counts,
        dialect: status.dialect.map(Dialect::name).map(str::to_owned),
        backend: status.backend.map(Backend::name).map(str::to_owned),
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
