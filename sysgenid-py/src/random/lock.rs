// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pyo3::exceptions::PyBaseException;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use sysgenid::adapter::this_thread;

use super::Seeded;

/// The lock of a numpy generator, which draws only while it holds it. Whoever takes it finds a state
/// that is this process's own.
///
/// `reseed` sets a new one, while the lock is held.
///
/// A forked child finds the lock as it was. If a thread held it that the child does not have, the child
/// opens it: what that thread was at is its parent's business.
#[pyclass(frozen, module = "sysgenid._native")]
pub(crate) struct GuardedLock {
    lock: Py<PyAny>,
    acquire: Py<PyAny>,
    release: Py<PyAny>,
    reseed: Py<PyAny>,
    seeded: Seeded,
    /// How many changes have been met by a state.
    changes: AtomicU64,
    looks: AtomicBool,
    /// In which process the lock is one of living threads.
    process: AtomicU64,
}

#[pymethods]
impl GuardedLock {
    #[new]
    #[pyo3(signature = (lock, reseed, /))]
    fn new(lock: &Bound<'_, PyAny>, reseed: Py<PyAny>) -> PyResult<Self> {
        Ok(Self {
            lock: lock.clone().unbind(),
            acquire: lock.getattr("acquire")?.unbind(),
            release: lock.getattr("release")?.unbind(),
            reseed,
            seeded: Seeded::now(),
            changes: AtomicU64::new(0),
            looks: AtomicBool::new(true),
            process: AtomicU64::new(this_process()),
        })
    }

    /// As that of a lock.
    #[pyo3(
        signature = (blocking = true, timeout = -1.0),
        text_signature = "($self, /, blocking=True, timeout=-1.0)"
    )]
    fn acquire(slf: &Bound<'_, Self>, blocking: bool, timeout: f64) -> PyResult<bool> {
        Self::open_in_child(slf)?;
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

    /// Of a call that begins now: see `stands`.
    fn stamp(slf: &Bound<'_, Self>) -> u64 {
        let this = slf.get();
        let is_new = this.looks.load(Ordering::Relaxed) && !this.seeded.is_current(slf);
        let met = this.changes.load(Ordering::Relaxed);
        met.wrapping_add(is_new.into())
    }

    /// Whether all that was drawn since `stamp` returned this was drawn after the last change. That a
    /// thread has set the state meanwhile is none.
    fn stands(slf: &Bound<'_, Self>, stamp: u64) -> bool {
        let this = slf.get();
        !this.looks.load(Ordering::Relaxed)
            || (this.seeded.is_current(slf) && this.changes.load(Ordering::Relaxed) == stamp)
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
        Self::open_in_child(slf)?;
        let this = slf.get();
        let is_new = !this.seeded.is_current(slf);
        let done = this.seeded.renew(slf, || function.call1(args))?;
        this.changes.fetch_add(is_new.into(), Ordering::Relaxed);
        Ok(done)
    }

    fn __enter__(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Self::open_in_child(slf)?;
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
        visit.call(&self.lock)?;
        visit.call(&self.acquire)?;
        visit.call(&self.release)?;
        visit.call(&self.reseed)
    }
}

/// A number of the process, which changes by nothing but a fork.
fn this_process() -> u64 {
    this_thread() >> 32
}

impl GuardedLock {
    /// Before anything else is done with it in a forked child. A fork is a change, so a state that is
    /// current is one of this process.
    #[inline]
    fn open_in_child(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().seeded.is_current(slf) {
            return Ok(());
        }
        Self::open_left_behind(slf)
    }

    #[cold]
    fn open_left_behind(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let lock = this.lock.bind(slf.py());
        let process = this_process();
        // Of several threads one does it, and none is attached before it has been done: neither method
        // lets go of the interpreter.
        if this.process.swap(process, Ordering::Relaxed) != process
            && lock.hasattr("_at_fork_reinit")?
            // The thread that forked may hold it, and will open it. Only a lock that one thread takes
            // several times tells; numpy has one since 2.3, and before a plain one.
            && !(lock.hasattr("_is_owned")? && lock.call_method0("_is_owned")?.is_truthy()?)
        {
            lock.call_method0("_at_fork_reinit")?;
        }
        Ok(())
    }

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
