// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::fmt;
use std::future::poll_fn;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use sysgenid::{Generation, Result, Source};
use tokio::io::unix::AsyncFd;

use crate::{NotRegistered, runtime};

/// A [`sysgenid::Observer`] in a tokio runtime: it awaits a change of a counter that the hypervisor
/// writes, where it notifies of changes.
///
/// Each change is told of **once**, to whichever of its methods looks first, and nobody is waited for.
/// So each method takes `&mut self`: tasks that are all to be told have an observer each. What an
/// observer does not promise is said [there](sysgenid::Observer#what-is-not-guaranteed); above all, the
/// kernel may not have reseeded yet.
///
/// As a [`Stream`] it yields each change it is told of, and ends after an error.
///
/// ```no_run
/// # async fn rotate_keys(_: sysgenid::Generation) -> std::io::Result<()> { Ok(()) }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use sysgenid_tokio::Observer;
///
/// let mut observer = Observer::open().await?;
/// loop {
///     let generation = observer.changed().await?;
///     rotate_keys(generation).await?;
/// }
/// # }
/// ```
///
/// Where there is no such clock, a timer is left:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use sysgenid::{PageFile, Probe};
/// use sysgenid_tokio::{Observer, PolledProbe};
///
/// let folder = tempfile::tempdir()?;
/// let page = folder.path().join("page");
/// let _host = PageFile::open(&page)?;
///
/// let error = Observer::open_at(&page).await.unwrap_err();
/// assert!(error.is_unsupported());
/// let probe = PolledProbe::every(Duration::from_secs(1), Probe::open_at(&page)?)?;
/// # let _ = probe;
/// # Ok(())
/// # }
/// ```
pub struct Observer {
    registered: AsyncFd<sysgenid::Observer>,
    /// Whether the stream has yielded an error, and is at its end.
    has_ended: bool,
}

impl Observer {
    /// Opens an observer on the source that `SYSGENID_SOURCE` names; without that, on the first
    /// vmclock that can be used.
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Observer::open`], and [`is_runtime`](sysgenid::Error::is_runtime) outside of a
    /// runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it opens nothing: what a thread of the runtime's was about to open is closed there.
    pub async fn open() -> Result<Self> {
        Self::open_with(sysgenid::Observer::open).await
    }

    /// Opens an observer on the clock at `path`.
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Observer::open_at`], and [`is_runtime`](sysgenid::Error::is_runtime) outside of
    /// a runtime.
    ///
    /// # Cancel safety
    ///
    /// As [`Observer::open`].
    pub async fn open_at(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        Self::open_with(|| sysgenid::Observer::open_at(path)).await
    }

    /// Opens an observer on `source`.
    ///
    /// # Errors
    ///
    /// As [`Observer::open_at`].
    ///
    /// # Cancel safety
    ///
    /// As [`Observer::open`].
    pub async fn open_on(source: Source) -> Result<Self> {
        Self::open_with(|| sysgenid::Observer::open_on(source)).await
    }

    /// On a thread of its own: a hypervisor that does not finish writing is waited for.
    async fn open_with(
        open: impl FnOnce() -> Result<sysgenid::Observer> + Send + 'static,
    ) -> Result<Self> {
        Ok(Self::new(runtime::call(None, open).await?)?)
    }

    /// Registers an observer with the runtime that this code runs in.
    ///
    /// # Errors
    ///
    /// [`NotRegistered`], which gives the observer back.
    ///
    /// # Panics
    ///
    /// In a runtime that was built without its I/O driver.
    pub fn new(observer: sysgenid::Observer) -> Result<Self, NotRegistered<sysgenid::Observer>> {
        let source = observer.probe().source().cloned();
        match runtime::register(observer, source.as_ref()) {
            Ok(registered) => Ok(registered.into()),
            Err((observer, error)) => Err(NotRegistered::new(observer, error)),
        }
    }

    /// The current generation, whether or not it has been told of: one load.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.as_ref().generation()
    }

    /// Ready with the current generation, if it is another one than was told of last.
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Observer::try_changed`].
    pub fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Result<Generation>> {
        loop {
            let mut ready = match ready!(self.registered.poll_read_ready_mut(cx)) {
                Ok(ready) => ready,
                Err(error) => {
                    let source = self.as_ref().probe().source();
                    return Poll::Ready(Err(runtime::not_registered(&error, source)));
                }
            };
            // It stays ready until a look finds nothing, as a watcher; and while looks fail, so that
            // nobody waits for what does not come.
            if let Some(generation) = ready.get_inner_mut().try_changed()? {
                return Poll::Ready(Ok(generation));
            }
            ready.clear_ready();
        }
    }

    /// Waits for a change that has not been told of, and returns the current generation.
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Observer::try_changed`].
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it has told of nothing: the next call does.
    pub async fn changed(&mut self) -> Result<Generation> {
        poll_fn(|cx| self.poll_changed(cx)).await
    }
}

impl Stream for Observer {
    type Item = Result<Generation>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let changed = ready!(self.poll_changed(cx));
        self.has_ended = changed.is_err();
        Poll::Ready(Some(changed))
    }
}

impl AsRef<sysgenid::Observer> for Observer {
    fn as_ref(&self) -> &sysgenid::Observer {
        self.registered.get_ref()
    }
}

impl AsFd for Observer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.registered.as_fd()
    }
}

impl TryFrom<sysgenid::Observer> for Observer {
    type Error = NotRegistered<sysgenid::Observer>;

    fn try_from(observer: sysgenid::Observer) -> Result<Self, Self::Error> {
        Self::new(observer)
    }
}

impl From<AsyncFd<sysgenid::Observer>> for Observer {
    fn from(registered: AsyncFd<sysgenid::Observer>) -> Self {
        Self {
            registered,
            has_ended: false,
        }
    }
}

impl From<Observer> for AsyncFd<sysgenid::Observer> {
    fn from(observer: Observer) -> Self {
        observer.registered
    }
}

impl From<Observer> for sysgenid::Observer {
    /// Takes it out of the runtime. What was told of is not told of again.
    fn from(observer: Observer) -> Self {
        observer.registered.into_inner()
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observer").field(self.as_ref()).finish()
    }
}
