// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::error::Error as StdError;
use std::fmt;

use sysgenid::Error;

/// Why a watcher could not be registered with a runtime, and the watcher itself, with all that it
/// has not acknowledged.
pub struct NotRegistered {
    watcher: sysgenid::Watcher,
    error: Error,
}

impl NotRegistered {
    pub(crate) fn new(watcher: sysgenid::Watcher, error: Error) -> Self {
        Self { watcher, error }
    }

    /// Why: [`is_runtime`](Error::is_runtime) without a runtime, else the error of `epoll_ctl`.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The watcher, and why.
    #[must_use]
    pub fn into_parts(self) -> (sysgenid::Watcher, Error) {
        (self.watcher, self.error)
    }
}

impl fmt::Display for NotRegistered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl fmt::Debug for NotRegistered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NotRegistered").field(&self.error).finish()
    }
}

impl StdError for NotRegistered {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.source()
    }
}

impl From<NotRegistered> for Error {
    /// Drops the watcher.
    fn from(refused: NotRegistered) -> Self {
        refused.error
    }
}
