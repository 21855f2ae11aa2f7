// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Into a runtime and out of it.

use std::os::fd::{AsFd, BorrowedFd};

use super::Watcher;
use crate::NotRegistered;

impl AsRef<sysgenid::Watcher> for Watcher {
    fn as_ref(&self) -> &sysgenid::Watcher {
        &self.watcher
    }
}

impl AsFd for Watcher {
    /// That of the [`sysgenid::Watcher`], for waiting in something else than this runtime.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watcher.as_fd()
    }
}

impl TryFrom<sysgenid::Watcher> for Watcher {
    type Error = NotRegistered;

    /// As [`Watcher::new`].
    fn try_from(watcher: sysgenid::Watcher) -> Result<Self, NotRegistered> {
        Self::new(watcher)
    }
}

impl From<Watcher> for sysgenid::Watcher {
    /// Takes it out of the runtime. What it has not acknowledged, it has not.
    fn from(watcher: Watcher) -> Self {
        let Watcher {
            events, watcher, ..
        } = watcher;
        drop(events);
        watcher
    }
}
