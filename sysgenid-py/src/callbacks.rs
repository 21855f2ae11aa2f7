// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the package may be given to call: functions whose work is done when they return.
//!
//! A coroutine, a future or a generator is a promise. Where nothing here keeps it, a change would be
//! acknowledged that no code has handled, or a value used that was wiped meanwhile.

use std::hint::black_box;
use std::mem;
use std::thread;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

/// In the flags of a function's code: a generator, a coroutine, one that `types.coroutine` has made of
/// a generator, an asynchronous generator.
const DEFERRED: u64 = 0x20 | 0x80 | 0x100 | 0x200;

/// How many methods, `functools.partial`s and callable objects may be around a function.
const DEPTH: usize = 8;

/// Whether a call of this does nothing but make something that is to be run later, as that of a
/// coroutine function does. False if in doubt: `refuse_deferred` looks at what the call has returned.
#[pyfunction]
pub(crate) fn is_deferred(function: &Bound<'_, PyAny>) -> bool {
    looks_deferred(function).unwrap_or(false)
}

fn looks_deferred(function: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = function.py();
    let mut function = function.clone();
    for _ in 0..DEPTH {
        // SAFETY: The thread is attached, and the object is alive.
        let is_builtin = unsafe { ffi::PyCFunction_Check(function.as_ptr()) != 0 };
        // The call of a class makes an object.
        if is_builtin || function.is_instance_of::<PyType>() {
            return Ok(false);
        }
        if let Ok(code) = function.getattr(intern!(py, "__code__")) {
            let flags = code.getattr(intern!(py, "co_flags"))?.extract::<u64>()?;
            return Ok(flags & DEFERRED != 0);
        }
        function = if function.is_instance(&py.import("functools")?.getattr("partial")?)? {
            function.getattr("func")?
        } else if let Ok(method) = function.getattr("__func__") {
            method
        } else {
            // Of an object that is callable.
            let call = function.get_type().getattr("__call__")?;
            let code = call.getattr("__code__")?;
            return Ok(code.getattr("co_flags")?.extract::<u64>()? & DEFERRED != 0);
        };
    }
    Ok(false)
}

/// Checks what is to be called later. `what` is what it is called in the error, such as "a callback".
///
/// Raises `TypeError` if it is not callable, or is a coroutine function or a generator function.
pub(crate) fn check(function: &Bound<'_, PyAny>, what: &str) -> PyResult<()> {
    if function.is_callable() && !is_deferred(function) {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!(
        "{what} is an ordinary function, whose work is done when it returns"
    )))
}

/// Checks what a function has returned that was to do its work.
///
/// Raises `TypeError` if that is something which has yet to run: an awaitable, a future, a generator, a
/// context manager that was made of one. What can be closed is closed, so that it never runs.
#[inline]
pub(crate) fn refuse_deferred(result: &Bound<'_, PyAny>, what: &str) -> PyResult<()> {
    if may_be_deferred(result) && is_yet_to_run(result) {
        return Err(refusal(result, what));
    }
    Ok(())
}

/// The same for Python's own code.
#[pyfunction(name = "refuse_deferred")]
pub(crate) fn refuse_deferred_result(result: &Bound<'_, PyAny>, what: &str) -> PyResult<()> {
    refuse_deferred(result, what)
}

/// False for what most functions return: an object of a type of the interpreter's own that is neither
/// awaited nor iterated.
#[inline]
fn may_be_deferred(result: &Bound<'_, PyAny>) -> bool {
    let class = result.get_type_ptr();
    // SAFETY: The thread is attached, and the object keeps its type alive. The slots are looked at and
    // not called.
    unsafe {
        ffi::PyType_GetFlags(class) & ffi::Py_TPFLAGS_HEAPTYPE != 0
            || !ffi::PyType_GetSlot(class, ffi::Py_tp_iternext).is_null()
            || !ffi::PyType_GetSlot(class, ffi::Py_am_await).is_null()
            || !ffi::PyType_GetSlot(class, ffi::Py_am_anext).is_null()
    }
}

