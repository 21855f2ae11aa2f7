// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::ffi::OsString;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use sysgenid::{Deadline, Error, Generation, adapter};

use crate::errors::raise;
use crate::handle::Handle;
use crate::timeout::{AnswerTime, Timeout};
use crate::{callbacks, probe, waiting};

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
/// ...     watcher.wait(5.0) == generation
/// ...     # ... rebuild what must be unique ...
/// ...     watcher.acknowledge()
/// True
///
/// **Iteration** waits for changes without a deadline, and yields each. The body of the loop is the
/// handler: *to ask for the next change acknowledges the one before*. If the body raises or breaks
/// out, nothing is acknowledged, and orchestrators go on waiting.
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
pub(crate) struct Watcher {
    held: Handle<sysgenid::Watcher>,
    /// The generation that it told last, for `acknowledge()`.
    told: AtomicU64,
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
                None => options.open(),
            }
        })?;
        let source = watcher.source().map(|source| source.path().to_owned());
        Ok(Self {
            told: AtomicU64::new(watcher.generation().get()),
            held: Handle::new(watcher),
            path: source.unwrap_or_default(),
        })
    }

    /// The current generation, whether or not it has been acknowledged: one load from memory.
    #[getter]
    fn generation(&self) -> PyResult<u64> {
        Ok(self.held.get()?.generation().get())
    }

    /// What kind of source it is on: "device" or "broker".
    #[getter]
    fn kind(&self) -> PyResult<Option<&'static str>> {
        let watcher = self.held.get()?;
        Ok(watcher.source().map(|source| source.kind().name()))
    }

    /// Where the source is.
    #[getter]
    fn path(&self) -> OsString {
        self.path.clone().into()
    }

    /// Whether it was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.held.is_closed()
    }

    /// The current generation if the watcher is outdated, else `None`. Never waits, and tells again
    /// until it is acknowledged.
    ///
    /// Raises `LostError` if the broker has ended, and `ForkedError` in a forked child.
    fn try_changed(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        let watcher = self.held.get()?;
        let changed = watcher.try_changed().map_err(|error| raise(py, &error))?;
        Ok(changed.map(|generation| self.tell(generation)))
    }

    /// Waits until the watcher is outdated, and returns the current generation. Returns at once if it
    /// is already.
    ///
    /// `timeout` is a number of seconds or a `datetime.timedelta`; `None` waits for ever.
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
    fn wait(&self, py: Python<'_>, timeout: Timeout) -> PyResult<u64> {
        self.wait_until(py, timeout.0)
    }

    /// Acknowledges that a generation has been handled: `generation`, or else the one that this
    /// watcher told last. Never waits; to do it twice is fine.
    ///
    /// Raises `StaleError` if it is not the current one: nothing is acknowledged, the watcher stays
    /// outdated, and `current` tells what to rebuild for. `LostError` if the broker has ended.
    /// `ForkedError` in a forked child.
    #[pyo3(signature = (generation=None))]
    fn acknowledge(&self, py: Python<'_>, generation: Option<u64>) -> PyResult<()> {
        let told = || self.told.load(Ordering::Relaxed);
        let generation = Generation::new(generation.unwrap_or_else(told));
        let watcher = self.held.get()?;
        watcher
            .acknowledge(generation)
            .map_err(|error| raise(py, &error))
    }

    /// Waits for a change, lets `callback(generation)` handle it, and acknowledges; starts over if the
    /// generation moved meanwhile. Returns the generation that was acknowledged.
    ///
    /// `timeout` limits the waiting and the starting over, not the time that the callback takes.
    ///
    /// Raises what the callback raises, and `TypeError` if it is a coroutine function, or returns
    /// something that has yet to run, such as a coroutine, a future or a generator. Then nothing is
    /// acknowledged, and the watcher stays outdated. Else as `wait`.
    fn handle(
        &self,
        py: Python<'_>,
        callback: &Bound<'_, PyAny>,
        timeout: Timeout,
    ) -> PyResult<u64> {
        callbacks::check(callback, "a callback")?;
        let watcher = self.held.get()?;
        loop {
            let generation = self.wait_until(py, timeout.0)?;
            let result = callbacks::call_guarded(callback, &PyTuple::new(py, [generation])?)?;
            callbacks::refuse_deferred(&result, "a callback")?;
            match watcher.acknowledge(Generation::new(generation)) {
                Ok(()) => return Ok(generation),
                // Outdated still, so the wait returns at once. The deadline is looked at here: a wait
                // reports a change even when it has passed.
                Err(error) if error.is_stale() && !timeout.0.has_passed() => {}
                Err(error) => return Err(raise(py, &error)),
            }
        }
    }

    /// A probe of the watcher's source, which may outlive the watcher. The way to one on a driver of
    /// the v5 dialect.
    fn probe<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let watcher = self.held.get()?;
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
        let watcher = self.held.get()?;
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
    fn reconnect(&self, py: Python<'_>, timeout: Timeout) -> PyResult<()> {
        let reconnector = || Ok(adapter::reconnector(&*self.held.get()?));
        let connected = waiting::reconnect(py, timeout.0, reconnector)?;
        self.held
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
        let watcher = self.held.get()?;
        let is_forked = |error: Error| error.is_forked();
        if !watcher.try_changed().is_err_and(is_forked) {
            return Ok(());
        }
        let reopened = waiting::call(py, || adapter::reopened(&watcher))?;
        drop(watcher);
        self.held.replace(reopened)
    }

    /// A descriptor that is readable while the watcher is outdated, or when its broker is lost: for
    /// `select`, `selectors`, asyncio, trio and others. For waiting only; nothing can be read from it.
    fn fileno(&self) -> PyResult<RawFd> {
        Ok(self.held.get()?.as_raw_fd())
    }

    /// Closes the watcher: orchestrators do not wait for it any more. Other threads that wait with it get
    /// a `ValueError`. To do it twice is fine.
    fn close(&self) {
        self.held.close();
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().held.get()?;
        Ok(slf)
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyAny>) {
        self.close();
    }

    fn __iter__(slf: Bound<'_, Self>) -> Changes {
        Changes {
            watcher: slf.unbind(),
            handled: AtomicU64::new(NONE),
        }
    }

    fn __repr__(&self) -> String {
        let state = match self.held.get() {
            Ok(watcher) => format!("generation {}", watcher.generation()),
            Err(_) => "closed".to_owned(),
        };
        format!("<sysgenid.Watcher of {}, {state}>", self.path.display())
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a watcher cannot be pickled or copied: it is a process's own, so open one in the other process",
        ))
    }
}

