// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::ffi::OsString;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyType;
use sysgenid::{Deadline, Error, Generation, adapter};

use crate::change::Change;
use crate::errors::raise;
use crate::handle::Handle;
use crate::status::{Fields, shown};
use crate::timeout::{AnswerTime, Timeout};
use crate::{hooks, source, waiting};

/// Leads a system through a restore: notices it or triggers it, and waits until every tracked watcher
/// has acknowledged the new generation, so that the system may serve again.
///
/// It has a watcher of its own, untracked where the source can do that, because a caller that is
/// outdated itself cannot wait for the others. In a forked child that is the parent's: each call
/// raises `ForkedError` until `reopen`. Without a `path`, the source is found: `SYSGENID_SOURCE` names
/// one.
///
/// `require_watchers` is how many tracked watchers there must be for a wait to succeed. The default is
/// 0: without any, a wait is over at once, and `Settled.watchers` says that none has acknowledged. A
/// wait that finds fewer also waits for the others, until its deadline: after a broker was started
/// again, watchers take a moment to come back to it.
///
/// `answer_within` is how long a broker may take to answer where a call takes no timeout: to open the
/// orchestrator, to trigger, to name stragglers. It is a number of seconds or a `datetime.timedelta`;
/// `None` waits forever. At least a tenth of a second is given.
///
/// Raises as `Watcher`.
///
/// >>> import sysgenid
/// >>> with (
/// ...     sysgenid.Watcher() as service,
/// ...     sysgenid.Orchestrator(require_watchers=1) as orchestrator,
/// ... ):
/// ...     generation = orchestrator.trigger()
/// ...     orchestrator.acknowledge(generation)
/// ...     try:
/// ...         orchestrator.wait_for_watchers(0.01)
/// ...     except sysgenid.TimedOutError:
/// ...         print(len(orchestrator.stragglers()), "has not rebuilt")
/// ...     service.wait().acknowledge()
/// ...     settled = orchestrator.wait_for_watchers(5.0)
/// ...     settled.generation == generation, settled.watchers
/// 1 has not rebuilt
/// True
/// (True, 1)
#[pyclass(frozen, weakref, module = "sysgenid")]
pub(crate) struct Orchestrator {
    held: Arc<Handle<sysgenid::Orchestrator>>,
    path: PathBuf,
}

/// What a wait for the watchers has found: all of them have acknowledged.
///
/// Two are equal if both attributes are.
#[pyclass(frozen, eq, hash, get_all, module = "sysgenid")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Settled {
    /// The generation when the wait began. Every tracked watcher has acknowledged it, or a newer one.
    generation: u64,
    /// How many tracked watchers there were; `None` where the source does not tell.
    watchers: Option<u32>,
}

impl From<sysgenid::Settled> for Settled {
    fn from(settled: sysgenid::Settled) -> Self {
        Self {
            generation: settled.generation.get(),
            watchers: settled.watchers,
        }
    }
}

#[pymethods]
impl Settled {
    #[new]
    #[pyo3(signature = (generation, watchers=None))]
    fn new(generation: u64, watchers: Option<u32>) -> Self {
        Self {
            generation,
            watchers,
        }
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        shown(slf.as_any(), "Settled", &["generation", "watchers"])
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyType>, Fields<'py>)> {
        let fields = (slf.get().generation, slf.get().watchers);
        Ok((slf.get_type(), fields.into_pyobject(slf.py())?))
    }
}

/// A tracked watcher that has not acknowledged the current generation.
///
/// Two are equal if all attributes are.
#[pyclass(frozen, eq, hash, module = "sysgenid")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Straggler(sysgenid::Straggler);

#[pymethods]
impl Straggler {
    /// The process that has it open, or that opened it (on a broker); `None` if that is outside the
    /// broker's pid namespace, or has ended and left the watcher to a child.
    #[getter]
    fn pid(&self) -> Option<u32> {
        self.0.pid
    }

    /// The effective user of that process; `None` if the source does not tell.
    #[getter]
    fn uid(&self) -> Option<u32> {
        self.0.uid
    }

    /// The name of that process's command; empty if it could not be read. A process chooses its own
    /// name; here it is escaped, and safe to print.
    #[getter]
    fn command(&self) -> &str {
        &self.0.command
    }

