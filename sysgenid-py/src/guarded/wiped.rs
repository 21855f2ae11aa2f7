// SPDX-License-Identifier: Apache-2.0 OR MIT
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

use crate::callbacks;

/// A value that is wiped when the last of its users has let go of it: the interpreter counts the
/// references, so that no value is wiped while it is used.
///
/// What is made are objects of a class that inherits from this one, because the interpreter calls
/// `__del__` for classes of Python's. The method is native: no signal handler runs between its call and
/// that of `wipe`.
#[pyclass(frozen, subclass, module = "sysgenid._native")]
pub(super) struct WipedBase {
    value: Py<PyAny>,
    wipe: Py<PyAny>,
}

#[pymethods]
impl WipedBase {
    #[new]
    fn new(value: Py<PyAny>, wipe: Py<PyAny>) -> Self {
        Self { value, wipe }
    }

    fn __del__(&self, py: Python<'_>) -> PyResult<()> {
        let value = PyTuple::new(py, [&self.value])?;
        let result = callbacks::call_guarded(self.wipe.bind(py), &value)?;
        callbacks::refuse_deferred(&result, "wipe")
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.value)?;
        visit.call(&self.wipe)
    }
}

/// Returns an object that has the value, and wipes it when it is dropped.
pub(super) fn wrap<'py>(
    value: &Bound<'py, PyAny>,
    wipe: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let wrapped = class(value.py()).and_then(|class| class.call1((value, wipe)));
    if wrapped.is_err() {
        // No object will do it.
        let _ = wipe.call1((value,));
    }
    wrapped
}

/// The value in it.
pub(super) fn value_in<'py>(wiped: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let wiped = wiped.cast::<WipedBase>()?;
    Ok(wiped.get().value.bind(wiped.py()).clone())
}

fn class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let made = CLASS.get_or_try_init(py, || {
        let slots = PyDict::new(py);
        slots.set_item("__slots__", PyTuple::empty(py))?;
        slots.set_item("__module__", "sysgenid._native")?;
        let bases = (py.get_type::<WipedBase>(),);
        let class = py.get_type::<PyType>().call1(("Wiped", bases, slots))?;
        PyResult::Ok(class.cast_into::<PyType>()?.unbind())
    })?;
    Ok(made.bind(py))
}
