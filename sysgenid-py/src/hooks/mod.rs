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
use pyo3::types::{PyDict, PyTuple};
use sysgenid::hooks::{self, HookContext, OnFailure};
use sysgenid::{Generation, ProcessWide, Witness};

use crate::timeout::AnswerTime;
use crate::waiting;
pub(crate) use background::{Background, start_background};
use call::Function;

/// A hook with its function, for those who know it by that.
struct Registered {
    hook: hooks::Hook,
    function: Arc<Function>,
}

/// The lock is never held over anything that runs Python code or lets another thread attach: see
/// `Handle`.
static REGISTERED: Mutex<Vec<Registered>> = Mutex::new(Vec::new());

fn registered() -> MutexGuard<'static, Vec<Registered>> {
    REGISTERED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has `function` called after each change: with the generation, or else with `arguments` and
/// `named`. Or, if it is `before` a snapshot, then.
#[pyfunction]
#[pyo3(signature = (function, /, *, before, arguments, named, name, timeout, on_failure))]
pub(crate) fn register_hook(
    function: Bound<'_, PyAny>,
    before: bool,
    arguments: Option<Bound<'_, PyTuple>>,
    named: Option<Bound<'_, PyDict>>,
    name: String,
    timeout: AnswerTime,
    on_failure: &str,
) -> PyResult<()> {
    let function = Arc::new(Function::new(function, arguments, named));
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
    let hook = if before {
        options.before_snapshot(move |_: &HookContext| called.call(None))
    } else {
        options.after_restore(move |it: &HookContext| called.call(Some(it.generation())))
    };
    registered().push(Registered { hook, function });
    Ok(())
}

/// The functions that are registered, as often as they are.
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

/// Forgets each registration of what is equal to `function`.
#[pyfunction]
#[pyo3(signature = (function, /))]
pub(crate) fn unregister_hooks(function: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = function.py();
    for (hook, registered_function) in functions() {
        if registered_function.object(py).bind(py).eq(function)? {
            hook.unregister();
            let mut registered = registered();
            let index = registered.iter().position(|it| it.hook == hook);
            let removed = index.map(|index| registered.remove(index));
            drop(registered);
            drop(removed);
        }
    }
    Ok(())
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
        hooks::run_after_restore(generation)
    })?;
    failure::of_run(py, ran)
}

/// Runs the hooks for a snapshot, in reverse order of registration. As `run_after_restore`.
#[pyfunction]
pub(crate) fn run_before_snapshot(py: Python<'_>) -> PyResult<Vec<Py<PyTuple>>> {
    let ran = waiting::run(py, hooks::run_before_snapshot)?;
    failure::of_run(py, ran)
}