impl Watcher {
    pub(crate) fn wait_until(&self, py: Python<'_>, deadline: Deadline) -> PyResult<u64> {
        let watcher: Arc<_> = self.held.get()?;
        let generation = waiting::change(py, deadline, &watcher, &self.held)?;
        Ok(self.tell(generation))
    }

    fn tell(&self, generation: Generation) -> u64 {
        self.told.store(generation.get(), Ordering::Relaxed);
        generation.get()
    }
}

/// A number that no watcher has.
const NONE: u64 = u64::MAX;

/// The changes that a watcher sees, one after the other: see `Watcher`.
#[pyclass(frozen, module = "sysgenid._native")]
pub(crate) struct Changes {
    watcher: Py<Watcher>,
    /// The generation that the body of the loop has when the next one is asked for.
    handled: AtomicU64,
}

#[pymethods]
impl Changes {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<u64> {
        let watcher = self.watcher.get();
        let handled = self.handled.load(Ordering::Relaxed);
        if handled != NONE {
            match watcher.held.get()?.acknowledge(Generation::new(handled)) {
                Ok(()) => self.handled.store(NONE, Ordering::Relaxed),
                // Outdated still, so the wait returns at once, with the newer one.
                Err(error) if error.is_stale() => {}
                Err(error) => return Err(raise(py, &error)),
            }
        }
        let generation = watcher.wait_until(py, Deadline::NEVER)?;
        self.handled.store(generation, Ordering::Relaxed);
        Ok(generation)
    }
}
