// SPDX-License-Identifier: Apache-2.0 OR MIT
mod waiting;

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};

use sysgenid::{Deadline, Generation, Orchestrator, Result, Source, Straggler, adapter};
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
/// let folder = tempfile::tempdir()?;
/// let _broker = sysgenid_broker::spawn(folder.path())?;
/// let service = Watcher::open_at(folder.path()).await?;
///
/// let orchestrator = AsyncOrchestrator::open_at(folder.path()).await?;
/// let generation = orchestrator.trigger().await?;
/// orchestrator.acknowledge()?;
///
/// // The service has not handled it, so nothing may resume yet.
/// let error = orchestrator.wait_for_watchers(Duration::from_millis(50)).await.unwrap_err();
/// assert!(error.is_timeout());
/// assert_eq!(orchestrator.stragglers().await?[0].pid, Some(std::process::id()));
///
/// service.ack(generation)?;
/// orchestrator.wait_for_watchers(Duration::from_secs(5)).await?;
/// # Ok(())
/// # }
/// ```
pub struct AsyncOrchestrator {
    /// Shared with the helpers, while there are any.
    registered: AsyncFd<Arc<Orchestrator>>,
    waits: Turn,
    calls: Turn,
}

impl AsyncOrchestrator {
    /// Opens an orchestrator on the discovered source: see [`Source::discover`].
    ///
    /// # Errors
    ///
    /// As [`Orchestrator::open`], and [`is_runtime`](sysgenid::Error::is_runtime) outside of a runtime.
    pub async fn open() -> Result<Self> {
        Self::open_with(None, Orchestrator::open).await
    }

    /// Opens an orchestrator on the source at `path`.
    ///
    /// # Errors
    ///
    /// As [`AsyncOrchestrator::open`].
    pub async fn open_at(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        Self::open_with(None, || Orchestrator::open_at(path)).await
    }

    /// Opens an orchestrator on `source`.
    ///
    /// # Errors
    ///
    /// As [`AsyncOrchestrator::open`].
    pub async fn on(source: Source) -> Result<Self> {
        let about = source.clone();
        Self::open_with(Some(&about), || Orchestrator::on(source)).await
    }

    async fn open_with(
        source: Option<&Source>,
        open: impl FnOnce() -> Result<Orchestrator> + Send + 'static,
    ) -> Result<Self> {
        let orchestrator = runtime::call(source, open).await?;
        Ok(Self::new(Arc::new(orchestrator))?)
    }

    /// Registers an orchestrator with the runtime that this code runs in.
    ///
    /// # Errors
    ///
    /// [`NotRegistered`], which gives the orchestrator back.
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

    /// Changes the generation to the next one. Every watcher is outdated then, the orchestrator's
    /// own included. Returns a generation that is at least as new as this change.
    ///
    /// # Errors
    ///
    /// As [`Orchestrator::trigger`], and [`is_runtime`](sysgenid::Error::is_runtime) outside of a runtime.
    pub async fn trigger(&self) -> Result<Generation> {
        self.trigger_at_least(0).await
    }

    /// Changes the generation to `min` or to the next one, whichever number is larger.
    ///
    /// # Errors
    ///
    /// As [`trigger`](Self::trigger).
    pub async fn trigger_at_least(&self, min: u32) -> Result<Generation> {
        self.call(move |orchestrator| orchestrator.trigger_at_least(min))
            .await
    }

    /// Names the tracked watchers that have not acknowledged the current generation.
    ///
    /// # Errors
    ///
    /// As [`Orchestrator::stragglers`], and [`is_runtime`](sysgenid::Error::is_runtime) outside of a runtime.
    pub async fn stragglers(&self) -> Result<Vec<Straggler>> {
        self.call(Orchestrator::stragglers).await
    }

