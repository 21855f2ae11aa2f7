// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The SDK's background thread.

use std::error::Error as StdError;
use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use sysgenid::hooks::{BackgroundError, BackgroundEvent};
use sysgenid::{Changes, Deadline, Error};

use super::call::call_guarded;
use super::failure;
use crate::timeout::{AnswerTime, Timeout};
use crate::waiting;
use crate::{errors, source};

/// How long a wait for the thread lasts before signals are looked at.
const SLICE: Duration = Duration::from_millis(100);

/// The thread that `sysgenid.background` has started.
#[pyclass(frozen, weakref, module = "sysgenid")]
pub(crate) struct Background {
    background: sysgenid::Background,
    /// It was given back.
    is_released: AtomicBool,
    /// It was the last one, so the thread ends.
    is_last: AtomicBool,
}

#[pymethods]
impl Background {
    /// Whether the thread runs. False in a forked child, which has no such thread.
    #[getter]
    fn alive(&self) -> bool {
        self.background.is_alive()
    }

    /// Whether a source is watched, and none is lost. While it is false, restores may be missed until
    /// the source is there again.
    #[getter]
    fn watching(&self) -> bool {
        self.background.is_watching()
    }

    /// The generation that was handled last, or that there was at the beginning. `None` while there is
    /// no source.
    #[getter]
    fn generation(&self) -> Option<u64> {
        self.background.generation().map(u64::from)
    }

    /// Where the source is. `None` while there is none.
    #[getter]
    fn path(&self) -> Option<OsString> {
        self.background.path().map(Into::into)
    }

    /// Why the last change is not handled yet, or why the process is not at rest before a snapshot: a
    /// `HookError`, or what the source raised. `None` if all is well.
    #[getter]
    fn error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let error = self.background.last_error()?;
        Some(exception_of(py, &error).into_value(py).into_any())
    }

    /// Gives the thread back, which stops when the last one that `background` returned was given back;
    /// then waits until it has ended, `None` without end. Returns False if it is to end and has not in
    /// time.
    ///
    /// It stops at once, except for a hook that is running: that one goes on to its end or its
    /// timeout, and the thread ends then. A call of `background` starts another one meanwhile. A change
    /// whose hooks have not all succeeded is not acknowledged, and orchestrators no longer wait for it.
    ///
    /// A second call does no harm, nor does one in a hook or in a forked child.
    #[pyo3(signature = (timeout=Timeout::of(Duration::from_secs(5))), text_signature = "($self, timeout=5.0)")]
    fn stop(&self, py: Python<'_>, timeout: Timeout) -> PyResult<bool> {
        if !self.is_released.swap(true, Ordering::Relaxed) {
            let background = self.background.clone();
            let has_ended = py.detach(|| background.release(Duration::ZERO));
            self.is_last.store(!has_ended, Ordering::Relaxed);
        }
        if !self.is_last.load(Ordering::Relaxed) {
            return Ok(true);
        }
        self.stop_for_all(py, timeout)
    }

    /// Stops the thread, whoever has it.
    #[pyo3(name = "_stop_for_all")]
    fn stop_for_all(&self, py: Python<'_>, timeout: Timeout) -> PyResult<bool> {
        let deadline = timeout.0;
        loop {
            let slice = Deadline::after(deadline.remaining().unwrap_or(SLICE).min(SLICE));
            let has_ended = py.detach(|| self.background.stop(slice));
            // In a hook it does not wait.
            if has_ended || deadline.has_passed() || !slice.has_passed() {
                return Ok(has_ended);
            }
            py.check_signals()?;
        }
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) -> PyResult<()> {
        self.stop(py, Timeout::of(Duration::from_secs(5))).map(drop)
    }

    fn __aenter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let module = slf.py().import("sysgenid._background")?;
        module.call_method1("_enter", (slf,))
    }

    #[pyo3(signature = (*_exception))]
    fn __aexit__<'py>(
        slf: &Bound<'py, Self>,
        _exception: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let module = slf.py().import("sysgenid._background")?;
        module.call_method1("_exit", (slf,))
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.background == other.background
    }

    fn __hash__(&self) -> isize {
        // One runs at a time, and equal ones have the same.
        1
    }

    fn __repr__(&self) -> String {
        let path = self.background.path();
        let of = path.map_or("no source".into(), |path| path.display().to_string());
        let state = match self.background.generation() {
            _ if !self.background.is_alive() => "stopped".to_owned(),
            Some(generation) => format!("generation {generation}"),
            None => "waiting".to_owned(),
        };
        format!("<sysgenid.Background of {of}, {state}>")
    }
}

