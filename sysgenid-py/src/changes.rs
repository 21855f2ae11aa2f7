// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use sysgenid::adapter::{self, Look};
use sysgenid::{ChangesWaker, Deadline, Error};

use crate::change::{Change, Held};
use crate::errors::raise;
use crate::handle::closed;
use crate::timeout::{AnswerTime, Timeout};
use crate::{left, source, waiting};

/// The changes of whichever source there is, through restarts and replacements of it. Each is told as a
/// `Change`, which is to be handled and then acknowledged.
///
/// There need not be a source: one that appears counts as a change. A broker that has ended is waited for,
/// and what changed meanwhile is told then. So no call fails because a source is not there.
///
/// A change that is not acknowledged when the next one is asked for is told again after a tenth of a second,
/// then after twice as long, up to half a minute; a newer one at once.
///
/// `tracked=False` has orchestrators not wait. `look_every` is how often a page that notifies nobody is
/// looked at, in seconds or as a `datetime.timedelta`.
///
/// >>> import sysgenid
/// >>> with sysgenid.Changes() as changes:
/// ...     changes.try_next()  # nothing has changed
/// ...     generation = sysgenid.trigger()
/// ...     change = changes.wait(5.0)
/// ...     change.generation == generation, change.acknowledge()
/// (True, True)
///
/// Iteration waits for changes without end. One thread at a time waits; the next one waits for it. In a
/// forked child it goes on as the child's own.
///
/// If the block of a `with` ends with an exception while a change is not acknowledged, it stays open, and so
/// does one that is dropped: orchestrators go on waiting, until the change is acknowledged or the process
/// ends.
#[pyclass(frozen, weakref, module = "sysgenid")]
pub(crate) struct Changes(Arc<Inner>);

pub(crate) struct Inner {
    /// `None` when it is closed.
    changes: Mutex<Option<sysgenid::Changes>>,
    waker: ChangesWaker,
    /// What was told last.
    told: Mutex<Weak<Held>>,
    is_closed: AtomicBool,
    /// It is to be closed when the change is acknowledged.
    is_left: AtomicBool,
}

