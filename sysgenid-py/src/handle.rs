// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a Python object holds open, until it is closed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

/// Calls share it while they last, so that closing takes nothing away from a call under way in
/// another thread.
///
/// The lock is never held over anything that may wait, or that may let another thread attach to the
/// interpreter: so a fork, which is made by a thread that is attached, never finds it taken.
pub(crate) struct Handle<T>(Mutex<Option<Arc<T>>>);

impl<T> Handle<T> {
    pub(crate) fn new(held: T) -> Self {
        Self(Mutex::new(Some(Arc::new(held))))
    }

    pub(crate) fn get(&self) -> PyResult<Arc<T>> {
        self.lock().clone().ok_or_else(closed)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_none()
    }

    pub(crate) fn close(&self) {
        let held = self.lock().take();
        drop(held);
    }

    pub(crate) fn replace(&self, held: T) -> PyResult<()> {
        let replaced = self
            .lock()
            .as_mut()
            .map(|place| std::mem::replace(place, Arc::new(held)));
        replaced.map(drop).ok_or_else(closed)
    }

    /// Changes it, which must not wait.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> PyResult<R> {
        let mut place = self.lock();
        let held = place.as_mut().ok_or_else(closed)?;
        let held = Arc::get_mut(held).ok_or_else(|| {
            PyRuntimeError::new_err(
                "another thread is in a call of this object: try again when that has ended",
            )
        })?;
        Ok(change(held))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As a closed file says it.
fn closed() -> PyErr {
    PyValueError::new_err("it is closed")
}
