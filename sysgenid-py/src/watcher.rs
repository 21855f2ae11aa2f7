// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::ffi::OsString;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use pyo3::exceptions::{PyTimeoutError, PyTypeError};
use pyo3::prelude::*;
use sysgenid::{Deadline, Error, Generation, adapter};

use crate::change::Change;
use crate::errors::raise;
use crate::handle::Handle;
use crate::timeout::{AnswerTime, Timeout};
use crate::{left, probe, source, waiting};

/// A watcher: it waits for a change of the generation, and acknowledges when it has been handled.
///
/// A watcher is *outdated* from the change of the generation until it has acknowledged the new one.
/// Orchestrators wait for the watchers that are *tracked*; open one with `tracked=False` to be told
/// of changes without holding anybody up. It starts up to date: only later changes are reported.
/// Without a `path`, the source is found: `SYSGENID_SOURCE` names one.
///
/// `answer_within` is how long a broker may take to answer while the watcher is opened, as a number
/// of seconds or a `datetime.timedelta`; `None` waits forever. At least a tenth of a second is given.
/// Nothing else that a watcher does waits for an answer.
///
/// Raises `AbsentError` if there is no source, `DeniedError` if it may not be opened for reading and
/// writing, `UnsupportedError` for a source without watchers (a page file, a hypervisor counter), for
/// a broker that speaks another version of its protocol, or, untracked, on a driver of the v5
/// dialect; `BrokenError`, `WrongKindError`; `LostError` if no broker runs there or it has no room
/// for another watcher, and `TimedOutError` if it does not answer.
///
/// >>> import sysgenid
/// >>> with sysgenid.Watcher() as watcher, sysgenid.Orchestrator() as orchestrator:
/// ...     generation = orchestrator.trigger()
/// ...     change = watcher.wait(5.0)
/// ...     change.generation == generation
/// ...     # ... rebuild what must be unique ...
/// ...     change.acknowledge()
/// True
/// True
///
/// **Iteration** is that of `changes()`: it waits for changes without end.
///
/// **A watcher that is left outdated** stays open: if the block of its `with` ends with an exception, or
/// if it is dropped without `close`, orchestrators go on waiting and name this process, until the change
/// is acknowledged or the process ends. The same watcher may be used on: `with watcher:` again.
///
/// **Threads** may share a watcher. To close it ends the waits in other threads with a `ValueError`.
///
/// **Forked children** have a copy of a watcher that is the parent's: if the child acknowledged, the
/// parent would be up to date without having rebuilt anything. So calls there raise `ForkedError`
/// until `reopen` has made it the child's own. A watcher cannot be pickled: with multiprocessing's
/// spawn, open one in the other process.
///
/// **Not guaranteed**: changes that follow one another quickly are seen as one, the latest.
#[pyclass(frozen, weakref, module = "sysgenid")]
pub(crate) struct Watcher(Arc<Inner>);

/// What a watcher shares with the changes that it has told.
pub(crate) struct Inner {
    pub(crate) held: Handle<sysgenid::Watcher>,
    /// The generation that was acknowledged last, or at which it was opened. Relaxed: only shown.
    handled: AtomicU64,
    /// It is to be closed when the change is acknowledged.
    is_left: AtomicBool,
    path: PathBuf,
}

