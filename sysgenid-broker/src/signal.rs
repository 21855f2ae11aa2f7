// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The eventfd that is readable while a watcher is outdated.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use std::io::IoSliceMut;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, ReadWriteFlags, preadv2, read, write};

/// Offset of a file that has none.
const STREAM: u64 = u64::MAX;

/// Level-triggered: readable until it is cleared, however often it was raised.
///
/// The client shares the open file, and with it the flag `O_NONBLOCK`. A client may well want a
/// descriptor that blocks, so nothing here relies on the flag.
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
        let mut count = [0_u8; 8];
        let mut buffer = [IoSliceMut::new(&mut count)];
        // It fails only when the counter is 0, and then it is not readable.
        if preadv2(&self.0, &mut buffer, STREAM, ReadWriteFlags::NOWAIT) == Err(Errno::OPNOTSUPP) {
            let _ = read(&self.0, &mut count);
        }
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
