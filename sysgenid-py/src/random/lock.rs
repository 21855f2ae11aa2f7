// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::PyBaseException;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::Seeded;

/// The lock of a numpy generator, which draws only while it holds it. Whoever takes it finds a state
/// that is this process's own.
///
/// `reseed` sets a new one, while the lock is held.
#[pyclass(frozen, module = "sysgenid._native")]
pub(crate) struct GuardedLock {
    acquire: Py<PyAny>,
    release: Py<PyAny>,
    reseed: Py<PyAny>,
    seeded: Seeded,
    looks: AtomicBool,
}

#[pymethods]
impl GuardedLock {
    #[new]
    #[pyo3(signature = (lock, reseed, /))]
    fn new(lock: &Bound<'_, PyAny>, reseed: Py<PyAny>) -> PyResult<Self> {
        Ok(Self {
            acquire: lock.getattr("acquire")?.unbind(),
            release: lock.getattr("release")?.unbind(),
            reseed,
            seeded: Seeded::now(),
            looks: AtomicBool::new(true),
        })
    }

    /// As that of a lock.
    #[pyo3(
        signature = (blocking = true, timeout = -1.0),
        text_signature = "($self, /, blocking=True, timeout=-1.0)"
    )]
    fn acquire(slf: &Bound<'_, Self>, blocking: bool, timeout: f64) -> PyResult<bool> {
        let py = slf.py();
        let acquired = slf
            .get()
            .acquire
            .bind(py)
            .call1((blocking, timeout))?
            .is_truthy()?;
        if acquired {
            Self::check(slf)?;
        }
        Ok(acquired)
    }

    /// As that of a lock.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        self.release.bind(py).call0().map(drop)
    }

    /// Seeds the generator anew if something has changed. Who draws holds the lock, and need not ask.
    fn refresh(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if !this.looks.load(Ordering::Relaxed) || this.seeded.is_current(slf) {
            return Ok(());
        }
        let py = slf.py();
        Self::renew(slf, this.reseed.bind(py), &PyTuple::empty(py)).map(drop)
    }

    /// Whether it looks; if not, it is a lock and no more. The state of this moment is used on.
    fn look(slf: &Bound<'_, Self>, whether: bool) -> PyResult<()> {
        let this = slf.get();
        if !this.looks.load(Ordering::Relaxed) {
            this.seeded.renew(slf, || Ok(()))?;
        }
        this.looks.store(whether, Ordering::Relaxed);
        Ok(())
    }

    /// Calls `function`, which sets the generator's state, and takes it for this process's own.
    #[pyo3(signature = (function, /, *args))]
    fn renew<'py>(
        slf: &Bound<'py, Self>,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.get().seeded.renew(slf, || function.call1(args))
    }

    fn __enter__(slf: &Bound<'_, Self>) -> PyResult<bool> {
        slf.get().acquire.bind(slf.py()).call0()?;
        Self::check(slf)?;
        Ok(true)
    }

    #[pyo3(signature = (exc_type, exc_value, traceback, /))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyBaseException>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (exc_type, exc_value, traceback);
        self.release(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.acquire)?;
        visit.call(&self.release)?;
        visit.call(&self.reseed)
    }
}

impl GuardedLock {
    /// With the lock held; it is not any more if this fails.
    #[inline]
    fn check(slf: &Bound<'_, Self>) -> PyResult<()> {
        let checked = Self::refresh(slf);
        if checked.is_err() {
            slf.get().release(slf.py())?;
        }
        checked
    }
}
