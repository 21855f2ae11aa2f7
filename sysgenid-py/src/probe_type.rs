// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The type `Probe`, made by hand of its base and of two things.
//!
//! A read-only buffer, so that `memoryview(probe)[0]` is the counter. The limited API has buffers from
//! Python 3.11 on, and this package is for 3.10 as well. Interpreters have them all the same: the
//! slot's number and the layout of a view are those of 3.11, which calls them stable.
//!
//! And `generation`, which is the hot path: a getter that does nothing but its load takes three quarters
//! of the time of one that PyO3 prepares for what might go wrong in it.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use sysgenid::adapter;

use crate::derived::derive;
use crate::probe::ProbeBase;

const DOC: &CStr = c"Probe(path=None)
--

The current generation at the cost of one load from memory.

A probe maps the counter and closes the file: it is not a watcher, acknowledges nothing, and holds
nobody up. It works on every source, and in forked children. Without a `path`, the source is found:
`SYSGENID_SOURCE` names one.

It is a read-only buffer of one number as well, for those who look at memory: `memoryview(probe)[0]`,
or `numpy.frombuffer(probe, ...)`. Whether such a look is one load is up to who looks; `generation`
always is.

Raises `AbsentError`, `DeniedError`, `WrongKindError`, `BrokenError`; `UnsupportedError` on a driver
of the v5 dialect, where orchestrators would wait for the mapping for ever: use `Watcher.probe`.

>>> import sysgenid
>>> probe = sysgenid.Probe()
>>> before = probe.generation
>>> # ... the system may be restored here ...
>>> probe.generation == before
True
>>> memoryview(probe)[0] == before
True

A counter that the hypervisor writes is right when a restored machine executes its first instruction;
the kernel driver needs a moment to learn of it. A file that was made shorter after it was mapped
raises SIGBUS; no driver does that to its page.
";

/// `Py_buffer`, which the limited API of 3.10 does not show.
#[repr(C)]
struct View {
    buf: *mut c_void,
    obj: *mut ffi::PyObject,
    len: ffi::Py_ssize_t,
    itemsize: ffi::Py_ssize_t,
    readonly: c_int,
    ndim: c_int,
    format: *mut c_char,
    shape: *mut ffi::Py_ssize_t,
    strides: *mut ffi::Py_ssize_t,
    suboffsets: *mut ffi::Py_ssize_t,
    internal: *mut c_void,
}

const BF_GETBUFFER: c_int = 1;
const WRITABLE: c_int = 0x01;
const FORMAT: c_int = 0x04;
const ND: c_int = 0x08;
const STRIDES: c_int = 0x10 | ND;

struct Getters([ffi::PyGetSetDef; 2]);

// SAFETY: Its pointers are to static strings, and nobody writes to it or to them.
unsafe impl Sync for Getters {}

static GETTERS: Getters = Getters([
    ffi::PyGetSetDef {
        name: c"generation".as_ptr(),
        get: Some(generation),
        set: None,
        doc: c"The current generation: one load from memory.".as_ptr(),
        closure: ptr::null_mut(),
    },
    ffi::PyGetSetDef {
        name: ptr::null(),
        get: None,
        set: None,
        doc: ptr::null(),
        closure: ptr::null_mut(),
    },
]);

/// The number that the counter has.
///
/// # Safety
///
/// Only the interpreter calls it, on a thread that is attached, and for an object of this type: the
/// descriptor that it is called by looks at the type first.
unsafe extern "C" fn generation(
    object: *mut ffi::PyObject,
    _closure: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: See above. An object of this type has its base's contents, which nobody borrows to
    // change, for they are frozen. Nothing here can panic.
    unsafe {
        let py = Python::assume_attached();
        let probe = Borrowed::from_ptr(py, object).cast_unchecked::<ProbeBase>();
        ffi::PyLong_FromUnsignedLongLong(probe.get().0.generation().get())
    }
}

/// One number.
static SHAPE: ffi::Py_ssize_t = 1;

/// The type, made at the first call.
pub(crate) fn get(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let made = TYPE.get_or_try_init(py, || make(py).map(Bound::unbind))?;
    Ok(made.bind(py).clone())
}

