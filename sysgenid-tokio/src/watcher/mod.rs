// SPDX-License-Identifier: Apache-2.0 OR MIT
mod convert;
mod stream;

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::task::{Context, Poll};

use sysgenid::{Generation, Probe, Result, Source, WatcherOptions, adapter};
use tokio::io::unix::AsyncFd;

use self::stream::Yielded;
use crate::{NotRegistered, readiness, runtime};

/// A [`sysgenid::Watcher`] in a tokio runtime: it awaits a change of the generation, and
/// acknowledges when it has been handled.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use sysgenid_tokio::Watcher;
///
/// let folder = tempfile::tempdir()?;
/// let _broker = sysgenid_broker::spawn(folder.path())?;
/// let watcher = Watcher::open_at(folder.path()).await?;
/// sysgenid::Orchestrator::open_at(folder.path())?.trigger()?;
///
/// let generation = watcher.changed().await?;
/// println!("rebuilding for generation {generation}");
/// watcher.ack(generation)?;
/// # Ok(())
/// # }
/// ```
pub struct Watcher {
    registered: AsyncFd<sysgenid::Watcher>,
    yielded: Yielded,
}

impl Watcher {
    /// Opens a tracked watcher on the discovered source: see [`Source::discover`].
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Watcher::open`], and [`is_runtime`](sysgenid::Error::is_runtime) outside of a runtime.
    pub async fn open() -> Result<Self> {
        Self::open_with(None, || sysgenid::Watcher::options().open()).await
    }

    /// Opens a tracked watcher on the source at `path`.
    ///
    /// # Errors
    ///
    /// As [`Watcher::open`].
    pub async fn open_at(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        Self::open_with(None, || sysgenid::Watcher::options().open_at(path)).await
    }

    /// Opens a watcher that is not the default one.
    ///
    /// # Errors
    ///
    /// As [`WatcherOptions::open_on`], and [`is_runtime`](sysgenid::Error::is_runtime) outside of a runtime.
    pub async fn open_on(options: WatcherOptions, source: Source) -> Result<Self> {
        let about = source.clone();
        Self::open_with(Some(&about), move || options.open_on(source)).await
    }

    async fn open_with(
        source: Option<&Source>,
        open: impl FnOnce() -> Result<sysgenid::Watcher> + Send + 'static,
    ) -> Result<Self> {
        Ok(Self::new(runtime::call(source, open).await?)?)
    }

    /// Registers a watcher with the runtime that this code runs in.
    ///
    /// # Errors
    ///
    /// [`NotRegistered`], which gives the watcher back.
    pub fn new(watcher: sysgenid::Watcher) -> Result<Self, NotRegistered> {
        let source = watcher.source().cloned();
        match runtime::register(watcher, source.as_ref()) {
            Ok(registered) => Ok(Self {
                registered,
                yielded: Yielded::default(),
            }),
            Err((watcher, error)) => Err(NotRegistered::new(watcher, error)),
        }
    }

    /// The current generation, whether or not it has been acknowledged: one load.
    #[inline]
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.as_ref().generation()
    }

    /// The source that the watcher was opened on; `None` if it was made of a descriptor.
    #[must_use]
    pub fn source(&self) -> Option<&Source> {
        self.as_ref().source()
    }

    /// Ready while the watcher is outdated, with the current generation.
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Watcher::try_changed`].
    pub fn poll_changed(&self, cx: &mut Context<'_>) -> Poll<Result<Generation>> {
        match self.changed_in_silence() {
            Ok(None) => readiness::poll_found(
                &self.registered,
                self.source(),
                cx,
                sysgenid::Watcher::try_changed,
            ),
            Ok(Some(generation)) => Poll::Ready(Ok(generation)),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Waits until the watcher is outdated, and returns the current generation. Any number of tasks
    /// may wait, and all are woken.
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Watcher::try_changed`].
    pub async fn changed(&self) -> Result<Generation> {
        if let Some(generation) = self.changed_in_silence()? {
            return Ok(generation);
        }
        readiness::found(
            &self.registered,
            self.source(),
            sysgenid::Watcher::try_changed,
        )
        .await
    }

    /// What the runtime would not tell, because the stream has told it not to.
    fn changed_in_silence(&self) -> Result<Option<Generation>> {
        if self.yielded.is_silenced {
            self.try_changed()
        } else {
            Ok(None)
        }
    }

    /// The current generation if the watcher is outdated. Never waits.
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Watcher::try_changed`].
    pub fn try_changed(&self) -> Result<Option<Generation>> {
        self.as_ref().try_changed()
    }

    /// Acknowledges that `generation` has been handled. Never waits.
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Watcher::acknowledge`].
    #[doc(alias = "acknowledge")]
    pub fn ack(&self, generation: Generation) -> Result<()> {
        self.as_ref().acknowledge(generation)
    }

    /// Waits for a change, lets `rebuild` handle it, and acknowledges; starts over if the
    /// generation moved meanwhile. Returns the generation that was acknowledged.
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Watcher::handle`], but for the deadline.
    pub async fn handle<E, Rebuilt>(
        &self,
        mut rebuild: impl FnMut(Generation) -> Rebuilt,
    ) -> Result<Generation>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
        Rebuilt: Future<Output = Result<(), E>>,
    {
        loop {
            let generation = self.changed().await?;
            rebuild(generation)
                .await
                .map_err(|error| adapter::rebuild(error, self.source()))?;
            match self.ack(generation) {
                Ok(()) => return Ok(generation),
                Err(error) if error.is_stale() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Connects to the broker again after it was [lost](sysgenid::Error::is_lost). The watcher goes on where
    /// it was: with the same tracking, and outdated if the generation has changed meanwhile.
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Watcher::reconnect`], and [`is_runtime`](sysgenid::Error::is_runtime) outside of a
    /// runtime.
    pub async fn reconnect(&mut self) -> Result<()> {
        let reconnector = self.as_ref().reconnector()?;
        let connected = runtime::call(self.source(), || reconnector.connect()).await?;
        self.registered.get_mut().resume(connected)?;
        self.yielded.has_ended = false;
        Ok(())
    }

    /// Sets whether orchestrators wait for this watcher. Turning it on while outdated makes them
    /// wait at once.
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Watcher::set_tracking`], and [`is_runtime`](sysgenid::Error::is_runtime) outside of a
    /// runtime.
    pub async fn set_tracking(&self, tracked: bool) -> Result<()> {
        runtime::current(self.source())?;
        let change = self.as_ref().tracking_change(tracked)?;
        runtime::call(self.source(), || change.apply()).await
    }

    /// A probe of the watcher's source, which may outlive the watcher.
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Watcher::probe`].
    pub fn probe(&self) -> Result<Probe> {
        self.as_ref().probe()
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watcher").field(self.as_ref()).finish()
    }
}
