// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_core::Stream;
use sysgenid::adapter::{self, ChangesEvent, Look};
use sysgenid::{Change, Result};
use tokio::io::unix::AsyncFd;
use tokio::time::{Sleep, sleep};

use crate::runtime;

/// How long to wait at most where the system has no room to wait for an event.
const BLIND: Duration = Duration::from_millis(20);

/// The changes of whichever source there is, from now on: [`sysgenid::changes`] in a tokio runtime.
///
/// ```no_run
/// use tokio_stream::StreamExt;
///
/// # async fn rotate_keys() {}
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> sysgenid::Result<()> {
/// let mut changes = sysgenid_tokio::changes();
/// while let Some(change) = changes.next().await {
///     rotate_keys().await;
///     change.acknowledge()?;
/// }
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn changes() -> Changes {
    sysgenid::changes().into()
}

/// A [`sysgenid::Changes`] in a tokio runtime: it awaits changes of the generation, each of which is to
/// be handled and [acknowledged](Change::acknowledge).
///
/// What counts as a change, when one is reported again, and what is not guaranteed is said
/// [there](sysgenid::Changes). Those with other options come from [`sysgenid::Changes::options`].
///
/// As a [`Stream`] it yields each change. The stream ends if there is no runtime or it ends, and after
/// [`stop`](sysgenid::ChangesWaker::stop); [`next_change`](Self::next_change) says which.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use sysgenid::Source;
/// use sysgenid_tokio::Changes;
///
/// let broker = sysgenid_broker::testing::Broker::start()?;
/// let source = Source::at(broker.path())?;
/// let mut changes = Changes::from(sysgenid::Changes::options().on(source.clone()).open());
///
/// let generation = source.trigger(Duration::from_secs(5))?;
/// let change = changes.next_change().await?;
/// assert_eq!(change.generation(), generation);
/// // A change may be handled by another task.
/// let handling = tokio::spawn(async move { change.acknowledge() });
/// handling.await??;
/// # Ok(())
/// # }
/// ```
///
/// It belongs to the runtime in which it is first awaited. Nothing in it waits for a broker, not even for
/// the answer to a new connection, so that needs no thread of the runtime's pool.
///
/// # Panics
///
/// Awaited in a runtime without its I/O driver or its timer.
pub struct Changes {
    /// Before the changes; each keeps its descriptor open as well.
    registered: Vec<AsyncFd<ChangesEvent>>,
    /// The layout that these are of.
    layout: Option<u64>,
    /// The system has not taken all of them.
    is_blind: bool,
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
    changes: sysgenid::Changes,
}

impl Changes {
    /// Waits for a change that is to be handled.
    ///
    /// # Errors
    ///
    /// [`is_runtime`](sysgenid::Error::is_runtime) outside of a runtime, or if the runtime that it
    /// belongs to has ended; [`is_interrupted`](sysgenid::Error::is_interrupted) after
    /// [`stop`](sysgenid::ChangesWaker::stop).
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it has reported nothing: the next call does. A [`Change`] that it has
    /// returned is reported again if it is dropped without being acknowledged.
    pub async fn next_change(&mut self) -> Result<Change> {
        poll_fn(|cx| self.poll_change(cx)).await
    }

    /// Ready with a change that is to be handled: for futures that are written by hand. Only the task
    /// that polled last is woken.
    ///
    /// # Errors
    ///
    /// As [`next_change`](Self::next_change).
    pub fn poll_change(&mut self, cx: &mut Context<'_>) -> Poll<Result<Change>> {
        let mut has_looked = false;
        loop {
            let event = match self.poll_event(cx) {
                Poll::Ready(Ok(event)) => Some(event),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => None,
            };
            if has_looked && event.is_none() {
                ready!(self.poll_timer(cx));
            }
            has_looked = true;
            let is_open = event.is_some_and(|event| event.is_open);
            match adapter::look_at_changes(&mut self.changes, is_open) {
                Look::Change(change) => return Poll::Ready(Ok(change)),
                Look::Stopped => return Poll::Ready(Err(adapter::stopped())),
                // To be looked at again without waiting.
                Look::Woken => has_looked = false,
                Look::Wait(next) => {
                    self.register()?;
                    self.set_timer(next);
                }
            }
        }
    }

    /// Has the runtime wait for what is to be waited for.
    fn register(&mut self) -> Result<()> {
        let layout = adapter::changes_layout(&self.changes);
        if self.layout == Some(layout) && !self.is_blind {
            return Ok(());
        }
        runtime::current(None)?;
        let events = adapter::changes_events(&self.changes);
        self.registered
            .retain(|old| events.iter().any(|event| event.is(old.get_ref())));
        self.is_blind = false;
        for event in events {
            if self.registered.iter().any(|old| old.get_ref().is(&event)) {
                continue;
            }
            match runtime::register(event, None) {
                Ok(registered) => self.registered.push(registered),
                Err((_, error)) if error.is_runtime() => return Err(error),
                Err(_) => self.is_blind = true,
            }
        }
        self.layout = Some(layout);
        Ok(())
    }

    /// Ready if something has come, all of which it takes. The look is made after that, and sees whatever
    /// the events were about.
    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Result<Came>> {
        let mut came = Poll::Pending;
        for event in &self.registered {
            let Poll::Ready(ready) = event.poll_read_ready(cx) else {
                continue;
            };
            let mut ready = match ready {
                Ok(ready) => ready,
                Err(error) => return Poll::Ready(Err(runtime::not_registered(&error, None))),
            };
            let is_open = event.get_ref().is_connection() && !ready.ready().is_read_closed();
            ready.clear_ready();
            came = Poll::Ready(Ok(Came { is_open }));
        }
        came
    }

    /// Waits until this time, by the runtime's clock: that may be paused, and is not the one of `next`.
    fn set_timer(&mut self, next: Instant) {
        if self.timer.as_ref().is_some_and(|(set, _)| *set == next) {
            return;
        }
        let mut left = next.saturating_duration_since(Instant::now());
        if self.is_blind {
            left = left.min(BLIND);
        }
        self.timer = Some((next, Box::pin(sleep(left))));
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some((_, timer)) = &mut self.timer {
            ready!(timer.as_mut().poll(cx));
            self.timer = None;
        }
        Poll::Ready(())
    }
}

/// Events that have come.
struct Came {
    /// The last was one of a connection, and not its loss.
    is_open: bool,
}

impl Stream for Changes {
    type Item = Change;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        self.get_mut().poll_change(cx).map(Result::ok)
    }
}

impl From<sysgenid::Changes> for Changes {
    fn from(changes: sysgenid::Changes) -> Self {
        Self {
            registered: Vec::new(),
            layout: None,
            is_blind: false,
            timer: None,
            changes,
        }
    }
}

impl From<Changes> for sysgenid::Changes {
    /// Takes it out of the runtime. What is not acknowledged is reported there.
    fn from(changes: Changes) -> Self {
        changes.changes
    }
}

impl AsRef<sysgenid::Changes> for Changes {
    /// Its [`sources`](sysgenid::Changes::sources) and its [`waker`](sysgenid::Changes::waker) are those
    /// of this.
    fn as_ref(&self) -> &sysgenid::Changes {
        &self.changes
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Changes").field(&self.changes).finish()
    }
}