#[pymethods]
impl Watcher {
    #[new]
    #[pyo3(
        signature = (path=None, *, tracked=true, answer_within=AnswerTime::DEFAULT),
        text_signature = "(path=None, *, tracked=True, answer_within=5.0)"
    )]
    fn new(
        py: Python<'_>,
        path: Option<PathBuf>,
        tracked: bool,
        answer_within: AnswerTime,
    ) -> PyResult<Self> {
        let watcher = waiting::call(py, || {
            let options = sysgenid::Watcher::options()
                .tracked(tracked)
                .answer_within(answer_within.0);
            match path {
                Some(path) => options.open_at(path),
                None => {
                    source::discovers();
                    options.open()
                }
            }
        })?;
        let source = watcher.source().map(|source| source.path().to_owned());
        Ok(Self(Arc::new(Inner {
            handled: AtomicU64::new(watcher.generation().get()),
            held: Handle::new(watcher),
            is_left: AtomicBool::new(false),
            path: source.unwrap_or_default(),
        })))
    }

    /// The current generation, whether or not it has been acknowledged: one load from memory.
    #[getter]
    fn generation(&self) -> PyResult<u64> {
        Ok(self.0.held.get()?.generation().get())
    }

    /// What kind of source it is on: "device" or "broker".
    #[getter]
    fn kind(&self) -> PyResult<Option<&'static str>> {
        let watcher = self.0.held.get()?;
        Ok(watcher.source().map(|source| source.kind().name()))
    }

    /// Where the source is.
    #[getter]
    fn path(&self) -> OsString {
        self.0.path.clone().into()
    }

    /// Whether it was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.0.held.is_closed()
    }

    /// The change that is to be handled if the watcher is outdated, else `None`. Never waits, and tells
    /// again until it is acknowledged.
    ///
    /// Raises `LostError` if the broker has ended, and `ForkedError` in a forked child.
    fn try_changed(&self, py: Python<'_>) -> PyResult<Option<Change>> {
        let watcher = self.0.held.get()?;
        let changed = watcher.try_changed().map_err(|error| raise(py, &error))?;
        changed
            .map(|generation| Change::of_watcher(&self.0, generation))
            .transpose()
    }

    /// Waits until the watcher is outdated, and returns the change that is to be handled. Returns at once
    /// if it is already.
    ///
    /// `timeout` is a number of seconds or a `datetime.timedelta`; `None` waits without end.
    ///
    /// Raises `TimedOutError`, which is a `TimeoutError`, if nothing changed before; `LostError` if
    /// the broker ended meanwhile; `ForkedError` in a forked child; `ValueError` if the watcher is
    /// closed, also by another thread meanwhile.
    ///
    /// >>> import sysgenid
    /// >>> with sysgenid.Watcher() as watcher:
    /// ...     watcher.wait(0.01)
    /// Traceback (most recent call last):
    /// sysgenid.TimedOutError: [Errno 62] the generation did not change before the deadline: ...
    #[pyo3(signature = (timeout=Timeout::NEVER), text_signature = "($self, timeout=None)")]
    fn wait(&self, py: Python<'_>, timeout: Timeout) -> PyResult<Change> {
        self.0.wait_until(py, timeout.0)
    }

    /// Iterates over the changes, and ends when the timeout has passed since this call; `None` goes on
    /// without end.
    ///
    /// A change that is not acknowledged is told again after a tenth of a second, then after twice as
    /// long, up to half a minute; a newer one at once.
    ///
    /// The iterator raises as `wait`, but no `TimedOutError`.
    ///
    /// >>> import sysgenid
    /// >>> with sysgenid.Watcher() as watcher:
    /// ...     generation = sysgenid.trigger()
    /// ...     for change in watcher.changes(timeout=0.01):
    /// ...         print("rebuilding")
    /// ...         change.acknowledge()
    /// rebuilding
    /// True
    #[pyo3(signature = (timeout=Timeout::NEVER), text_signature = "($self, timeout=None)")]
    fn changes(&self, timeout: Timeout) -> WatcherChanges {
        WatcherChanges {
            inner: Arc::clone(&self.0),
            deadline: timeout.0,
            told: Mutex::new(None),
        }
    }

    /// A probe of the watcher's source, which may outlive the watcher. The way to one on a driver of
    /// the v5 dialect.
    fn probe<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let watcher = self.0.held.get()?;
        let probe = waiting::call(py, || watcher.probe())?;
        probe::object(py, probe)
    }

    /// Sets whether orchestrators wait for this watcher. Turning it on while the watcher is outdated
    /// makes them wait at once. Never waits: whatever a broker is asked afterwards, it has done this
    /// before.
    ///
    /// Raises `UnsupportedError` when turned off on a driver of the v5 dialect; `LostError` if the
    /// broker has ended or does not read; `ForkedError` in a forked child.
    fn set_tracking(&self, py: Python<'_>, tracked: bool) -> PyResult<()> {
        let watcher = self.0.held.get()?;
        watcher
            .set_tracking(tracked)
            .map_err(|error| raise(py, &error))
    }

    /// Connects to the broker again after it was lost, and tries until the deadline: a broker that is
    /// started again is there a moment later. The pauses between the attempts grow,
    /// and differ from client to client.
    ///
    /// The watcher goes on where it was: outdated, if the generation has changed meanwhile. `fileno()`
    /// stays the same. On the kernel device there is nothing to do.
    ///
    /// `timeout` is a number of seconds or a `datetime.timedelta`; `None` tries forever.
    ///
    /// Raises `LostError` if there was no broker until the deadline, or one without room for this
    /// watcher, and `TimedOutError` if there was one that did not answer; else as opening a watcher.
    /// Then the watcher is as it was. `ForkedError` in a forked child. `RuntimeError` while another
    /// thread is in a call of this watcher.
    #[pyo3(signature = (timeout=Timeout::NEVER), text_signature = "($self, timeout=None)")]
    fn reconnect(&self, py: Python<'_>, timeout: Timeout) -> PyResult<()> {
        let reconnector = || Ok(adapter::reconnector(&*self.0.held.get()?));
        let connected = waiting::reconnect(py, timeout.0, reconnector)?;
        self.0
            .held
            .change(|watcher| adapter::resume(watcher, connected, |_| Ok(())))?
            .map_err(|error| raise(py, &error))
    }

    /// In a forked child: opens a watcher of the child's own in the place of the parent's. In the
    /// process that it belongs to, there is nothing to do.
    ///
    /// It is outdated if the parent's was at the fork, or if the generation has changed since. The
    /// parent's is left as it is. `fileno()` is another one afterwards.
    ///
    /// Raises as opening one; then the watcher is as it was.
    fn reopen(&self, py: Python<'_>) -> PyResult<()> {
        let watcher = self.0.held.get()?;
        let is_forked = |error: Error| error.is_forked();
        if !watcher.try_changed().is_err_and(is_forked) {
            return Ok(());
        }
        let reopened = waiting::call(py, || adapter::reopened(&watcher))?;
        drop(watcher);
        self.0.held.replace(reopened)
    }

    /// A descriptor that is readable while the watcher is outdated, or when its broker is lost: for
    /// `select`, `selectors`, asyncio, trio and others. For waiting only; nothing can be read from it.
    fn fileno(&self) -> PyResult<RawFd> {
        Ok(self.0.held.get()?.as_raw_fd())
    }

    /// Closes the watcher: orchestrators do not wait for it any more. Other threads that wait with it get
    /// a `ValueError`. To do it twice is fine.
    fn close(&self) {
        self.0.held.close();
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().0.held.get()?;
        slf.get().0.is_left.store(false, Ordering::Relaxed);
        Ok(slf)
    }

    #[pyo3(signature = (exc_type, *_exception))]
    fn __exit__(&self, exc_type: &Bound<'_, PyAny>, _exception: &Bound<'_, PyAny>) {
        if exc_type.is_none() {
            self.close();
        } else {
            self._leave();
        }
    }

    /// Closes it, unless it is outdated: then when the change is acknowledged.
    fn _leave(&self) {
        if self.0.is_outdated() {
            self.0.is_left.store(true, Ordering::Relaxed);
        } else {
            self.close();
        }
    }

    fn __iter__(&self) -> WatcherChanges {
        self.changes(Timeout::NEVER)
    }

    fn __repr__(&self) -> String {
        let state = match self.0.held.get() {
            Ok(watcher) => format!("generation {}", watcher.generation()),
            Err(_) => "closed".to_owned(),
        };
        format!("<sysgenid.Watcher of {}, {state}>", self.0.path.display())
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a watcher cannot be pickled or copied: it is a process's own, so open one in the other process",
        ))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Nobody can acknowledge it any more.
        if self.is_outdated() {
            if let Ok(watcher) = self.held.get() {
                left::keep(watcher);
            }
        }
    }
}

