// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Into a runtime and out of it.

use std::os::fd::{AsFd, BorrowedFd};

use tokio::io::unix::AsyncFd;

use super::Watcher;
use super::stream::Yielded;
use crate::NotRegistered;

impl AsRef<sysgenid::Watcher> for Watcher {
    fn as_ref(&self) -> &sysgenid::Watcher {
        self.registered.get_ref()
    }
}

impl AsFd for Watcher {
    /// That of the [`sysgenid::Watcher`], for waiting in something else than this runtime.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.registered.as_fd()
    }
}

impl TryFrom<sysgenid::Watcher> for Watcher {
    type Error = NotRegistered;

    /// As [`Watcher::new`].
    fn try_from(watcher: sysgenid::Watcher) -> Result<Self, NotRegistered> {
        Self::new(watcher)
    }
}

impl From<AsyncFd<sysgenid::Watcher>> for Watcher {
    /// It must be registered for reading: with [`Interest::READABLE`](tokio::io::Interest) or more.
    /// One that is not would wait for ever.
    fn from(registered: AsyncFd<sysgenid::Watcher>) -> Self {
        Self {
            registered,
            yielded: Yielded::unknown(),
        }
    }
}

impl From<Watcher> for AsyncFd<sysgenid::Watcher> {
    /// A change that the stream has yielded and nobody has acknowledged is not reported by the
    /// `AsyncFd` again: look with [`try_changed`](sysgenid::Watcher::try_changed) before waiting.
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
