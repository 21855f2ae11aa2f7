// SPDX-License-Identifier: Apache-2.0 OR MIT
mod calls;
mod settling;
mod waiting;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};

use sysgenid::{Deadline, Generation, Orchestrator, OrchestratorOptions, Result, Source, adapter};
use tokio::io::unix::AsyncFd;

use self::waiting::{Limit, Turn};
use crate::{NotRegistered, readiness, runtime};

/// A [`sysgenid::Orchestrator`] in a tokio runtime: it triggers a change or awaits it, and waits
/// until every tracked watcher has acknowledged, without holding up a thread of the executor.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use sysgenid_tokio::{AsyncOrchestrator, Watcher};
///
/// let broker = sysgenid_broker::testing::Broker::start()?;
/// let service = Watcher::open_at(broker.path()).await?;
///
/// let orchestrator = AsyncOrchestrator::open_at(broker.path()).await?;
/// let generation = orchestrator.trigger().await?;
/// orchestrator.acknowledge()?;
///
/// // The service has not handled it, so nothing may resume yet.
/// let error = orchestrator.wait_for_watchers(Duration::from_millis(50)).await.unwrap_err();
/// assert!(error.is_timeout());
/// assert_eq!(orchestrator.stragglers().await?[0].pid, Some(std::process::id()));
///
/// service.acknowledge(generation)?;
/// orchestrator.wait_for_watchers(Duration::from_secs(5)).await?;
/// # Ok(())
/// # }
/// ```
///
/// Its methods take `&self`, so several tasks may use one. Calls that are answered take turns; one
/// that was dropped while a broker hangs gives up its turn after five seconds at most. A change may be
/// triggered while others wait, and interrupts them, as it should.
///
/// Deadlines are the runtime's clock: see [the crate](crate#runtimes).
pub struct AsyncOrchestrator {
    /// Shared with the threads that make its calls, while there are any.
    registered: AsyncFd<Arc<Orchestrator>>,
    waits: Turn,
    calls: Turn,
}

