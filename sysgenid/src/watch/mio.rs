// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Event sources for mio, which waits for edges.

use std::io;
use std::os::fd::AsRawFd;

use ::mio::event::Source;
use ::mio::unix::SourceFd;
use ::mio::{Interest, Registry, Token};

use crate::watch::{Observer, Watcher};

/// By the descriptor that it has for waiting.
macro_rules! register_by_descriptor {
    ($(#[$documentation:meta])* $type:ty) => {
        $(#[$documentation])*
        impl Source for $type {
            fn register(
                &mut self,
                registry: &Registry,
                token: Token,
                interests: Interest,
            ) -> io::Result<()> {
                SourceFd(&self.as_raw_fd()).register(registry, token, interests)
            }

            fn reregister(
                &mut self,
                registry: &Registry,
                token: Token,
                interests: Interest,
            ) -> io::Result<()> {
                SourceFd(&self.as_raw_fd()).reregister(registry, token, interests)
            }

            fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
                SourceFd(&self.as_raw_fd()).deregister(registry)
            }
        }
    };
}

register_by_descriptor! {
    /// Registers the descriptor of [`AsFd`](std::os::fd::AsFd), for [`Interest::READABLE`]; a watcher is
    /// never writable.
    ///
    /// mio tells of an edge once. After an event, and before the next wait, ask
    /// [`try_changed`](Watcher::try_changed) and acknowledge until there is nothing to tell. What
    /// changes after that is an edge of its own, on every source. A watcher that is outdated when it is
    /// registered, or registered again, is told of at once; and so is one that loses its broker. An
    /// orchestrator is told of by its own watcher, [`watcher_mut`](crate::Orchestrator::watcher_mut).
    /// One that is shared, and cannot be borrowed mutably, is registered by its descriptor: [`SourceFd`].
    ///
    /// The registration stays through [`reconnect`](Watcher::reconnect). It does not stay through
    /// [`reopen`](Watcher::reopen) in a forked child: the descriptor is another one then. Nor is the
    /// child's `Poll` its own: it is the parent's, and what the child registers or takes away there, the
    /// parent gets or loses. So a child makes a `Poll` of its own, and registers what it has reopened
    /// with that. While a child keeps the parent's copy open, a watcher that the parent drops stays
    /// registered, and its events go on; the parent deregisters it first.
    ///
    /// ```
    /// use mio::{Events, Interest, Poll, Token};
    /// use sysgenid::{Orchestrator, Watcher};
    ///
    /// let broker = sysgenid_broker::testing::Broker::start()?;
    /// let mut watcher = Watcher::open_at(broker.path())?;
    /// let mut poll = Poll::new()?;
    /// poll.registry().register(&mut watcher, Token(0), Interest::READABLE)?;
    /// # let orchestrator = Orchestrator::open_at(broker.path())?;
    /// # orchestrator.trigger()?;
    ///
    /// let mut events = Events::with_capacity(8);
    /// poll.poll(&mut events, None)?;
    /// assert!(events.iter().any(|event| event.token() == Token(0)));
    /// while let Some(generation) = watcher.try_changed()? {
    ///     println!("rebuilding for generation {generation}");
    ///     match watcher.acknowledge(generation) {
    ///         Err(error) if error.is_stale() => {} // it has moved: rebuild for the newer one
    ///         acknowledged => acknowledged?,
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    Watcher
}

register_by_descriptor! {
    /// Registers the descriptor of [`AsFd`](std::os::fd::AsFd), for [`Interest::READABLE`]; an
    /// observer is never writable.
    ///
    /// After an event, and before the next wait, ask [`try_changed`](Observer::try_changed) once: it
    /// leaves nothing behind. An event need not be a change. If it fails, do not wait any more. In a
    /// forked child, the same holds as for a watcher.
    Observer
}
