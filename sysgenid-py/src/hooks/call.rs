// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The call of a Python function on a thread that may not be Python's.

use std::error::Error as StdError;
use std::fmt;
use std::thread;

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};
use sysgenid::{Generation, adapter};

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

mod raw {
    use pyo3::ffi::PyObject;

    unsafe extern "C-unwind" {
        // As in `pyo3::ffi`, but the call may unwind.
        pub(super) fn PyObject_Call(
            callable: *mut PyObject,
            arguments: *mut PyObject,
            named: *mut PyObject,
        ) -> *mut PyObject;
    }
}

/// Keeps the thread from unwinding: it sleeps instead, until the process ends.
struct Hang;

impl Drop for Hang {
    fn drop(&mut self) {
        loop {
            thread::park();
        }
    }
}

/// Calls a function as `call1` does, on a thread that the interpreter may end.
///
/// When the interpreter ends, Python before 3.14 ends each thread that asks for its lock again, in
/// the middle of the function, by `pthread_exit`. That unwinds the thread's stack, and a Rust
/// function in it would have the process abort. The thread is stopped here instead, as Python 3.14
/// does it: it has no lock then, and all that is on its stack stays there.
pub(crate) fn call_guarded<'py>(
    function: &Bound<'py, PyAny>,
    arguments: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let hang = Hang;
    // SAFETY: The thread is attached to the interpreter, and both objects are alive over the call,
    // since they are borrowed. No named arguments are given. The declaration is that of the stable
    // ABI; it unwinds only by `pthread_exit`, which goes no further than `Hang`.
    let result =
        unsafe { raw::PyObject_Call(function.as_ptr(), arguments.as_ptr(), std::ptr::null_mut()) };
    std::mem::forget(hang);
    // SAFETY: The result is a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(function.py(), result) }
}
