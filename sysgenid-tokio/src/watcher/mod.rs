// SPDX-License-Identifier: Apache-2.0 OR MIT
mod convert;
mod events;
mod handle;
mod stream;

use std::fmt;
use std::path::PathBuf;
use std::task::{Context, Poll};

use sysgenid::{Deadline, Generation, Probe, Result, Source, WatcherOptions, adapter};
use tokio::io::Ready;
use tokio::io::unix::AsyncFd;

use self::events::Events;
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
/// let broker = sysgenid_broker::testing::Broker::start()?;
/// let watcher = Watcher::open_at(broker.path()).await?;
/// sysgenid::Orchestrator::open_at(broker.path())?.trigger()?;
///
/// let generation = watcher.changed().await?;
/// println!("rebuilding for generation {generation}");
/// watcher.acknowledge(generation)?;
/// # Ok(())
/// # }
/// ```
///
/// # What is guaranteed
///
/// An outdated watcher is told of by each call of [`changed`](Self::changed), [`poll_changed`](
/// Self::poll_changed) and [`try_changed`](Self::try_changed), until it has acknowledged; a change
/// after that wakes whoever waits, on every source and driver. To wait costs no system call, to be
/// told costs one. A wake-up may be spurious; the methods look before they return.
///
/// A caller that never acknowledges is told again at once, each time. That takes its share of the
/// processor and not more: like any other work it uses up the task's budget, and others have their
/// turn.
///
/// # When the broker is lost
///
/// All who wait are woken with [`is_lost`](sysgenid::Error::is_lost), and each later call fails with
/// it, but for a change that came before and waits to be acknowledged. [`reconnect`](Self::reconnect)
/// goes on.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # use std::time::Duration;
/// # let broker = sysgenid_broker::spawn(folder.path())?;
/// # let mut watcher = sysgenid_tokio::Watcher::open_at(folder.path()).await?;
/// drop(broker);
/// assert!(watcher.changed().await.unwrap_err().is_lost());
///
/// let _broker = sysgenid_broker::spawn(folder.path())?;
/// watcher.reconnect(Duration::from_secs(20)).await?;
/// assert_eq!(watcher.try_changed()?, None);
/// # Ok(())
/// # }
/// ```
pub struct Watcher {
    /// Before the watcher, so that the runtime lets go of the descriptor before it is closed.
    events: AsyncFd<Events>,
    watcher: sysgenid::Watcher,
    yielded: Yielded,
}

