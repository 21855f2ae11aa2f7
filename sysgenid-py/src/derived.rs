// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Types that are made by hand of their bases, for what is called so often that a call which PyO3
//! prepares for all that might go wrong in it takes too much of the time.

use std::ffi::{CStr, c_int, c_uint, c_void};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// A slot, and what is in it.
pub(crate) type Slot = (c_int, *mut c_void);

/// Makes a type of a base, with no contents but the base's.
///
/// # Safety
///
/// What is in the slots is static, and has the type of its slot.
pub(crate) unsafe fn derive<'py>(
    base: &Bound<'py, PyType>,
    name: &'static CStr,
    is_final: bool,
    slots: &[Slot],
) -> PyResult<Bound<'py, PyType>> {
    let slot = |&(slot, pfunc): &Slot| ffi::PyType_Slot { slot, pfunc };
    let end = [(0, std::ptr::null_mut())];
    let mut slots: Vec<_> = slots.iter().chain(&end).map(slot).collect();
    let mut spec = ffi::PyType_Spec {
        name: name.as_ptr(),
        // Those of the base.
        basicsize: 0,
        itemsize: 0,
        flags: flags(is_final),
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: The thread is attached, as the base proves, which is a type that may be inherited from. The
    // specification lives until the call has returned; the interpreter copies what it does not keep, and
    // keeps what is static, see above. The result is a new reference to a type, or NULL with an exception
    // set.
    unsafe {
        let made = ffi::PyType_FromSpecWithBases(&raw mut spec, base.as_ptr());
        Ok(Bound::from_owned_ptr_or_err(base.py(), made)?.cast_into_unchecked())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the specification has them as an int, and the limited API has no higher ones"
)]
fn flags(is_final: bool) -> c_uint {
    let of_a_base = if is_final {
        0
    } else {
        ffi::Py_TPFLAGS_BASETYPE
    };
    (ffi::Py_TPFLAGS_DEFAULT | of_a_base) as c_uint
}

/// Runs what is too rare to be fast, in the way that PyO3 prepares: the result is a new reference, or NULL
/// with an exception set. The thread is attached.
#[cold]
pub(crate) fn prepared<F>(run: F) -> *mut ffi::PyObject
where
    F: for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>>,
{
    Python::attach(|py| match run(py) {
        Ok(result) => result.into_ptr(),
        Err(error) => {
            error.restore(py);
            std::ptr::null_mut()
        }
    })
}
