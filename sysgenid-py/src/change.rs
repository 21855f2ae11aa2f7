// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use sysgenid::hooks::HookContext;
use sysgenid::{Acknowledged, Cause, Generation, Source, adapter};

use crate::changes;
use crate::errors::raise;
use crate::handle::Handle;
use crate::watcher;

/// A change of the generation that is to be handled: what must be unique is rebuilt, and then it is
/// acknowledged. It carries its own acknowledgement, so nothing is acknowledged that another task was told.
///
/// Nobody makes one: watchers, `Changes` and orchestrators tell of it, and hooks are called with it.
///
/// >>> import sysgenid
/// >>> with sysgenid.Watcher() as watcher, sysgenid.Orchestrator() as orchestrator:
/// ...     generation = orchestrator.trigger()
/// ...     change = watcher.wait(5.0)
/// ...     newer = orchestrator.trigger()
/// ...     change.acknowledge()
/// ...     watcher.wait(5.0).acknowledge()
/// False
/// True
#[pyclass(frozen, weakref, module = "sysgenid")]
pub(crate) struct Change {
    generation: Generation,
    previous: Option<Generation>,
    source: Option<Source>,
    cause: Option<Cause>,
    told_by: ToldBy,
}

/// A change of the SDK's, until it is acknowledged: then whether it was.
pub(crate) type Held = Mutex<Result<sysgenid::Change, bool>>;

enum ToldBy {
    Watcher(Arc<watcher::Inner>),
    Orchestrator(Arc<Handle<sysgenid::Orchestrator>>),
    Changes(Arc<changes::Inner>, Arc<Held>),
    Hooks,
}

#[pymethods]
impl Change {
    /// The generation to rebuild for.
    #[getter]
    fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// The generation of the same source that was handled last; `None` if that is not known, as for a
    /// source that has appeared. Numbers of two sources say nothing about each other.
    #[getter]
    fn previous(&self) -> Option<u64> {
        self.previous.map(Generation::get)
    }

    /// The path of the source whose generation this is; `None` if it is not known.
    #[getter]
    fn source(&self) -> Option<OsString> {
        self.source
            .as_ref()
            .map(|source| source.path().as_os_str().to_owned())
    }

    /// Why it changed: "restore", "entropy-unknown" for one after which nothing says that the kernel has
    /// reseeded, "possible", "trigger", or "other" for a cause that this release does not know.
    /// `None` if that is not known: only a broker and a hypervisor's counter tell it.
    #[getter]
    fn cause(&self) -> Option<&'static str> {
        self.cause.map(|cause| match cause {
            Cause::Restore => "restore",
            Cause::Trigger => "trigger",
            Cause::EntropyUnknown => "entropy-unknown",
            Cause::Possible => "possible",
            _ => "other",
        })
    }

    /// Acknowledges that the change has been handled, and returns whether that is so. Never waits; to do
    /// it twice is fine.
    ///
    /// False if the generation has changed again: nothing was acknowledged, and the newer change is told
    /// next. A change that is dropped without being acknowledged is told again.
    ///
    /// Raises `RuntimeError` in a hook, because a change is acknowledged when all hooks have succeeded.
    /// `LostError` if a watcher's broker has ended, and `ForkedError` in a forked child; `ValueError` if
    /// the watcher is closed.
    fn acknowledge(&self, py: Python<'_>) -> PyResult<bool> {
        let acknowledged = match &self.told_by {
            ToldBy::Watcher(inner) => return inner.acknowledge(py, self.generation),
            ToldBy::Orchestrator(held) => held.get()?.watcher().acknowledge(self.generation),
            ToldBy::Changes(inner, change) => return acknowledge(py, inner, change),
            ToldBy::Hooks => {
                return Err(PyRuntimeError::new_err(
                    "a hook does not acknowledge: that is done when all hooks have succeeded",
                ));
            }
        };
        match acknowledged {
            Ok(()) => Ok(true),
            Err(error) if error.is_stale() => Ok(false),
            Err(error) => Err(raise(py, &error)),
        }
    }

    fn __repr__(&self) -> String {
        let of = self.source.as_ref().map(Source::path);
        let of = of.map_or(String::new(), |path| format!(" of {}", path.display()));
        format!("<sysgenid.Change to generation {}{of}>", self.generation)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a change cannot be pickled or copied: it is acknowledged where it was told",
        ))
    }
}

fn acknowledge(py: Python<'_>, inner: &changes::Inner, change: &Held) -> PyResult<bool> {
    let mut held = change.lock().unwrap_or_else(PoisonError::into_inner);
    let change = match std::mem::replace(&mut *held, Err(false)) {
        Ok(change) => change,
        Err(was_acknowledged) => {
            *held = Err(was_acknowledged);
            return Ok(was_acknowledged);
        }
    };
    let acknowledged = change.acknowledge().map_err(|error| raise(py, &error))?;
    let is_handled = acknowledged == Acknowledged::Yes;
    *held = Err(is_handled);
    drop(held);
    if is_handled {
        inner.be_handled();
    }
    Ok(is_handled)
}

impl Change {
    pub(crate) fn of_watcher(
        inner: &Arc<watcher::Inner>,
        generation: Generation,
    ) -> PyResult<Self> {
        let watcher = inner.held.get()?;
        Ok(Self {
            generation,
            previous: Some(inner.handled()),
            source: watcher.source().cloned(),
            cause: adapter::cause(&watcher, generation),
            told_by: ToldBy::Watcher(Arc::clone(inner)),
        })
    }

    pub(crate) fn of_orchestrator(
        held: &Arc<Handle<sysgenid::Orchestrator>>,
        generation: Generation,
    ) -> PyResult<Self> {
        let orchestrator = held.get()?;
        let watcher = orchestrator.watcher();
        Ok(Self {
            generation,
            previous: None,
            source: watcher.source().cloned(),
            cause: adapter::cause(watcher, generation),
            told_by: ToldBy::Orchestrator(Arc::clone(held)),
        })
    }

    pub(crate) fn of_changes(inner: &Arc<changes::Inner>, change: sysgenid::Change) -> Self {
        let (generation, previous) = (change.generation(), change.previous());
        let (source, cause) = (change.source().cloned(), change.cause());
        let held = Arc::new(Mutex::new(Ok(change)));
        inner.set_told(&held);
        Self {
            generation,
            previous,
            source,
            cause,
            told_by: ToldBy::Changes(Arc::clone(inner), held),
        }
    }

    pub(crate) fn of_hooks(context: &HookContext) -> Self {
        Self {
            generation: context.generation(),
            previous: context.previous(),
            source: context.source().cloned(),
            cause: context.cause(),
            told_by: ToldBy::Hooks,
        }
    }
}
