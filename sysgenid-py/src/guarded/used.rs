// SPDX-License-Identifier: Apache-2.0 OR MIT
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::{Built, Guarded, is_current};
use crate::attached::Attached;
use crate::errors;

/// The use of a guard's value in the block of a `with`.
#[pyclass(frozen, module = "sysgenid._native")]
pub(super) struct Used {
    guard: Py<Guarded>,
    /// While the block runs: it keeps the value from being wiped.
    built: Attached<Option<Built>>,
}

impl Used {
    pub(super) fn of(guard: Py<Guarded>) -> Self {
        Self {
            guard,
            built: Attached::new(None),
        }
    }
}

#[pymethods]
impl Used {
    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let guard = slf.get().guard.bind(py);
        let built = Guarded::current(guard)?;
        let value = guard.get().value_of(py, &built)?;
        let before = slf.get().built.replace(slf, Some(built));
        if before.is_some() {
            return Err(PyRuntimeError::new_err(
                "each block has its own use of a guard: call `use` again",
            ));
        }
        Ok(value)
    }

    #[pyo3(signature = (exc_type, *_exception))]
    fn __exit__(
        slf: &Bound<'_, Self>,
        exc_type: &Bound<'_, PyAny>,
        _exception: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let Some(built) = slf.get().built.replace(slf, None) else {
            return Ok(());
        };
        if is_current(built.mark) {
            return Ok(());
        }
        Guarded::discard(slf.get().guard.bind(py), &built);
        if exc_type.is_none() {
            let message = "something changed while the value was used: drop what came of it";
            return Err(errors::make(py, "UnsettledError", message));
        }
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.guard)?;
        // SAFETY: This is the collector's look, and calls nothing but its own function.
        if let Some(built) = unsafe { self.built.peek() } {
            visit.call(&built.value)?;
        }
        Ok(())
    }
}
