// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The descriptor with which the runtime waits for a watcher.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use sysgenid::{Result, Source};
use tokio::io::unix::AsyncFd;

use crate::runtime;

/// The number of a descriptor that the watcher owns. The runtime must have let go of it before the watcher
/// closes it.
pub(super) struct Events(RawFd);

impl Events {
    pub(super) fn register(fd: BorrowedFd<'_>, source: Option<&Source>) -> Result<AsyncFd<Self>> {
        runtime::register(Self(fd.as_raw_fd()), source).map_err(|(_, error)| error)
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}
