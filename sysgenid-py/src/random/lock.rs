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
    fn acquire(&self, py: Python<'_>, blocking: bool, timeout: f64) -> PyResult<bool> {
        let acquired = self
            .acquire
            .bind(py)
            .call1((blocking, timeout))?
            .is_truthy()?;
        if acquired {
            self.check(py)?;
        }
        Ok(acquired)
    }

    /// As that of a lock.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        self.release.bind(py).call0().map(drop)
    }

    /// Seeds the generator anew if something has changed. Who draws holds the lock, and need not ask.
    fn refresh(&self, py: Python<'_>) -> PyResult<()> {
        if !self.looks.load(Ordering::Relaxed) || self.seeded.is_current() {
            return Ok(());
        }
        self.renew(self.reseed.bind(py), &PyTuple::empty(py))
            .map(drop)
    }

    /// Whether it looks; if not, it is a lock and no more. The state of this moment is used on.
    fn look(&self, whether: bool) -> PyResult<()> {
        if !self.looks.load(Ordering::Relaxed) {
            self.seeded.renew(|| Ok(()))?;
        }
        self.looks.store(whether, Ordering::Relaxed);
        Ok(())
    }

    /// Calls `function`, which sets the generator's state, and takes it for this process's own.
    #[pyo3(signature = (function, /, *args))]
    fn renew<'py>(
        &self,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.seeded.renew(|| function.call1(args))
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.acquire.bind(py).call0()?;
        self.check(py)?;
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
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        let checked = self.refresh(py);
        if checked.is_err() {
            self.release(py)?;
        }
        checked
    }
}
