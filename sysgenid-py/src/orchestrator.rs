// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::ffi::OsString;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use sysgenid::{Deadline, Error, Generation, adapter};

use crate::errors::raise;
use crate::handle::Handle;
use crate::timeout::Timeout;
use crate::waiting;

/// Leads a system through a restore: notices it or triggers it, and waits until every tracked watcher
/// has acknowledged the new generation, so that the system may serve again.
///
/// It has a watcher of its own, untracked where the source can do that, because a caller that is
/// outdated itself cannot wait for the others. In a forked child that is the parent's: each call
/// raises `ForkedError` until `reopen`. Without a `path`, the source is found: `SYSGENID_SOURCE` names
/// one.
///
/// Raises as `Watcher`.
///
/// >>> import sysgenid
/// >>> with sysgenid.Watcher() as service, sysgenid.Orchestrator() as orchestrator:
/// ...     generation = orchestrator.trigger()
/// ...     generation == orchestrator.ack()
/// ...     try:
/// ...         orchestrator.wait_for_watchers(0.01)
/// ...     except sysgenid.TimedOutError:
/// ...         print(len(orchestrator.stragglers()), "has not rebuilt")
/// ...     service.ack(generation)
/// ...     orchestrator.wait_for_watchers(5.0)
/// True
/// 1 has not rebuilt
#[pyclass(frozen, weakref, module = "sysgenid")]
pub(crate) struct Orchestrator {
    held: Handle<sysgenid::Orchestrator>,
    path: PathBuf,
}

/// A tracked watcher that has not acknowledged the current generation.
#[pyclass(frozen, get_all, module = "sysgenid")]
pub(crate) struct Straggler {
    /// The process that has it open, or that opened it (on a broker); `None` if the kernel did not
    /// tell.
    pid: Option<u32>,
    /// The name of that process's command; empty if it could not be read.
    command: String,
    /// The generation that it has acknowledged.
    acknowledged: u64,
}

#[pymethods]
impl Straggler {
    fn __str__(&self) -> String {
        match self.pid {
            Some(pid) => format!("{} (pid {pid})", self.command),
            None => "a process unknown to the kernel".to_owned(),
        }
    }

    fn __repr__(&self) -> String {
        format!(
            "<sysgenid.Straggler {}, acknowledged {}>",
            self.__str__(),
            self.acknowledged
        )
    }
}

#[pymethods]
impl Orchestrator {
    #[new]
    #[pyo3(signature = (path=None))]
    fn new(py: Python<'_>, path: Option<PathBuf>) -> PyResult<Self> {
        let orchestrator = waiting::call(py, || match path {
            Some(path) => sysgenid::Orchestrator::open_at(path),
            None => sysgenid::Orchestrator::open(),
        })?;
        let source = orchestrator.watcher().source();
        Ok(Self {
            path: source
                .map(|source| source.path().to_owned())
                .unwrap_or_default(),
            held: Handle::new(orchestrator),
        })
    }

    /// The current generation: one load from memory.
    #[getter]
    fn generation(&self) -> PyResult<u64> {
        Ok(self.held.get()?.watcher().generation().get())
    }

    /// What kind of source it is on: "device" or "broker".
    #[getter]
    fn kind(&self) -> PyResult<Option<&'static str>> {
        let orchestrator = self.held.get()?;
        let source = orchestrator.watcher().source();
        Ok(source.map(|source| source.kind().name()))
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

    /// Changes the generation to the next one, or to `min` if that is more. Every watcher is outdated
    /// then, the orchestrator's own included. Returns a generation that is at least as new as this
    /// change.
    ///
    /// Quiesce what must not run across the change *before*: some libraries abort the process if the
    /// generation moves while they compute.
    ///
    /// Raises `DeniedError` without `CAP_CHECKPOINT_RESTORE` or `CAP_SYS_ADMIN` (`EACCES`), or if the
    /// broker belongs to another user; `LostError` or, after five seconds, `TimedOutError` on a
    /// broker.
    #[pyo3(signature = (min=0))]
    fn trigger(&self, py: Python<'_>, min: u32) -> PyResult<u64> {
        let orchestrator = self.held.get()?;
        let triggered = waiting::call(py, || orchestrator.trigger_at_least(min))?;
        Ok(triggered.get())
    }

    /// The current generation if the orchestrator's own watcher is outdated, else `None`. Never waits.
    ///
    /// Raises as `Watcher.try_changed`.
    fn try_changed(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        let orchestrator = self.held.get()?;
        let changed = orchestrator.watcher().try_changed();
        let changed = changed.map_err(|error| raise(py, &error))?;
        Ok(changed.map(Generation::get))
    }

    /// Waits for a change, as `Watcher.wait` does.
    fn wait(&self, py: Python<'_>, timeout: Timeout) -> PyResult<u64> {
        let orchestrator = self.held.get()?;
        let wait = |deadline: Deadline| orchestrator.watcher().wait(deadline);
        Ok(waiting::wait(py, timeout.0, wait)?.get())
    }

    /// Acknowledges for the orchestrator itself, and returns what it acknowledged: `generation`, or else
    /// the current one. Never waits.
    ///
    /// Raises `StaleError` if `generation` is not the current one: nothing is acknowledged. Without a
    /// number, `UnsettledError` if the generation changed during each of a few attempts. `LostError` if
    /// the broker has ended.
    #[pyo3(signature = (generation=None))]
    fn ack(&self, py: Python<'_>, generation: Option<u64>) -> PyResult<u64> {
        let orchestrator = self.held.get()?;
        let acknowledged = match generation.map(Generation::new) {
            Some(handled) => orchestrator
                .watcher()
                .acknowledge(handled)
                .map(|()| handled),
            None => orchestrator.acknowledge(),
        };
        let acknowledged = acknowledged.map_err(|error| raise(py, &error))?;
        Ok(acknowledged.get())
    }