    /// The generation that it has acknowledged.
    #[getter]
    fn acknowledged(&self) -> u64 {
        self.0.acknowledged.get()
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        format!(
            "<sysgenid.Straggler {}, acknowledged {}>",
            self.0, self.0.acknowledged
        )
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a straggler cannot be pickled or copied: send its attributes, or str() of it",
        ))
    }
}

#[pymethods]
impl Orchestrator {
    #[new]
    #[pyo3(
        signature = (path=None, *, require_watchers=0, answer_within=AnswerTime::DEFAULT),
        text_signature = "(path=None, *, require_watchers=0, answer_within=5.0)"
    )]
    fn new(
        py: Python<'_>,
        path: Option<PathBuf>,
        require_watchers: u32,
        answer_within: AnswerTime,
    ) -> PyResult<Self> {
        let orchestrator = waiting::call(py, || {
            let options = sysgenid::Orchestrator::options()
                .require_watchers(require_watchers)
                .answer_within(answer_within.0);
            match path {
                Some(path) => options.open_at(path),
                None => {
                    source::discovers();
                    options.open()
                }
            }
        })?;
        let source = orchestrator.watcher().source();
        Ok(Self {
            path: source
                .map(|source| source.path().to_owned())
                .unwrap_or_default(),
            held: Arc::new(Handle::new(orchestrator)),
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
    /// A script that only triggers needs no orchestrator: `sysgenid.trigger`.
    ///
    /// Raises `DeniedError` without `CAP_CHECKPOINT_RESTORE` or `CAP_SYS_ADMIN` (`EACCES`), or if the
    /// broker belongs to another user; `LostError` if the broker has ended, and `TimedOutError` if it
    /// does not answer within `answer_within`: the change may yet come then.
    #[pyo3(signature = (min=0))]
    fn trigger(&self, py: Python<'_>, min: u32) -> PyResult<u64> {
        let orchestrator = self.held.get()?;
        let triggered = waiting::call(py, || orchestrator.trigger_at_least(min))?;
        Ok(triggered.get())
    }

    /// The change that the orchestrator itself is to handle if its own watcher is outdated, else `None`.
    /// Never waits.
    ///
    /// Raises as `Watcher.try_changed`.
    fn try_changed(&self, py: Python<'_>) -> PyResult<Option<Change>> {
        let orchestrator = self.held.get()?;
        let changed = orchestrator.watcher().try_changed();
        let changed = changed.map_err(|error| raise(py, &error))?;
        changed
            .map(|generation| Change::of_orchestrator(&self.held, generation))
            .transpose()
    }

    /// Waits for a change, as `Watcher.wait` does.
    #[pyo3(signature = (timeout=Timeout::NEVER), text_signature = "($self, timeout=None)")]
    fn wait(&self, py: Python<'_>, timeout: Timeout) -> PyResult<Change> {
        let orchestrator = self.held.get()?;
        let changed = waiting::change(py, timeout.0, orchestrator.watcher(), &*self.held)?;
        Change::of_orchestrator(&self.held, changed)
    }

    /// Acknowledges for the orchestrator itself what it has triggered and handled. Never waits.
    ///
    /// Raises `StaleError` if `generation` is not the current one: nothing is acknowledged. `LostError` if
    /// the broker has ended.
    fn acknowledge(&self, py: Python<'_>, generation: u64) -> PyResult<()> {
        let orchestrator = self.held.get()?;
        let acknowledged = orchestrator
            .watcher()
            .acknowledge(Generation::new(generation));
        acknowledged.map_err(|error| raise(py, &error))
    }

    /// Waits until no tracked watcher is outdated, and there are as many as this orchestrator requires.
    /// Returns the generation that they have acknowledged, and how many they are.
    ///
    /// `timeout` is a number of seconds or a `datetime.timedelta`; `None` waits without end.
    ///
    /// Raises `TimedOutError` if the deadline passed: `stragglers` names the watchers that hold it up.
    /// `MissingError` if all have acknowledged, but fewer than `require_watchers`; `UnsupportedError`
    /// if some are required and the source does not tell how many there are. `OutdatedError` if the
    /// orchestrator's own watcher is or becomes outdated: a change came, so rebuild and `acknowledge` first,
    /// or use `settle`. `LostError` if the broker ended, or takes no more connections. `ValueError` if
    /// it is closed; if another thread closes it meanwhile, within a second.
    #[pyo3(signature = (timeout=Timeout::NEVER), text_signature = "($self, timeout=None)")]
    fn wait_for_watchers(&self, py: Python<'_>, timeout: Timeout) -> PyResult<Settled> {
        let orchestrator = self.held.get()?;
        let wait = |deadline: Deadline| orchestrator.wait_for_watchers(deadline);
        waiting::wait(py, timeout.0, &*self.held, wait).map(Settled::from)
    }

    /// After a change: runs the hooks of `after_restore` for what is this process's own, acknowledges, and
    /// waits for all others; starts over if the generation moves meanwhile. Returns the generation that
    /// every tracked watcher has acknowledged, and how many those are. If nothing has changed, no hook is
    /// run, and the others are waited for.
    ///
    /// `timeout` limits the waiting and the starting over, not the time that the hooks take.
    ///
    /// Raises `HookError` if hooks failed: then nothing is acknowledged. Else as `wait_for_watchers`, but
    /// never `OutdatedError`.
    ///
    /// >>> import sysgenid
    /// >>> hook = sysgenid.after_restore(lambda change: print("rebuilding"))
    /// >>> with sysgenid.Orchestrator() as orchestrator:
    /// ...     generation = orchestrator.trigger()
    /// ...     settled = orchestrator.settle(timeout=5.0)
    /// ...     settled.generation == generation
    /// ...     settled.watchers  # no other watcher is there
    /// rebuilding
    /// True
    /// 0
    /// >>> hook.remove()
    #[pyo3(signature = (timeout=Timeout::NEVER), text_signature = "($self, timeout=None)")]
    fn settle(&self, py: Python<'_>, timeout: Timeout) -> PyResult<Settled> {
        let orchestrator = self.held.get()?;
        let watcher = orchestrator.watcher();
        let deadline = timeout.0;
        let fail = |error: &Error| raise(py, error);
        loop {
            while let Some(generation) = watcher.try_changed().map_err(|error| fail(&error))? {
                hooks::run(py, generation)?;
                match watcher.acknowledge(generation) {
                    Ok(()) => {}
                    Err(error) if error.is_stale() && !deadline.has_passed() => {}
                    Err(error) => return Err(fail(&error)),
                }
            }
            let wait = |deadline: Deadline| match orchestrator.wait_for_watchers(deadline) {
                Err(error) if error.is_outdated() => Ok(None),
                settled => settled.map(Some),
            };
            if let Some(settled) = waiting::wait(py, deadline, &*self.held, wait)? {
                return Ok(settled.into());
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
    /// belongs to another user; `LostError` if the broker has ended, and `TimedOutError` if it does not
    /// answer within `answer_within`.
    fn stragglers(&self, py: Python<'_>) -> PyResult<Vec<Straggler>> {
        let orchestrator = self.held.get()?;
        let stragglers = waiting::call(py, || orchestrator.stragglers())?;
        Ok(stragglers.into_iter().map(Straggler).collect())
    }

    /// As `Watcher.reconnect`.
    #[pyo3(signature = (timeout=Timeout::NEVER), text_signature = "($self, timeout=None)")]
    fn reconnect(&self, py: Python<'_>, timeout: Timeout) -> PyResult<()> {
        let reconnector = || Ok(adapter::reconnector(self.held.get()?.watcher()));
        let connected = waiting::reconnect(py, timeout.0, reconnector)?;
        self.held
            .change(|orchestrator| {
                adapter::resume(orchestrator.watcher_mut(), connected, |_| Ok(()))
            })?
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

    /// Closes it, also for other threads that wait with it: they get a `ValueError`. To do it twice is
    /// fine.
    fn close(&self) {
        self.held.close();
    }

    /// As `close`: no orchestrator waits for another one.
    fn _leave(&self) {
        self.close();
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
            "an orchestrator cannot be pickled or copied: open one in the other process",
        ))
    }
}