#[cold]
fn is_yet_to_run(result: &Bound<'_, PyAny>) -> bool {
    let class = result.get_type();
    // Of the type, because an object may answer to any name.
    let has = |name: &str| class.hasattr(name).unwrap_or(false);
    // By their identity: neither can be told from another iterator, and the iterator of a list, or a
    // cursor, is a result like any other.
    let lazy = [&raw mut ffi::PyMap_Type, &raw mut ffi::PyFilter_Type];
    lazy.contains(&result.get_type_ptr())
        || has("__await__")
        || has("__anext__")
        // A generator, of the interpreter's or of Cython's.
        || has("send") && has("throw")
        // A future of threads, which is not awaited.
        || has("add_done_callback")
        // What `contextlib.contextmanager` makes holds the generator that has not begun.
        || (has("__enter__") || has("__aenter__")) && is_begun_later(result)
}

fn is_begun_later(manager: &Bound<'_, PyAny>) -> bool {
    let generator = manager.getattr("gen");
    generator.is_ok_and(|generator| may_be_deferred(&generator) && is_yet_to_run(&generator))
}

#[cold]
fn refusal(result: &Bound<'_, PyAny>, what: &str) -> PyErr {
    let class = result.get_type();
    // Without this, a coroutine that is dropped complains that it was never awaited.
    let is_closed = |class: &Bound<'_, PyType>| {
        class.hasattr("send").unwrap_or(false) && class.hasattr("close").unwrap_or(false)
    };
    if is_closed(&class) {
        let _ = result.call_method0("close");
    }
    let name = class.name().map(|name| name.to_string());
    PyTypeError::new_err(format!(
        "{what} returned an object of type {}, which has yet to run: nothing runs it here",
        name.unwrap_or_default()
    ))
}

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

type Call = unsafe extern "C-unwind" fn(
    *mut ffi::PyObject,
    *mut ffi::PyObject,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;

/// Keeps the thread from unwinding: it sleeps instead, until the process ends.
struct Hang;

impl Drop for Hang {
    fn drop(&mut self) {
        loop {
            thread::park();
        }
    }
}

/// Calls a function as `call1` does, on a thread that the interpreter may end, as it does daemon threads.
///
/// When the interpreter ends, Python before 3.14 ends each thread that asks for its lock again, in
/// the middle of the function, by `pthread_exit`. That unwinds the thread's stack, and a Rust
/// function in it would have the process abort. The thread is stopped here instead, as Python 3.14
/// does it: it has no lock then, and all that is on its stack stays there.
pub(crate) fn call_guarded<'py>(
    function: &Bound<'py, PyAny>,
    arguments: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: The thread is attached to the interpreter, and both objects are alive over the call,
    // since they are borrowed. No named arguments are given. The result is a new reference, or null
    // with an exception set.
    unsafe {
        let result = call_raw(function.as_ptr(), arguments.as_ptr(), std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(function.py(), result)
    }
}

/// The same, as the interpreter has it.
///
/// # Safety
///
/// As `PyObject_Call`: the thread is attached, `arguments` is a tuple, and `named` a dictionary or NULL.
#[inline]
pub(crate) unsafe fn call_raw(
    function: *mut ffi::PyObject,
    arguments: *mut ffi::PyObject,
    named: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let hang = Hang;
    // By a pointer of which the compiler knows nothing. PyO3 declares the same function as one that
    // never unwinds, and where both are compiled together that is believed of either.
    let call: Call = black_box(raw::PyObject_Call);
    // SAFETY: The caller's promise. The declaration is that of the stable ABI; it unwinds only by
    // `pthread_exit`, which goes no further than `Hang`.
    let result = unsafe { call(function, arguments, named) };
    mem::forget(hang);
    result
}
