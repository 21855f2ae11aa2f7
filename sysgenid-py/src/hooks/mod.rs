// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Python functions as hooks of the SDK, which has the order, the policies and the run.
//!
//! A hook is called on whichever thread the SDK runs it: on the one that runs the hooks, on the
//! background thread, or on a thread of its own if it has a deadline.

mod background;
mod call;
mod failure;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use sysgenid::hooks::{self, HookContext, OnFailure};
use sysgenid::{Generation, ProcessWide, Witness};

use crate::timeout::AnswerTime;
use crate::{callbacks, waiting};
pub(crate) use background::{Background, start_background};
use call::Function;

/// A hook with the object of Python's that is called for it.
struct Known {
    hook: hooks::Hook,
    function: Arc<Function>,
}

/// The lock is never held over anything that runs Python code or lets another thread attach: see
/// `Handle`.
static REGISTERED: Mutex<Vec<Known>> = Mutex::new(Vec::new());

fn registered() -> MutexGuard<'static, Vec<Known>> {
    REGISTERED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A hook that is registered. It stays so when this is dropped.
#[pyclass(frozen, module = "sysgenid._native")]
pub(crate) struct Registration(hooks::Hook);

#[pymethods]
impl Registration {
    /// Forgets it. To do it twice is fine.
    fn remove(&self) {
        self.0.unregister();
        let mut registered = registered();
        let index = registered.iter().position(|it| it.hook == self.0);
        let removed = index.map(|index| registered.remove(index));
        drop(registered);
        drop(removed);
    }
}

/// Has `hooks._invoke(function, change)` called after each change, or before a snapshot without a change.
#[pyfunction]
#[pyo3(signature = (function, /, *, before, name, timeout, on_failure))]
pub(crate) fn register_hook(
    py: Python<'_>,
    function: Bound<'_, PyAny>,
    before: bool,
    name: String,
    timeout: AnswerTime,
    on_failure: &str,
) -> PyResult<Registration> {
    let function = Arc::new(Function::new(function));
    let mut options = hooks::options().name(name);
    if timeout.0 != Duration::MAX {
        options = options.deadline(timeout.0);
    }
    options = options.on_failure(match on_failure {
        "abort" => OnFailure::Abort,
        "ignore" => OnFailure::Ignore,
        _ => {
            return Err(PyValueError::new_err(
                "on_failure is \"abort\" or \"ignore\"",
            ));
        }
    });
    let called = Arc::clone(&function);
    // The first one looks for a source, because what changes from now on is to be noticed.
    let hook = waiting::run(py, || {
        if before {
            options.before_snapshot(move |_: &HookContext| called.call(None))
        } else {
            options.after_restore(move |it: &HookContext| called.call(Some(it)))
        }
    })?;
    registered().push(Known {
        hook: hook.clone(),
        function,
    });
    Ok(Registration(hook))
}

/// What is registered, in the order of registration.
#[pyfunction]
pub(crate) fn registered_hooks(py: Python<'_>) -> Vec<Py<PyAny>> {
    let functions = functions();
    functions.iter().map(|it| it.1.object(py)).collect()
}

fn functions() -> Vec<(hooks::Hook, Arc<Function>)> {
    let registered = registered();
    let hooks = registered.iter();
    hooks
        .map(|it| (it.hook.clone(), Arc::clone(&it.function)))
        .collect()
}

/// Runs the hooks for a change, in the order of registration.
///
/// Returns the failures that are ignored, and raises `HookError` for the others.
#[pyfunction]
#[pyo3(signature = (generation, /))]
pub(crate) fn run_after_restore(
    py: Python<'_>,
    generation: Option<u64>,
) -> PyResult<Vec<Py<PyTuple>>> {
    let ran = waiting::run(py, || {
        // First, because it looks for a source.
        let _ = ProcessWide.shows_restores();
        let generation = generation.map_or_else(sysgenid::generation, Generation::new);
        call::asked_for(|| hooks::run_after_restore(generation))
    })?;
    failure::of_run(py, ran)
}

/// Runs the hooks for a change, and has the failures logged that are ignored.
pub(crate) fn run(py: Python<'_>, generation: Generation) -> PyResult<()> {
    let module = py.import("sysgenid.hooks")?;
    let run = module.getattr("run_after_restore")?;
    callbacks::call_guarded(&run, &PyTuple::new(py, [generation.get()])?).map(drop)
}

/// Runs the hooks for a snapshot, in reverse order of registration. As `run_after_restore`.
#[pyfunction]
pub(crate) fn run_before_snapshot(py: Python<'_>) -> PyResult<Vec<Py<PyTuple>>> {
    let ran = waiting::run(py, || call::asked_for(hooks::run_before_snapshot))?;
    failure::of_run(py, ran)
}