impl Inner {
    pub(crate) fn handled(&self) -> Generation {
        Generation::new(self.handled.load(Ordering::Relaxed))
    }

    /// Returns false if the generation has changed again.
    pub(crate) fn acknowledge(&self, py: Python<'_>, generation: Generation) -> PyResult<bool> {
        match self.held.get()?.acknowledge(generation) {
            Ok(()) => {}
            Err(error) if error.is_stale() => return Ok(false),
            Err(error) => return Err(raise(py, &error)),
        }
        self.handled.store(generation.get(), Ordering::Relaxed);
        if self.is_left.load(Ordering::Relaxed) {
            self.held.close();
        }
        Ok(true)
    }

    fn wait_until(self: &Arc<Self>, py: Python<'_>, deadline: Deadline) -> PyResult<Change> {
        let watcher: Arc<_> = self.held.get()?;
        let generation = waiting::change(py, deadline, &watcher, &self.held)?;
        Change::of_watcher(self, generation)
    }

    fn is_outdated(&self) -> bool {
        let watcher = self.held.get();
        watcher.is_ok_and(|watcher| matches!(watcher.try_changed(), Ok(Some(_))))
    }
}

/// How long a change that is not acknowledged is not told again: at first, and at most.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How often it is looked meanwhile whether there is a newer one.
const LOOK: Duration = Duration::from_millis(10);