    /// Ready while the orchestrator's own watcher is outdated, with the current generation.
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Watcher::try_changed`].
    pub fn poll_changed(&self, cx: &mut Context<'_>) -> Poll<Result<Generation>> {
        readiness::poll_found(&self.registered, self.source(), cx, try_changed)
    }

    /// Waits until the orchestrator's own watcher is outdated, and returns the current generation.
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Watcher::try_changed`].
    pub async fn changed(&self) -> Result<Generation> {
        readiness::found(&self.registered, self.source(), try_changed).await
    }

    /// Acknowledges the current generation for the orchestrator itself. Returns it. Never waits.
    ///
    /// # Errors
    ///
    /// As [`Orchestrator::acknowledge`].
    #[doc(alias = "ack")]
    pub fn acknowledge(&self) -> Result<Generation> {
        self.as_ref().acknowledge()
    }

    /// Waits until no tracked watcher is outdated.
    ///
    /// # Errors
    ///
    /// As [`Orchestrator::wait_for_watchers`], and [`is_runtime`](sysgenid::Error::is_runtime) outside of a
    /// runtime.
    pub async fn wait_for_watchers(&self, deadline: impl Into<Deadline>) -> Result<()> {
        runtime::current(self.source())?;
        self.wait(Limit::new(deadline.into())).await
    }

    /// After a change: lets `rebuild` handle it for the orchestrator itself, acknowledges, and
    /// waits for all others; starts over if the generation moves meanwhile. Returns the generation
    /// that everybody has acknowledged.
    ///
    /// If nothing has changed, `rebuild` is not called and the others are waited for.
    ///
    /// # Errors
    ///
    /// As [`Orchestrator::settle`], and [`is_runtime`](sysgenid::Error::is_runtime) outside of a runtime.
    pub async fn settle<E, Rebuilt>(
        &self,
        deadline: impl Into<Deadline>,
        mut rebuild: impl FnMut(Generation) -> Rebuilt,
    ) -> Result<Generation>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
        Rebuilt: Future<Output = Result<(), E>>,
    {
        runtime::current(self.source())?;
        let limit = Limit::new(deadline.into());
        loop {
            let own = self.as_ref().watcher();
            let mut settled = own.generation();
            let acknowledged = if let Some(generation) = own.try_changed()? {
                rebuild(generation)
                    .await
                    .map_err(|error| adapter::rebuild(error, self.source()))?;
                settled = generation;
                own.acknowledge(generation)
            } else {
                Ok(())
            };
            let waited = match acknowledged {
                Ok(()) => self.wait(limit).await,
                stale => stale,
            };
            match waited {
                Ok(()) => return Ok(settled),
                Err(error) if error.is_outdated() || error.is_stale() => {
                    if limit.has_passed() {
                        return Err(adapter::watchers_timed_out(self.source()));
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Connects to the broker again after it was [lost](sysgenid::Error::is_lost).
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Watcher::reconnect`], and [`is_runtime`](sysgenid::Error::is_runtime) outside of a
    /// runtime.
    pub async fn reconnect(&mut self) -> Result<()> {
        runtime::current(self.source())?;
        // What was given up may be under way still.
        let _waits = self.waits.take().await;
        let _calls = self.calls.take().await;
        let reconnector = self.as_ref().watcher().reconnector()?;
        let connected = runtime::call(self.source(), || reconnector.connect()).await?;
        let Some(orchestrator) = Arc::get_mut(self.registered.get_mut()) else {
            return Err(adapter::in_use(SHARED, self.source()));
        };
        orchestrator.watcher_mut().resume(connected)
    }

    fn source(&self) -> Option<&Source> {
        self.as_ref().watcher().source()
    }

    async fn wait(&self, limit: Limit) -> Result<()> {
        waiting::wait(self.registered.get_ref(), &self.waits, limit).await
    }

    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Orchestrator) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        runtime::current(self.source())?;
        let turn = self.calls.take().await;
        let orchestrator = Arc::clone(self.registered.get_ref());
        runtime::call(self.source(), move || {
            let result = call(&orchestrator);
            // In this order: whoever has the turn next has the orchestrator alone.
            drop(orchestrator);
            drop(turn);
            result
        })
        .await
    }
}

const SHARED: &str = "this orchestrator is shared with others, who may be using the connection; \
                      drop their references to it, then reconnect";

fn try_changed(orchestrator: &Arc<Orchestrator>) -> Result<Option<Generation>> {
    orchestrator.watcher().try_changed()
}

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
    /// Takes it out of the runtime. A wait that was given up may use it for another tenth of a second.
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