impl AsyncOrchestrator {
    /// Opens an orchestrator on the discovered source: see [`Source::discover`].
    ///
    /// # Errors
    ///
    /// As [`Orchestrator::open`]; [`is_timeout`](sysgenid::Error::is_timeout) if a broker does not
    /// answer within five seconds; [`is_runtime`](sysgenid::Error::is_runtime) outside of a runtime, or
    /// in one that is shutting down; the error of `epoll_ctl` (`ENOMEM`, `ENOSPC`).
    ///
    /// # Panics
    ///
    /// In a runtime without its I/O driver.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it opens nothing: a thread of the runtime's may yet open it, and closes it.
    ///
    /// ```no_run
    /// # async fn open() -> sysgenid::Result<()> {
    /// let orchestrator = sysgenid_tokio::AsyncOrchestrator::open().await?;
    /// # drop(orchestrator);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn open() -> Result<Self> {
        Self::open_with(None, Orchestrator::open).await
    }

    /// Opens an orchestrator on the source at `path`.
    ///
    /// # Errors
    ///
    /// As [`AsyncOrchestrator::open`].
    ///
    /// # Panics
    ///
    /// In a runtime without its I/O driver.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it opens nothing: a thread of the runtime's may yet open it, and closes it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// # use sysgenid_tokio::{AsyncOrchestrator, Watcher};
    /// # let broker = sysgenid_broker::testing::Broker::start()?;
    /// let orchestrator = AsyncOrchestrator::open_at(broker.path()).await?;
    /// assert_eq!(orchestrator.generation().get(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn open_at(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        Self::open_with(None, || Orchestrator::open_at(path)).await
    }

    /// Opens an orchestrator with these options on `source`.
    ///
    /// # Errors
    ///
    /// As [`AsyncOrchestrator::open`].
    ///
    /// # Panics
    ///
    /// In a runtime without its I/O driver.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it opens nothing: a thread of the runtime's may yet open it, and closes it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// # use sysgenid_tokio::{AsyncOrchestrator, Watcher};
    /// # let broker = sysgenid_broker::testing::Broker::start()?;
    /// let source = sysgenid::Source::at(broker.path())?;
    /// let options = sysgenid::Orchestrator::options().require_watchers(1);
    /// let orchestrator = AsyncOrchestrator::open_on(options, source).await?;
    /// # drop(orchestrator);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn open_on(options: OrchestratorOptions, source: Source) -> Result<Self> {
        let about = source.clone();
        Self::open_with(Some(&about), move || options.open_on(source)).await
    }

    async fn open_with(
        source: Option<&Source>,
        open: impl FnOnce() -> Result<Orchestrator> + Send + 'static,
    ) -> Result<Self> {
        let orchestrator = runtime::call(source, open).await?;
        Ok(Self::new(Arc::new(orchestrator))?)
    }

    /// Registers an orchestrator with the runtime that this code runs in. It may be shared with
    /// threads that use it without a runtime.
    ///
    /// # Errors
    ///
    /// [`NotRegistered`], which gives the orchestrator back:
    /// [`is_runtime`](sysgenid::Error::is_runtime) outside of a runtime, or in one that is shutting
    /// down; the error of `epoll_ctl` (`EEXIST` if it is registered already, `ENOMEM`, `ENOSPC`).
    ///
    /// # Panics
    ///
    /// In a runtime without its I/O driver.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// # use sysgenid_tokio::{AsyncOrchestrator, Watcher};
    /// # let broker = sysgenid_broker::testing::Broker::start()?;
    /// let orchestrator = sysgenid::Orchestrator::open_at(broker.path())?;
    /// let orchestrator = AsyncOrchestrator::new(orchestrator.into())?;
    /// orchestrator.wait_for_watchers(Duration::from_secs(5)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(orchestrator: Arc<Orchestrator>) -> Result<Self, NotRegistered<Arc<Orchestrator>>> {
        let source = orchestrator.watcher().source().cloned();
        match runtime::register(orchestrator, source.as_ref()) {
            Ok(registered) => Ok(Self {
                registered,
                waits: Turn::new(),
                calls: Turn::new(),
            }),
            Err((orchestrator, error)) => Err(NotRegistered::new(orchestrator, error)),
        }
    }

    /// The current generation, whether or not it has been acknowledged: one load.
    #[inline]
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.as_ref().watcher().generation()
    }

    /// Ready while the orchestrator's own watcher is outdated, with the current generation. **Only the
    /// task that polled last is woken.**
    ///
    /// # Errors
    ///
    /// As [`changed`](Self::changed).
    ///
    /// # Cancel safety
    ///
    /// It keeps nothing but the task's waker.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// # use sysgenid_tokio::{AsyncOrchestrator, Watcher};
    /// # let broker = sysgenid_broker::testing::Broker::start()?;
    /// # let orchestrator = AsyncOrchestrator::open_at(broker.path()).await?;
    /// let generation = orchestrator.trigger().await?;
    /// let told = std::future::poll_fn(|cx| orchestrator.poll_changed(cx)).await?;
    /// assert_eq!(told, generation);
    /// # Ok(())
    /// # }
    /// ```
    pub fn poll_changed(&self, cx: &mut Context<'_>) -> Poll<Result<Generation>> {
        readiness::poll_found(&self.registered, self.source(), cx, |_| {
            self.as_ref().watcher().try_changed()
        })
    }

    /// Waits until the orchestrator's own watcher is outdated, and returns the current generation.
    /// Returns at once if it is already. Any number of tasks may wait, and all are woken.
    ///
    /// # Errors
    ///
    /// [`is_lost`](sysgenid::Error::is_lost) if the broker has ended;
    /// [`is_runtime`](sysgenid::Error::is_runtime) if the runtime that the orchestrator belongs to has
    /// ended; [`is_forked`](sysgenid::Error::is_forked) in a forked child; the error of `read` or
    /// `poll`.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it loses nothing: the watcher is outdated until it has acknowledged.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// # use sysgenid_tokio::{AsyncOrchestrator, Watcher};
    /// # let broker = sysgenid_broker::testing::Broker::start()?;
    /// # let orchestrator = AsyncOrchestrator::open_at(broker.path()).await?;
    /// let overseer = sysgenid::Orchestrator::open_at(broker.path())?;
    /// let generation = overseer.trigger()?;
    /// assert_eq!(orchestrator.changed().await?, generation);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn changed(&self) -> Result<Generation> {
        readiness::found(&self.registered, self.source(), |_| {
            self.as_ref().watcher().try_changed()
        })
        .await
    }

    /// Acknowledges the current generation for the orchestrator itself. Returns it. Never waits, and
    /// needs no runtime.
    ///
    /// # Errors
    ///
    /// As [`Orchestrator::acknowledge`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// # use sysgenid_tokio::{AsyncOrchestrator, Watcher};
    /// # let broker = sysgenid_broker::testing::Broker::start()?;
    /// # let orchestrator = AsyncOrchestrator::open_at(broker.path()).await?;
    /// let generation = orchestrator.trigger().await?;
    /// assert_eq!(orchestrator.acknowledge()?, generation);
    /// # Ok(())
    /// # }
    /// ```
    pub fn acknowledge(&self) -> Result<Generation> {
        self.as_ref().acknowledge()
    }

    /// Connects to the broker again after it was [lost](sysgenid::Error::is_lost). The orchestrator
    /// goes on where it was. It tries until the deadline. On the kernel device there is nothing to do.
    ///
    /// It waits first until calls of dropped futures have ended: up to five seconds if a broker hangs.
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Watcher::reconnect`]: [`is_lost`](sysgenid::Error::is_lost) if there was no broker
    /// until the deadline, [`is_timeout`](sysgenid::Error::is_timeout) if there was one that did not
    /// answer;
    /// [`is_unsupported`](sysgenid::Error::is_unsupported) if the orchestrator is shared with others;
    /// [`is_runtime`](sysgenid::Error::is_runtime) outside of a runtime. The orchestrator then is as it
    /// was.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves the orchestrator as it was. An attempt that is under way goes on to its end,
    /// for a second at most, and the connection that it makes is closed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// # use sysgenid_tokio::{AsyncOrchestrator, Watcher};
    /// # let folder = tempfile::tempdir()?;
    /// # let broker = sysgenid_broker::spawn(folder.path())?;
    /// # let mut orchestrator = AsyncOrchestrator::open_at(folder.path()).await?;
    /// drop(broker);
    /// assert!(orchestrator.changed().await.unwrap_err().is_lost());
    ///
    /// let _broker = sysgenid_broker::spawn(folder.path())?;
    /// orchestrator.reconnect(Duration::from_secs(20)).await?;
    /// orchestrator.wait_for_watchers(Duration::from_secs(5)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn reconnect(&mut self, deadline: impl Into<Deadline>) -> Result<()> {
        let deadline = deadline.into();
        runtime::current(self.source())?;
        // What was given up may be under way still.
        let turns = async { (self.waits.take().await, self.calls.take().await) };
        let Some(_turns) = Limit::new(deadline).around(turns).await else {
            return Err(adapter::still_busy(self.source()));
        };
        let reconnector = adapter::reconnector(self.as_ref().watcher())?;
        let connected = runtime::reconnect(self.source(), deadline, reconnector).await?;
        let Some(orchestrator) = Arc::get_mut(self.registered.get_mut()) else {
            return Err(adapter::unsupported(SHARED, self.source()));
        };
        adapter::resume(orchestrator.watcher_mut(), connected, |_| Ok(()))
    }

    fn source(&self) -> Option<&Source> {
        self.as_ref().watcher().source()
    }
}

const SHARED: &str = "this orchestrator is shared with others, who may be using the connection; \
                      drop their references to it, then reconnect";

impl AsRef<Orchestrator> for AsyncOrchestrator {
    fn as_ref(&self) -> &Orchestrator {
        self.registered.get_ref()
    }
}

impl AsFd for AsyncOrchestrator {
    /// That of the [`Orchestrator`], for waiting in something else than this runtime.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.registered.as_fd()
    }
}

impl TryFrom<Arc<Orchestrator>> for AsyncOrchestrator {
    type Error = NotRegistered<Arc<Orchestrator>>;

    /// As [`AsyncOrchestrator::new`].
    fn try_from(orchestrator: Arc<Orchestrator>) -> Result<Self, NotRegistered<Arc<Orchestrator>>> {
        Self::new(orchestrator)
    }
}

impl From<AsyncOrchestrator> for Arc<Orchestrator> {
    /// Takes it out of the runtime. A call that was given up may use it for a few seconds more.
    fn from(orchestrator: AsyncOrchestrator) -> Self {
        orchestrator.registered.into_inner()
    }
}

impl fmt::Debug for AsyncOrchestrator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AsyncOrchestrator")
            .field(self.as_ref())
            .finish()
    }
}