/// The changes that a watcher sees, one after the other: see `Watcher.changes`.
#[pyclass(frozen, module = "sysgenid._native")]
pub(crate) struct WatcherChanges {
    inner: Arc<Inner>,
    deadline: Deadline,
    /// What was told last, and how long it is not told again.
    told: Mutex<Option<(Generation, Duration)>>,
}

#[pymethods]
impl WatcherChanges {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Change>> {
        if !self.pause(py)? {
            return Ok(None);
        }
        let watcher = self.inner.held.get()?;
        let deadline = self.deadline;
        let generation = match waiting::change(py, deadline, &watcher, &self.inner.held) {
            Ok(generation) => generation,
            // Before that it would be another thread's to have let it pass.
            Err(error) if deadline.has_passed() && is_timeout(py, &error) => return Ok(None),
            Err(error) => return Err(error),
        };
        drop(watcher);
        let mut told = self.told();
        *told = Some(match *told {
            Some((before, pause)) if before == generation => {
                (before, (2 * pause).min(LONGEST_PAUSE))
            }
            _ => (generation, SHORTEST_PAUSE),
        });
        drop(told);
        Change::of_watcher(&self.inner, generation).map(Some)
    }
}

impl WatcherChanges {
    /// Waits while the change that was told last is not to be told again. Returns false at the deadline.
    fn pause(&self, py: Python<'_>) -> PyResult<bool> {
        let Some((generation, pause)) = *self.told() else {
            return Ok(true);
        };
        let end = Deadline::after(pause);
        loop {
            let watcher = self.inner.held.get()?;
            let pending = watcher.try_changed().map_err(|error| raise(py, &error))?;
            if pending != Some(generation) || end.has_passed() {
                return Ok(true);
            }
            if self.deadline.has_passed() {
                return Ok(false);
            }
            drop(watcher);
            py.detach(|| thread::sleep(LOOK));
            py.check_signals()?;
        }
    }

    fn told(&self) -> MutexGuard<'_, Option<(Generation, Duration)>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_timeout(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyTimeoutError>(py)
}