    /// Waits until no tracked watcher is outdated.
    ///
    /// `timeout` is a number of seconds or a `datetime.timedelta`; `None` waits for ever.
    ///
    /// Raises `TimedOutError` if the deadline passed: `stragglers` tells who is missing.
    /// `OutdatedError` if the orchestrator's own watcher is or becomes outdated: a change came, so
    /// rebuild and `ack` first, or use `settle`. `LostError` if the broker ended. `UnsupportedError`
    /// on a broker if another thread waits with this orchestrator already.
    fn wait_for_watchers(&self, py: Python<'_>, timeout: Timeout) -> PyResult<()> {
        let orchestrator = self.held.get()?;
        let wait = |deadline: Deadline| orchestrator.wait_for_watchers(deadline);
        waiting::wait(py, timeout.0, wait)
    }

    /// After a change: lets `callback(generation)` rebuild what is the orchestrator's own,
    /// acknowledges, and waits for all others; starts over if the generation moves meanwhile. Returns
    /// the generation that everybody has acknowledged. If nothing has changed, the callback is not
    /// called, and the others are waited for.
    ///
    /// Raises what the callback raises; else as `wait_for_watchers`, but never `OutdatedError`.
    ///
    /// >>> import sysgenid
    /// >>> with sysgenid.Orchestrator() as orchestrator:
    /// ...     generation = orchestrator.trigger()
    /// ...     settled = orchestrator.settle(lambda generation: print("rebuilding"), timeout=5.0)
    /// ...     settled == generation
    /// rebuilding
    /// True
    fn settle(
        &self,
        py: Python<'_>,
        callback: &Bound<'_, PyAny>,
        timeout: Timeout,
    ) -> PyResult<u64> {
        let orchestrator = self.held.get()?;
        let watcher = orchestrator.watcher();
        let deadline = timeout.0;
        let fail = |error: &Error| raise(py, error);
        loop {
            let mut settled = watcher.generation();
            while let Some(generation) = watcher.try_changed().map_err(|error| fail(&error))? {
                callback.call1((generation.get(),))?;
                match watcher.acknowledge(generation) {
                    Ok(()) => settled = generation,
                    Err(error) if error.is_stale() && !deadline.has_passed() => {}
                    Err(error) => return Err(fail(&error)),
                }
            }
            let wait = |deadline: Deadline| match orchestrator.wait_for_watchers(deadline) {
                Ok(()) => Ok(true),
                Err(error) if error.is_outdated() => Ok(false),
                Err(error) => Err(error),
            };
            if waiting::wait(py, deadline, wait)? {
                return Ok(settled.get());
            }
            if deadline.has_passed() {
                return Err(fail(&adapter::watchers_timed_out(watcher.source())));
            }
        }
    }

    /// Names the tracked watchers that have not acknowledged the current generation. It may have
    /// changed by the time that the list is read.
    ///
    /// On the kernel device it needs this project's driver, and sees the processes that the caller may
    /// look at; `status` counts all.
    ///
    /// Raises `UnsupportedError` on a kernel driver that does not tell; `DeniedError` if the broker
    /// belongs to another user; `LostError` or, after five seconds, `TimedOutError` on a broker.
    fn stragglers(&self, py: Python<'_>) -> PyResult<Vec<Straggler>> {
        let orchestrator = self.held.get()?;
        let stragglers = waiting::call(py, || orchestrator.stragglers())?;
        let named = stragglers.into_iter().map(|straggler| Straggler {
            pid: straggler.pid,
            command: straggler.command,
            acknowledged: straggler.acknowledged.get(),
        });
        Ok(named.collect())
    }

    /// As `Watcher.reconnect`.
    fn reconnect(&self, py: Python<'_>) -> PyResult<()> {
        let orchestrator = self.held.get()?;
        let connected = waiting::call(py, || orchestrator.watcher().reconnector()?.connect())?;
        drop(orchestrator);
        self.held
            .change(|orchestrator| orchestrator.watcher_mut().resume(connected))?
            .map_err(|error| raise(py, &error))
    }

    /// As `Watcher.reopen`.
    fn reopen(&self, py: Python<'_>) -> PyResult<()> {
        let orchestrator = self.held.get()?;
        let is_forked = |error: Error| error.is_forked();
        if !orchestrator.watcher().try_changed().is_err_and(is_forked) {
            return Ok(());
        }
        let reopened = waiting::call(py, || adapter::reopened_orchestrator(&orchestrator))?;
        drop(orchestrator);
        self.held.replace(reopened)
    }

    /// A descriptor that is readable while the orchestrator's own watcher is outdated, or when its
    /// broker is lost. For waiting only.
    fn fileno(&self) -> PyResult<RawFd> {
        Ok(self.held.get()?.as_raw_fd())
    }

    /// Closes it. To do it twice is fine.
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

    fn __repr__(&self) -> String {
        let state = match self.held.get() {
            Ok(orchestrator) => format!("generation {}", orchestrator.watcher().generation()),
            Err(_) => "closed".to_owned(),
        };
        format!(
            "<sysgenid.Orchestrator of {}, {state}>",
            self.path.display()
        )
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "an orchestrator cannot be pickled: open one in the other process",
        ))
    }
}
