// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Failures of hooks as Python sees them: the function and an exception.

use pyo3::exceptions::{PyException, PyRuntimeError, PySystemExit, PyTimeoutError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use sysgenid::hooks::{HookErrors, HookFailure, HooksRan};

use super::call::Raised;
use super::functions;
use crate::waiting;

/// What a run comes to: the failures that are ignored, or a `HookError`.
pub(super) fn of_run(
    py: Python<'_>,
    ran: Result<HooksRan, HookErrors>,
) -> PyResult<Vec<Py<PyTuple>>> {
    match ran {
        Ok(ran) => pairs(py, ran.ignored()),
        Err(errors) => {
            let last = errors.failures().last();
            let ended = last.filter(|last| !last.is_ignored());
            if let Some(error) = ended.and_then(|last| waiting::ending(last.error())) {
                return Err(error);
            }
            if let Some(raised) = ended.and_then(raised_by) {
                let error = &raised.error;
                if !error.is_instance_of::<PyException>(py)
                    && !error.is_instance_of::<PySystemExit>(py)
                {
                    return Err(raised.error.clone_ref(py));
                }
            }
            Err(raise(py, &errors))
        }
    }
}

/// The `HookError`. That it cannot be made is an exception as well.
pub(crate) fn raise(py: Python<'_>, errors: &HookErrors) -> PyErr {
    exception(py, errors).unwrap_or_else(|failure| failure)
}

fn exception(py: Python<'_>, errors: &HookErrors) -> PyResult<PyErr> {
    if errors.is_reentrant() {
        return Ok(PyRuntimeError::new_err(errors.to_string()));
    }
    let module = py.import("sysgenid.hooks")?;
    let failures = pairs(py, errors.failures())?;
    let counts = errors.failures().iter().position(|it| !it.is_ignored());
    let error = module.getattr("HookError")?.call1((failures,))?;
    if let Some(failure) = counts.and_then(|index| errors.failures().get(index)) {
        error.setattr("__cause__", exception_of(py, failure).into_value(py))?;
    }
    Ok(PyErr::from_value(error))
}

/// Each hook with its exception.
pub(crate) fn pairs(py: Python<'_>, failures: &[HookFailure]) -> PyResult<Vec<Py<PyTuple>>> {
    let pair = |failure: &HookFailure| {
        let error = exception_of(py, failure).into_value(py);
        let pair = (function_of(py, failure), error).into_pyobject(py)?;
        Ok(pair.unbind())
    };
    failures.iter().map(pair).collect()
}

/// The function that failed; its name if it has been unregistered since.
fn function_of(py: Python<'_>, failure: &HookFailure) -> Option<Py<PyAny>> {
    if let Some(raised) = raised_by(failure) {
        return Some(raised.function.clone_ref(py));
    }
    let mut functions = functions().into_iter();
    let found = functions.find(|(hook, _)| hook == failure.hook());
    found.map(|(_, function)| function.object(py))
}

fn raised_by(failure: &HookFailure) -> Option<&Raised> {
    failure.error().and_then(|error| error.downcast_ref())
}

fn exception_of(py: Python<'_>, failure: &HookFailure) -> PyErr {
    match raised_by(failure) {
        Some(raised) => raised.error.clone_ref(py),
        None if failure.is_timeout() || failure.is_still_running() => {
            PyTimeoutError::new_err(failure.to_string())
        }
        None => PyRuntimeError::new_err(failure.to_string()),
    }
}