#[pymethods]
impl Changes {
    #[new]
    #[pyo3(
        signature = (*, tracked=true, look_every=AnswerTime::SECOND),
        text_signature = "(*, tracked=True, look_every=1.0)"
    )]
    fn new(py: Python<'_>, tracked: bool, look_every: AnswerTime) -> PyResult<Self> {
        source::discovers();
        let options = sysgenid::Changes::options()
            .tracked(tracked)
            .look_every(look_every.0);
        // It begins to watch at the first look. A broker that hangs is not waited for.
        let changes = waiting::run(py, || options.open())?;
        Ok(Self(Arc::new(Inner {
            waker: changes.waker(),
            changes: Mutex::new(Some(changes)),
            told: Mutex::new(Weak::new()),
            is_closed: AtomicBool::new(false),
            is_left: AtomicBool::new(false),
        })))
    }

    /// Whether it was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.0.is_closed.load(Ordering::Relaxed)
    }

    /// Waits for a change that is to be handled; `None` waits without end.
    ///
    /// Raises `TimedOutError`, which is a `TimeoutError`, if none came before, and `ValueError` if it is
    /// closed, also by another thread meanwhile.
    #[pyo3(signature = (timeout=Timeout::NEVER), text_signature = "($self, timeout=None)")]
    fn wait(&self, py: Python<'_>, timeout: Timeout) -> PyResult<Change> {
        self.0.let_go();
        let wait = |slice: Deadline| match &mut *self.0.lock() {
            Some(changes) => changes.wait(slice).map(Some),
            None => Ok(None),
        };
        match waiting::look(py, timeout.0, wait) {
            Ok(Some(change)) => Ok(Change::of_changes(&self.0, change)),
            Ok(None) => Err(closed()),
            Err(_) if self.closed() && !PyErr::occurred(py) => Err(closed()),
            Err(error) => Err(error),
        }
    }

    /// A change that is to be handled, if there is one. Never waits for a broker.
    fn try_next(&self, py: Python<'_>) -> PyResult<Option<Change>> {
        self.0.let_go();
        let next = py.detach(|| self.0.lock().as_mut().map(sysgenid::Changes::try_next));
        let next = next.ok_or_else(closed)?;
        let change = next.map_err(|error: Error| raise(py, &error))?;
        Ok(change.map(|change| Change::of_changes(&self.0, change)))
    }

    /// For an event loop: a change, or else in how many seconds to look again if `_fileno` does not become
    /// readable before.
    fn _look(&self, py: Python<'_>) -> PyResult<(Option<Change>, f64)> {
        self.0.let_go();
        let look = py.detach(|| {
            let mut changes = self.0.lock();
            changes.as_mut().map(adapter::look_at_changes_and_arm)
        });
        Ok(match look.ok_or_else(closed)? {
            Look::Change(change) => (Some(Change::of_changes(&self.0, change)), 0.0),
            Look::Wait(next) => {
                let left = next.saturating_duration_since(Instant::now());
                (None, left.as_secs_f64())
            }
            Look::Woken => (None, 0.0),
            Look::Stopped => return Err(closed()),
        })
    }

    /// The descriptor for `_look`; -1 if the process has none left.
    fn _fileno(&self) -> PyResult<RawFd> {
        let changes = self.0.lock();
        let changes = changes.as_ref().ok_or_else(closed)?;
        Ok(adapter::changes_fd(changes).map_or(-1, |fd| fd.as_raw_fd()))
    }

    /// Closes it: orchestrators do not wait for it any more. To do it twice is fine.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
    }

    /// Closes it, but for a change that is not acknowledged: then when that is.
    fn _leave(&self, py: Python<'_>) {
        py.detach(|| self.0.leave());
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        if slf.get().closed() {
            return Err(closed());
        }
        slf.get().0.is_left.store(false, Ordering::Relaxed);
        Ok(slf)
    }

    #[pyo3(signature = (exc_type, *_exception))]
    fn __exit__(&self, py: Python<'_>, exc_type: &Bound<'_, PyAny>, _exception: &Bound<'_, PyAny>) {
        if exc_type.is_none() {
            self.close(py);
        } else {
            self._leave(py);
        }
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Change> {
        self.wait(py, Timeout::NEVER)
    }

    fn __repr__(&self) -> &'static str {
        match self.closed() {
            true => "<sysgenid.Changes, closed>",
            false => "<sysgenid.Changes>",
        }
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "changes cannot be pickled or copied: make others in the other process",
        ))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Nobody can acknowledge it any more.
        if self.is_outdated() {
            if let Some(changes) = self.lock().take() {
                left::keep(Arc::new(Mutex::new(changes)));
            }
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Option<sysgenid::Changes>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the change that is told.
    pub(crate) fn set_told(&self, change: &Arc<Held>) {
        *self.told() = Arc::downgrade(change);
    }

    /// Has the change that was told last told again, unless it was acknowledged. Whoever looks at a
    /// traceback keeps it, so that to wait until it is dropped would be to wait for ever.
    fn let_go(&self) {
        let Some(told) = self.told().upgrade() else {
            return;
        };
        if let Ok(change) = &*told.lock().unwrap_or_else(PoisonError::into_inner) {
            adapter::let_go(change);
        }
    }

    fn told(&self) -> MutexGuard<'_, Weak<Held>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False if a thread waits with it, which has a reference to it.
    fn is_outdated(&self) -> bool {
        let changes = self.changes.try_lock();
        changes.is_ok_and(|changes| changes.as_ref().is_some_and(adapter::owes_acknowledgement))
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        self.waker.stop();
        drop(self.lock().take());
    }

    fn leave(&self) {
        if self.is_outdated() {
            self.is_left.store(true, Ordering::Relaxed);
        } else {
            self.close();
        }
    }

    /// A change was acknowledged.
    pub(crate) fn be_handled(&self) {
        if self.is_left.load(Ordering::Relaxed) && !self.is_outdated() {
            self.close();
        }
    }
}
