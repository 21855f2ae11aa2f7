// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The call of a Python function on a thread that may not be Python's.

use std::error::Error as StdError;
use std::fmt;

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};
use sysgenid::{Generation, adapter};

pub(super) use crate::callbacks::call_guarded;

/// A function, and what it is called with: the generation, unless there are arguments.
pub(super) struct Function {
    function: Py<PyAny>,
    arguments: Option<Py<PyTuple>>,
    named: Option<Py<PyDict>>,
}

/// What a hook raised, with the function that is registered.
#[derive(Debug)]
pub(super) struct Raised {
    pub(super) error: PyErr,
    pub(super) function: Py<PyAny>,
}

impl Function {
    pub(super) fn new(
        function: Bound<'_, PyAny>,
        arguments: Option<Bound<'_, PyTuple>>,
        named: Option<Bound<'_, PyDict>>,
    ) -> Self {
        Self {
            function: function.unbind(),
            arguments: arguments.map(Bound::unbind),
            named: named.map(Bound::unbind),
        }
    }

    pub(super) fn object(&self, py: Python<'_>) -> Py<PyAny> {
        self.function.clone_ref(py)
    }

    /// Calls it, attached to the interpreter. The interpreter may end meanwhile.
    pub(super) fn call(
        &self,
        generation: Option<Generation>,
    ) -> Result<(), Box<dyn StdError + Send + Sync>> {
        let called = Python::try_attach(|py| {
            let Err(error) = self.call_attached(py, generation) else {
                return Ok(());
            };
            // What is no `Exception`, as an interrupt from the keyboard, comes through at once.
            let ends_the_run = !error.is_instance_of::<PyException>(py);
            let function = self.object(py);
            let raised = Raised { error, function };
            if ends_the_run {
                return Err(adapter::end_run(raised));
            }
            Err(raised.into())
        });
        called.unwrap_or_else(|| Err("the interpreter is ending".into()))
    }

    fn call_attached(&self, py: Python<'_>, generation: Option<Generation>) -> PyResult<()> {
        let arguments = match (&self.arguments, generation) {
            (Some(arguments), _) => arguments.clone_ref(py).into_bound(py),
            (None, Some(generation)) => PyTuple::new(py, [generation.get()])?,
            (None, None) => PyTuple::empty(py),
        };
        let named = match &self.named {
            Some(named) => named.clone_ref(py).into_bound(py),
            None => PyDict::new(py),
        };
        let function = self.function.bind(py).clone();
        let all = (function, arguments, named).into_bound_py_any(py)?;
        call_guarded(invoke(py)?, all.cast::<PyTuple>()?).map(drop)
    }
}

/// Python's part of a call: `hooks._invoke`. All that runs Python code is in there.
fn invoke(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static INVOKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let invoke = INVOKE.get_or_try_init(py, || {
        let module = py.import("sysgenid.hooks")?;
        module.getattr("_invoke").map(Bound::unbind)
    })?;
    Ok(invoke.bind(py))
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl StdError for Raised {}
