// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::error::Error as StdError;
use std::fmt;

use sysgenid::Error;

/// Why something could not be registered with a runtime, and the thing itself: a watcher comes back
/// with all that it has not acknowledged.
///
/// ```
/// let broker = sysgenid_broker::testing::Broker::start()?;
/// let watcher = sysgenid::Watcher::open_at(broker.path())?;
///
/// // Nothing can be awaited here, outside of a runtime.
/// let refused = sysgenid_tokio::Watcher::new(watcher).unwrap_err();
/// assert!(refused.error().is_runtime());
/// let (watcher, _error) = refused.into_parts();
/// assert_eq!(watcher.try_changed()?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct NotRegistered<T = sysgenid::Watcher> {
    /// Boxed, because results are moved about, and few of them are errors.
    what: Box<T>,
    error: Error,
}

impl<T> NotRegistered<T> {
    pub(crate) fn new(what: T, error: Error) -> Self {
        let what = Box::new(what);
        Self { what, error }
    }

    /// Why: [`is_runtime`](Error::is_runtime) without a runtime or in one that is shutting down,
    /// else the error of `epoll_ctl`.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// What was to be registered, and why it was not.
    #[must_use]
    pub fn into_parts(self) -> (T, Error) {
        (*self.what, self.error)
    }
}

impl<T> fmt::Display for NotRegistered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T> fmt::Debug for NotRegistered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NotRegistered").field(&self.error).finish()
    }
}

impl<T> StdError for NotRegistered<T> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.source()
    }
}

impl<T> From<NotRegistered<T>> for Error {
    /// Drops what was to be registered.
    fn from(refused: NotRegistered<T>) -> Self {
        refused.error
    }
}
