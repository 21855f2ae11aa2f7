// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::fmt;
use std::sync::Arc;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::source::connection::Connection;
use crate::watch::{Observer, Watcher};

/// A descriptor that becomes readable when changes are to be looked at. Whoever has it in an event loop
/// keeps it open.
///
/// It may stay readable after the look, so it is for those who wait for edges.
#[derive(Clone)]
pub(crate) enum Event {
    /// A broker's: one epoll level less than a watcher's own descriptor.
    Connection(Arc<Connection>),
    Watcher(Arc<Watcher>),
    Observer(Arc<Observer>),
    Bell(Arc<OwnedFd>),
}

impl Event {
    /// Whether the two are the same descriptor.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Connection(own), Self::Connection(other)) => Arc::ptr_eq(own, other),
            (Self::Watcher(own), Self::Watcher(other)) => Arc::ptr_eq(own, other),
            (Self::Observer(own), Self::Observer(other)) => Arc::ptr_eq(own, other),
            (Self::Bell(own), Self::Bell(other)) => Arc::ptr_eq(own, other),
            _ => false,
        }
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Connection(connection) => connection.socket().as_fd(),
            Self::Watcher(watcher) => watcher.events(),
            Self::Observer(observer) => observer.as_fd(),
            Self::Bell(bell) => bell.as_fd(),
        }
    }
}

impl AsRawFd for Event {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Event").field(&self.as_raw_fd()).finish()
    }
}
