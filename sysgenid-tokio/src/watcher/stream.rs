// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The changes as a stream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use sysgenid::{Generation, Result, adapter};

use super::{Watcher, changed_at};
use crate::readiness;

/// What the stream of a watcher has told.
#[derive(Default)]
pub(super) struct Yielded {
    /// The generation that was yielded last, as long as it is not acknowledged.
    last: Option<Generation>,
    /// The runtime may take the watcher not to be readable although it is outdated: the stream, which
    /// waits for the next change then, has told it so.
    pub(super) is_silenced: bool,
    pub(super) has_ended: bool,
}

impl Yielded {
    /// The generation, if it is one to yield.
    fn next(&mut self, outdated_by: Option<Generation>) -> Option<Generation> {
        if outdated_by == self.last {
            self.is_silenced = outdated_by.is_some();
            return None;
        }
        self.is_silenced = false;
        self.last = outdated_by;
        outdated_by
    }
}

/// Yields each generation that it sees once, and waits for the next also if nobody has acknowledged.
/// Changes that follow one another quickly are seen as one, the latest.
///
/// To yield is not to acknowledge: orchestrators wait until somebody does, with
/// [`acknowledge`](Watcher::acknowledge). A generation that somebody else has acknowledged before it was seen here
/// is not yielded.
///
/// After an error the stream has ended, and goes on when [`reconnect`](Watcher::reconnect) has
/// succeeded. [`changed`](Watcher::changed) and the others work independently of all that, but
/// [`poll_changed`](Watcher::poll_changed) shares its waker.
///
/// # What is not guaranteed
///
/// A watcher that was made of a descriptor, on a third-party kernel driver, is not told of everything:
/// until an acknowledgement has succeeded with no change right after it, changes that follow one which
/// is not acknowledged may go untold. An opened watcher is told of each.
///
/// # Cancel safety
///
/// A future that waits for the next item, as `StreamExt::next` makes them, loses nothing when it is
/// dropped.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tokio_stream::StreamExt;
///
/// let broker = sysgenid_broker::testing::Broker::start()?;
/// let mut watcher = sysgenid_tokio::Watcher::open_at(broker.path()).await?;
/// let orchestrator = sysgenid::Orchestrator::open_at(broker.path())?;
///
/// let first = orchestrator.trigger()?;
/// assert_eq!(watcher.next().await.transpose()?, Some(first));
/// let second = orchestrator.trigger()?;
/// assert_eq!(watcher.next().await.transpose()?, Some(second));
/// watcher.acknowledge(second)?;
/// # Ok(())
/// # }
/// ```
impl Stream for Watcher {
    type Item = Result<Generation>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self {
            events,
            watcher,
            yielded,
        } = self.get_mut();
        if yielded.has_ended {
            return Poll::Ready(None);
        }
        let found = ready!(readiness::poll_found(
            events,
            watcher.source(),
            cx,
            |event| {
                let next = yielded.next(changed_at(event, watcher)?);
                if let (true, Some(seen)) = (yielded.is_silenced, yielded.last) {
                    // It is readable already, and this waits for the next change.
                    adapter::await_next(watcher, seen)?;
                }
                Ok(next)
            }
        ));
        yielded.has_ended = found.is_err();
        Poll::Ready(Some(found))
    }
}
