// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory that threads share which are attached to the interpreter, without a lock where the interpreter
//! has one.

use std::cell::UnsafeCell;
use std::mem;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;

/// What can be copied in a few instructions: by counting references, at most.
pub(crate) trait Shared: Sized {
    /// Runs no code of Python's, and detaches from the interpreter at no moment.
    fn share(&self, py: Python<'_>) -> Self;
}

/// A place for a value that is copied out and replaced as a whole. Nothing is dropped in it: who replaces
/// a value drops the old one afterwards.
///
/// Under the interpreter's lock only one thread is attached, and none of these calls lets another one
/// attach before it returns. A free-threaded interpreter locks the object for so long. A fork, which is
/// made by a thread that is attached, finds no call half done.
pub(crate) struct Attached<T>(UnsafeCell<T>);

// SAFETY: See above. Each access is made by one thread at a time, which the callers prove by a `Bound` of
// the object that the place is part of.
unsafe impl<T: Send> Sync for Attached<T> {}

impl<T> Attached<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// A copy. `owner` is the object that this is a part of.
    #[inline]
    pub(crate) fn get(&self, owner: &Bound<'_, PyAny>) -> T
    where
        T: Shared,
    {
        let py = owner.py();
        // SAFETY: No other thread has access, see the type; and `share` does not come back to this.
        with_critical_section(owner, || unsafe { (*self.0.get()).share(py) })
    }

    /// Puts another in its place, and returns the one before.
    #[inline]
    pub(crate) fn replace(&self, owner: &Bound<'_, PyAny>, value: T) -> T {
        // SAFETY: No other thread has access, see the type. Nothing is dropped or called.
        with_critical_section(owner, || unsafe { mem::replace(&mut *self.0.get(), value) })
    }

    /// The same, if the one that is there is to be replaced. `is_to_be` only compares.
    pub(crate) fn replace_if(
        &self,
        owner: &Bound<'_, PyAny>,
        value: T,
        is_to_be: impl FnOnce(&T) -> bool,
    ) -> T {
        with_critical_section(owner, || {
            // SAFETY: No other thread has access, see the type.
            let place = unsafe { &mut *self.0.get() };
            if is_to_be(place) {
                return mem::replace(place, value);
            }
            value
        })
    }

    /// What is there, for the garbage collector.
    ///
    /// # Safety
    ///
    /// Only within `__traverse__`: the collector holds the interpreter's lock, or has stopped all other
    /// threads where none is in one of these calls. Nothing may be called meanwhile that replaces it.
    pub(crate) unsafe fn peek(&self) -> &T {
        // SAFETY: The caller's promise.
        unsafe { &*self.0.get() }
    }
}

/// Whether the interpreter that the thread is attached to is the one that the process began with.
pub(crate) fn in_main_interpreter(_attached: Python<'_>) -> bool {
    // SAFETY: The thread is attached, so there is an interpreter, and it stays.
    unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) == 0 }
}
