// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is readable while a watcher is outdated.

use std::os::fd::OwnedFd;

use rustix::io::{Errno, write};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// The broker's end of a watcher's signal: see `sysgenid_sys::wire`.
///
/// Nothing that a client does to its own end can block the broker: the flags of the two ends are
/// apart.
#[derive(Debug)]
pub(crate) struct Signal(OwnedFd);

impl Signal {
    /// The broker's end and the client's.
    pub(crate) fn new() -> Result<(Self, OwnedFd), Errno> {
        let (theirs, ours) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // Only whether it is empty matters, and the kernel counts each user's pages. If it does
        // not make it smaller, it is large.
        let _ = fcntl_setpipe_size(&ours, 1);
        Ok((Self(ours), theirs))
    }

    /// Makes the client's end readable.
    pub(crate) fn raise(&self) {
        // It fails if the client has closed its end, which is its own affair, or has left so much
        // that no more fits: then its end is readable already.
        let _ = write(&self.0, &[1]);
    }
}