impl Watcher {
    /// Opens a tracked watcher on the discovered source: see [`Source::discover`].
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Watcher::open`]; [`is_timeout`](sysgenid::Error::is_timeout) if a broker does
    /// not answer within five seconds; [`is_runtime`](sysgenid::Error::is_runtime) outside of a
    /// runtime, or in one that is shutting down; the error of `epoll_ctl` (`ENOMEM`, `ENOSPC`).
    ///
    /// # Panics
    ///
    /// In a runtime without its I/O driver.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it opens nothing: a thread of the runtime's may yet open the watcher, and closes it.
    ///
    /// ```no_run
    /// # async fn open() -> sysgenid::Result<()> {
    /// let watcher = sysgenid_tokio::Watcher::open().await?;
    /// # drop(watcher);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn open() -> Result<Self> {
        Self::open_with(None, || sysgenid::Watcher::options().open()).await
    }

    /// Opens a tracked watcher on the source at `path`.
    ///
    /// # Errors
    ///
    /// As [`Watcher::open`].
    ///
    /// # Panics
    ///
    /// In a runtime without its I/O driver.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it opens nothing: a thread of the runtime's may yet open the watcher, and closes it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let broker = sysgenid_broker::testing::Broker::start()?;
    /// let watcher = sysgenid_tokio::Watcher::open_at(broker.path()).await?;
    /// assert_eq!(watcher.try_changed()?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn open_at(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        Self::open_with(None, || sysgenid::Watcher::options().open_at(path)).await
    }

    /// Opens a watcher that is not the default one.
    ///
    /// # Errors
    ///
    /// As [`Watcher::open`] and [`WatcherOptions::open_on`].
    ///
    /// # Panics
    ///
    /// In a runtime without its I/O driver.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it opens nothing: a thread of the runtime's may yet open the watcher, and closes it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let broker = sysgenid_broker::testing::Broker::start()?;
    /// let source = sysgenid::Source::at(broker.path())?;
    /// let options = sysgenid::Watcher::options().tracked(false);
    /// let onlooker = sysgenid_tokio::Watcher::open_on(options, source).await?;
    /// # drop(onlooker);
    /// # Ok(())
    /// # }
    /// ```
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
    /// [`NotRegistered`], which gives the watcher back: [`is_runtime`](sysgenid::Error::is_runtime)
    /// outside of a runtime, or in one that is shutting down; the error of `epoll_ctl` (`ENOMEM`,
    /// `ENOSPC`).
    ///
    /// # Panics
    ///
    /// In a runtime without its I/O driver.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let broker = sysgenid_broker::testing::Broker::start()?;
    /// let watcher = sysgenid::Watcher::open_at(broker.path())?;
    /// let watcher = sysgenid_tokio::Watcher::new(watcher)?;
    /// assert_eq!(watcher.try_changed()?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(watcher: sysgenid::Watcher) -> Result<Self, NotRegistered> {
        match Events::register(adapter::events(&watcher), watcher.source()) {
            Ok(events) => Ok(Self {
                events,
                watcher,
                yielded: Yielded::default(),
            }),
            Err(error) => Err(NotRegistered::new(watcher, error)),
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

    /// Ready while the watcher is outdated, with the current generation: for futures that are written
    /// by hand.
    ///
    /// **Only the task that polled last is woken**, by this or as a stream. Where several tasks wait,
    /// [`changed`](Self::changed) wakes them all.
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
    /// let broker = sysgenid_broker::testing::Broker::start()?;
    /// let watcher = sysgenid_tokio::Watcher::open_at(broker.path()).await?;
    /// let generation = sysgenid::Orchestrator::open_at(broker.path())?.trigger()?;
    /// let told = std::future::poll_fn(|cx| watcher.poll_changed(cx)).await?;
    /// assert_eq!(told, generation);
    /// # Ok(())
    /// # }
    /// ```
    pub fn poll_changed(&self, cx: &mut Context<'_>) -> Poll<Result<Generation>> {
        match self.changed_in_silence() {
            Ok(None) => readiness::poll_found(&self.events, self.source(), cx, |event| {
                changed_at(event, &self.watcher)
            }),
            Ok(Some(generation)) => Poll::Ready(Ok(generation)),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Waits until the watcher is outdated, and returns the current generation. Returns at once if it
    /// is already. Any number of tasks may wait, and all are woken; one that comes to look after
    /// another has acknowledged goes on waiting.
    ///
    /// # Errors
    ///
    /// [`is_lost`](sysgenid::Error::is_lost) if the broker has ended;
    /// [`is_runtime`](sysgenid::Error::is_runtime) if the runtime that the watcher belongs to has
    /// ended; [`is_forked`](sysgenid::Error::is_forked) in a forked child; the error of `read` or
    /// `poll`.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it loses nothing: the watcher is outdated until somebody acknowledges. So it may stand
    /// in a loop of `select!`, and a timeout may stand around it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// let broker = sysgenid_broker::testing::Broker::start()?;
    /// let watcher = sysgenid_tokio::Watcher::open_at(broker.path()).await?;
    /// let waited = tokio::time::timeout(Duration::from_millis(10), watcher.changed()).await;
    /// assert!(waited.is_err());
    ///
    /// let generation = sysgenid::Orchestrator::open_at(broker.path())?.trigger()?;
    /// assert_eq!(watcher.changed().await?, generation);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn changed(&self) -> Result<Generation> {
        if let Some(generation) = self.changed_in_silence()? {
            return Ok(generation);
        }
        readiness::found(&self.events, self.source(), |event| {
            changed_at(event, &self.watcher)
        })
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

    /// The current generation if the watcher is outdated. Never waits, and needs no runtime.
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Watcher::try_changed`].
    pub fn try_changed(&self) -> Result<Option<Generation>> {
        self.as_ref().try_changed()
    }

    /// Acknowledges that `generation` has been handled. Never waits, and needs no runtime.
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Watcher::acknowledge`]: [`is_stale`](sysgenid::Error::is_stale) if the generation
    /// has moved on, so that there is another change to handle.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = sysgenid_broker::testing::Broker::start()?;
    /// # let watcher = sysgenid_tokio::Watcher::open_at(broker.path()).await?;
    /// let orchestrator = sysgenid::Orchestrator::open_at(broker.path())?;
    /// let first = orchestrator.trigger()?;
    /// let second = orchestrator.trigger()?;
    /// assert!(watcher.acknowledge(first).unwrap_err().is_stale());
    /// watcher.acknowledge(second)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn acknowledge(&self, generation: Generation) -> Result<()> {
        self.as_ref().acknowledge(generation)
    }

    /// Connects to the broker again after it was [lost](sysgenid::Error::is_lost), and tries until the
    /// deadline. The watcher goes on where it was: with the same tracking, and outdated if the
    /// generation has changed meanwhile. On the kernel device there is nothing to do.
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Watcher::reconnect`]: [`is_lost`](sysgenid::Error::is_lost) if there was no broker
    /// until the deadline, [`is_timeout`](sysgenid::Error::is_timeout) if there was one that did not
    /// answer; [`is_runtime`](sysgenid::Error::is_runtime) outside of a runtime. The watcher then is as
    /// it was.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves the watcher as it was. An attempt that is under way goes on to its end, for a
    /// second at most, and the connection that it makes is closed.
    ///
    /// There is an example [above](Self#when-the-broker-is-lost).
    pub async fn reconnect(&mut self, deadline: impl Into<Deadline>) -> Result<()> {
        let deadline = deadline.into();
        let reconnector = adapter::reconnector(self.as_ref())?;
        let connected = runtime::reconnect(self.source(), deadline, reconnector).await?;
        let source = self.source().cloned();
        adapter::resume(&mut self.watcher, connected, |fresh| {
            // The old one leaves the runtime here, while it is still open.
            self.events = Events::register(fresh, source.as_ref())?;
            Ok(())
        })?;
        self.yielded.has_ended = false;
        Ok(())
    }

    /// Sets whether orchestrators wait for this watcher. Turning it on while outdated makes them
    /// wait at once. Never waits, and needs no runtime.
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Watcher::set_tracking`]: [`is_unsupported`](sysgenid::Error::is_unsupported) when
    /// turned off on a driver of the v5 dialect; [`is_lost`](sysgenid::Error::is_lost) if the broker has
    /// ended or does not read.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let broker = sysgenid_broker::testing::Broker::start()?;
    /// let watcher = sysgenid_tokio::Watcher::open_at(broker.path()).await?;
    /// watcher.set_tracking(false)?;
    /// sysgenid::Orchestrator::open_at(broker.path())?.trigger()?;
    /// let status = watcher.source().unwrap().status(std::time::Duration::from_secs(5))?;
    /// assert_eq!(status.watchers.unwrap().outdated, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_tracking(&self, tracked: bool) -> Result<()> {
        self.as_ref().set_tracking(tracked)
    }

    /// A probe of the watcher's source, which may outlive the watcher: for looking between two awaits
    /// at the cost of a load.
    ///
    /// # Errors
    ///
    /// As [`sysgenid::Watcher::probe`].
    pub fn probe(&self) -> Result<Probe> {
        self.as_ref().probe()
    }
}

fn changed_at(event: Ready, watcher: &sysgenid::Watcher) -> Result<Option<Generation>> {
    if event.is_read_closed() {
        watcher.try_changed()
    } else {
        adapter::try_changed_at_event(watcher)
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watcher").field(self.as_ref()).finish()
    }
}
