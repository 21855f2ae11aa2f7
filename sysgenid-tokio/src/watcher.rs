// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::error::Error as StdError;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::task::{Context, Poll, ready};

use sysgenid::{Error, Generation, Result, Source, WatcherOptions, adapter};
use tokio::io::unix::AsyncFd;

use crate::{NotRegistered, runtime};

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
}

impl Watcher {
    /// Opens a tracked watcher on the discovered source: see [`Source::discover`].
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Watcher::open`], and [`is_runtime`](Error::is_runtime) outside of a runtime.
    pub async fn open() -> Result<Self> {
        Self::open_with(|| sysgenid::Watcher::options().open()).await
    }

    /// Opens a tracked watcher on the source at `path`.
    ///
    /// # Errors
    ///
    /// As [`Watcher::open`].
    pub async fn open_at(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        Self::open_with(|| sysgenid::Watcher::options().open_at(path)).await
    }

    /// Opens a watcher that is not the default one.
    ///
    /// # Errors
    ///
    /// As [`WatcherOptions::open_on`], and [`is_runtime`](Error::is_runtime) outside of a runtime.
    pub async fn open_on(options: WatcherOptions, source: Source) -> Result<Self> {
        Self::open_with(move || options.open_on(source)).await
    }

    async fn open_with(
        open: impl FnOnce() -> Result<sysgenid::Watcher> + Send + 'static,
    ) -> Result<Self> {
        Ok(Self::new(runtime::call(open).await?)?)
    }

    /// Registers a watcher with the runtime that this code runs in.
    ///
    /// # Errors
    ///
    /// [`NotRegistered`], which gives the watcher back.
    pub fn new(watcher: sysgenid::Watcher) -> Result<Self, NotRegistered> {
        let source = watcher.source().cloned();
        match runtime::register(watcher, source.as_ref()) {
            Ok(registered) => Ok(registered.into()),
            Err((watcher, error)) => Err(NotRegistered::new(watcher, error)),
        }
    }

    /// The current generation, whether or not it has been acknowledged: one load.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.as_ref().generation()
    }

    /// Ready while the watcher is outdated, with the current generation.
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Watcher::try_changed`].
    pub fn poll_changed(&self, cx: &mut Context<'_>) -> Poll<Result<Generation>> {
        loop {
            let mut ready = ready!(self.registered.poll_read_ready(cx))
                .map_err(|error| self.not_registered(&error))?;
            // It stays ready until a look finds nothing: a change that comes after that look is
            // another edge, which `clear_ready` does not take for the one it clears.
            if let Some(generation) = self.as_ref().try_changed()? {
                return Poll::Ready(Ok(generation));
            }
            ready.clear_ready();
        }
    }

    /// Waits until the watcher is outdated, and returns the current generation.
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Watcher::try_changed`].
    pub async fn changed(&self) -> Result<Generation> {
        loop {
            let mut ready = self
                .registered
                .readable()
                .await
                .map_err(|error| self.not_registered(&error))?;
            if let Some(generation) = self.as_ref().try_changed()? {
                return Ok(generation);
            }
            ready.clear_ready();
        }
    }

    /// Acknowledges that `generation` has been handled. Never waits.
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Watcher::acknowledge`].
    pub fn ack(&self, generation: Generation) -> Result<()> {
        self.as_ref().acknowledge(generation)
    }

    /// Waits for a change, lets `rebuild` handle it, and acknowledges; starts over if the
    /// generation moved meanwhile. Returns the generation that was acknowledged.
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Watcher::handle`], but for the deadline.
    pub async fn handle<E>(
        &self,
        mut rebuild: impl AsyncFnMut(Generation) -> Result<(), E>,
    ) -> Result<Generation>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        loop {
            let generation = self.changed().await?;
            rebuild(generation)
                .await
                .map_err(|error| adapter::rebuild(error, self.as_ref().source()))?;
            match self.ack(generation) {
                Ok(()) => return Ok(generation),
                Err(error) if error.is_stale() => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn not_registered(&self, error: &std::io::Error) -> Error {
        adapter::not_registered(error, self.as_ref().source())
    }
}

impl AsRef<sysgenid::Watcher> for Watcher {
    fn as_ref(&self) -> &sysgenid::Watcher {
        self.registered.get_ref()
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.registered.as_fd()
    }
}

impl TryFrom<sysgenid::Watcher> for Watcher {
    type Error = NotRegistered;

    fn try_from(watcher: sysgenid::Watcher) -> Result<Self, NotRegistered> {
        Self::new(watcher)
    }
}

impl From<AsyncFd<sysgenid::Watcher>> for Watcher {
    fn from(registered: AsyncFd<sysgenid::Watcher>) -> Self {
        Self { registered }
    }
}

impl From<Watcher> for AsyncFd<sysgenid::Watcher> {
    fn from(watcher: Watcher) -> Self {
        watcher.registered
    }
}

impl From<Watcher> for sysgenid::Watcher {
    /// Takes it out of the runtime. What it has not acknowledged, it has not.
    fn from(watcher: Watcher) -> Self {
        watcher.registered.into_inner()
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watcher").field(self.as_ref()).finish()
    }
}
