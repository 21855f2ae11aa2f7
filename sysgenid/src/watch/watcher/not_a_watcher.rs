// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::error::Error as StdError;
use std::fmt;

use rustix::fd::OwnedFd;

use crate::base::Error;

/// Why [`Watcher::from_fd`](crate::Watcher::from_fd) could not make a watcher of a descriptor, and the
/// descriptor itself, which is as it was.
///
/// ```
/// use std::os::fd::OwnedFd;
/// use sysgenid::Watcher;
///
/// let null = OwnedFd::from(std::fs::File::open("/dev/null")?);
/// let refused = Watcher::from_fd(null).unwrap_err();
/// let (null, error) = refused.into_parts();
/// assert!(error.is_unsupported());
/// assert!(std::fs::File::from(null).metadata().is_ok(), "it is open still");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct NotAWatcher {
    fd: OwnedFd,
    error: Error,
}

impl NotAWatcher {
    pub(super) fn new(fd: OwnedFd, error: Error) -> Self {
        Self { fd, error }
    }

    /// Why: see [`Watcher::from_fd`](crate::Watcher::from_fd).
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The descriptor, and why it was not taken.
    #[must_use]
    pub fn into_parts(self) -> (OwnedFd, Error) {
        (self.fd, self.error)
    }
}

impl fmt::Display for NotAWatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl fmt::Debug for NotAWatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NotAWatcher").field(&self.error).finish()
    }
}

impl StdError for NotAWatcher {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.source()
    }
}

impl From<NotAWatcher> for Error {
    /// Closes the descriptor.
    fn from(refused: NotAWatcher) -> Self {
        refused.error
    }
}