/// Starts the thread, or returns the one that runs. `report` is called with what happens.
#[pyfunction]
#[pyo3(signature = (*, tracked, look_every, answer_within, hook_timeout, report))]
pub(crate) fn start_background(
    py: Python<'_>,
    tracked: bool,
    look_every: AnswerTime,
    answer_within: AnswerTime,
    hook_timeout: AnswerTime,
    report: Py<PyAny>,
) -> PyResult<Background> {
    source::discovers();
    let changes = Changes::options().tracked(tracked).look_every(look_every.0);
    let mut options = sysgenid::Background::options()
        .changes(changes)
        .answer_within(answer_within.0);
    if hook_timeout.0 != Duration::MAX {
        options = options.hooks_within(hook_timeout.0);
    }
    let options = options.report(move |event| {
        // The interpreter may be ending, and a log that fails is Python's to report.
        Python::try_attach(|py| tell(py, &report, event));
    });
    let started = waiting::run(py, || options.start())?;
    let background = started.map(|background| Background {
        background,
        is_released: AtomicBool::new(false),
        is_last: AtomicBool::new(false),
    });
    background.map_err(|error| {
        if let Some(raised) = waiting::ending(Some(&error)) {
            return raised;
        }
        if error.is_unsupported() {
            return PyRuntimeError::new_err(error.to_string());
        }
        errors::raise(py, &error)
    })
}

fn tell(py: Python<'_>, report: &Py<PyAny>, event: &BackgroundEvent<'_>) {
    let told = || {
        let (event, generation, detail) = match event {
            BackgroundEvent::Handled { generation, ran } => {
                let ignored = failure::pairs(py, ran.ignored())?;
                if ignored.is_empty() {
                    return Ok(());
                }
                ("handled", Some(generation), ignored.into_py_any(py)?)
            }
            BackgroundEvent::Failed { generation, error } => {
                let error = exception_of(py, error).into_value(py);
                ("failed", Some(generation), error.into_any())
            }
            BackgroundEvent::Resting { ran } => {
                let ignored = failure::pairs(py, ran.ignored())?;
                if ignored.is_empty() {
                    return Ok(());
                }
                ("resting", None, ignored.into_py_any(py)?)
            }
            BackgroundEvent::NotResting { error } => {
                let error = exception_of(py, error).into_value(py);
                ("not resting", None, error.into_any())
            }
            BackgroundEvent::Lost => ("lost", None, py.None()),
            BackgroundEvent::Found => ("found", None, py.None()),
            _ => return Ok(()),
        };
        let generation = generation.map_or(0, |generation| generation.get());
        let arguments = (event, generation, detail).into_bound_py_any(py)?;
        call_guarded(report.bind(py), arguments.cast::<PyTuple>()?).map(drop)
    };
    let told: PyResult<()> = told();
    if let Err(error) = told {
        error.write_unraisable(py, Some(report.bind(py)));
    }
}

fn exception_of(py: Python<'_>, error: &BackgroundError) -> PyErr {
    match (
        error.hooks(),
        error.source().and_then(|it| it.downcast_ref::<Error>()),
    ) {
        (Some(errors), _) => failure::raise(py, errors),
        (None, Some(error)) => errors::raise(py, error),
        (None, None) => PyRuntimeError::new_err(error.to_string()),
    }
}
