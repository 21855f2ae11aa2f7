// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The eventfd that is readable while a watcher is outdated.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, read, write};

/// Level-triggered: readable until it is cleared, however often it was raised.
#[derive(Debug)]
pub(crate) struct Signal(OwnedFd);

impl Signal {
    pub(crate) fn new() -> Result<Self, Errno> {
        eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map(Self)
    }

    /// Makes it readable.
    pub(crate) fn raise(&self) {
        // It fails only when the counter is full, and then it is readable.
        let _ = write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Makes it unreadable.
    pub(crate) fn clear(&self) {
        // It fails only when the counter is 0, and then it is not readable.
        let _ = read(&self.0, &mut [0_u8; 8]);
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