fn make(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    let getbuffer: unsafe extern "C" fn(*mut ffi::PyObject, *mut View, c_int) -> c_int = getbuffer;
    let name = intern!(py, "generation");
    // It is never given back, as the type is not.
    NAME.store(name.clone().into_ptr(), Ordering::Relaxed);
    let getattro: ffi::getattrofunc = getattro;
    let base = py.get_type::<ProbeBase>();
    let slots = [
        (
            ffi::Py_tp_getset,
            (&raw const GETTERS.0).cast_mut().cast::<c_void>(),
        ),
        (ffi::Py_tp_getattro, getattro as *mut c_void),
        (BF_GETBUFFER, getbuffer as *mut c_void),
        (ffi::Py_tp_doc, DOC.as_ptr().cast_mut().cast()),
    ];
    // SAFETY: All of it is static, and has the signature of its slot: `View` has the layout of
    // `Py_buffer`. Not a base of others, so that whatever is a probe has its buffer from here.
    unsafe { derive(&base, c"sysgenid.Probe", true, &slots) }
}

/// The name `generation`, as it is in compiled code, where each name is one object.
static NAME: AtomicPtr<ffi::PyObject> = AtomicPtr::new(ptr::null_mut());

/// Finds an attribute: the hot one without a search through the types. If the caller's name is another
/// object of the same letters, the search finds the getter.
///
/// # Safety
///
/// As `generation`, which is called by it; the name is a string.
unsafe extern "C" fn getattro(
    object: *mut ffi::PyObject,
    name: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // Relaxed: it was stored before there was a type, and so before there was an object.
    if ptr::eq(name, NAME.load(Ordering::Relaxed)) {
        // SAFETY: The object is of this type, for it is its type's slot that was called.
        return unsafe { generation(object, ptr::null_mut()) };
    }
    // SAFETY: The interpreter's own arguments for this slot.
    unsafe { ffi::PyObject_GenericGetAttr(object, name) }
}

/// Fills a view of the counter.
///
/// # Safety
///
/// Only the interpreter calls it, for an object of the type that it is a slot of, on a thread that is
/// attached, and with a view that it may fill.
unsafe extern "C" fn getbuffer(object: *mut ffi::PyObject, view: *mut View, flags: c_int) -> c_int {
    if view.is_null() {
        return -1;
    }
    // SAFETY: The interpreter's promises, see above; the object is borrowed from it for the call.
    let (py, probe) = unsafe {
        (*view).obj = ptr::null_mut();
        let py = Python::assume_attached();
        (py, Borrowed::from_ptr(py, object))
    };
    let refuse = |error: PyErr| {
        error.restore(py);
        -1
    };
    if flags & WRITABLE != 0 {
        return refuse(PyBufferError::new_err("a generation may only be read"));
    }
    let probe = match probe.cast::<ProbeBase>() {
        Ok(probe) => probe,
        Err(error) => return refuse(error.into()),
    };
    let (counter, length) = adapter::counter(&probe.get().0);
    let format = if length == 8 { c"Q" } else { c"I" };
    let itemsize = ffi::Py_ssize_t::try_from(length).unwrap_or(0);
    let asked = |flag: c_int| flags & flag == flag;
    // SAFETY: The view is the caller's to be filled. The counter is mapped as long as the probe
    // lives, which the reference in `obj` sees to until the view is released; it says that it may
    // only be read. Shape and format are static, and nobody writes to them: a view of a read-only
    // buffer is no way to. The stride is the view's own item size, as CPython's own views have it.
    unsafe {
        (*view).buf = counter.cast_mut().cast();
        (*view).len = itemsize;
        (*view).itemsize = itemsize;
        (*view).readonly = 1;
        (*view).ndim = 1;
        (*view).format = match asked(FORMAT) {
            true => format.as_ptr().cast_mut(),
            false => ptr::null_mut(),
        };
        (*view).shape = match asked(ND) {
            true => (&raw const SHAPE).cast_mut(),
            false => ptr::null_mut(),
        };
        (*view).strides = match asked(STRIDES) {
            true => &raw mut (*view).itemsize,
            false => ptr::null_mut(),
        };
        (*view).suboffsets = ptr::null_mut();
        (*view).internal = ptr::null_mut();
        (*view).obj = probe.to_owned().into_ptr();
    }
    0
}
