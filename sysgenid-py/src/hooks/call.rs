// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The call of a Python function on a thread that may not be Python's.

use std::cell::Cell;
use std::error::Error as StdError;
use std::fmt;

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyException, PySystemExit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;
use sysgenid::adapter;
use sysgenid::hooks::HookContext;

pub(super) use crate::callbacks::call_guarded;
use crate::change::Change;

/// What is registered: `hooks._invoke` is called with it and with the change.
pub(super) struct Function(Py<PyAny>);

/// What a hook raised, with what is registered.
#[derive(Debug)]
pub(super) struct Raised {
    pub(super) error: PyErr,
    pub(super) function: Py<PyAny>,
}

thread_local! {
    /// Whether this thread runs hooks for a caller of Python's, whom an interrupt is for.
    static IS_ASKED: Cell<bool> = const { Cell::new(false) };
}

/// Runs hooks for a caller.
pub(super) fn asked_for<T>(run: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            IS_ASKED.set(self.0);
        }
    }
    let _restore = Restore(IS_ASKED.replace(true));
    run()
}

impl Function {
    pub(super) fn new(function: Bound<'_, PyAny>) -> Self {
        Self(function.unbind())
    }

    pub(super) fn object(&self, py: Python<'_>) -> Py<PyAny> {
        self.0.clone_ref(py)
    }

    /// Calls it, attached to the interpreter. The interpreter may end meanwhile.
    pub(super) fn call(
        &self,
        context: Option<&HookContext>,
    ) -> Result<(), Box<dyn StdError + Send + Sync>> {
        let called = Python::try_attach(|py| {
            let Err(error) = self.call_attached(py, context) else {
                return Ok(());
            };
            // What is no `Exception`, as an interrupt from the keyboard, comes through at once to whoever
            // runs hooks. On a thread of this package's there is nobody, and a hook that ends the
            // program with `sys.exit` ends neither that nor the other hooks.
            let ends_the_run = IS_ASKED.get()
                && !error.is_instance_of::<PyException>(py)
                && !error.is_instance_of::<PySystemExit>(py);
            let function = self.object(py);
            let raised = Raised { error, function };
            if ends_the_run {
                return Err(adapter::end_run(raised));
            }
            Err(raised.into())
        });
        called.unwrap_or_else(|| Err("the interpreter is ending".into()))
    }

    fn call_attached(&self, py: Python<'_>, context: Option<&HookContext>) -> PyResult<()> {
        let change = context.map(Change::of_hooks);
        let all = (self.0.bind(py), change).into_bound_py_any(py)?;
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
