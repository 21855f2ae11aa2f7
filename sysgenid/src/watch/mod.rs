// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Being notified of changes, and acknowledging them. What is rebuilt for a change belongs to the
//! layers above and to the caller.

#[cfg(feature = "mio")]
mod mio;
pub(crate) mod observer;
pub(crate) mod watcher;

pub use observer::Observer;
pub use watcher::{NotAWatcher, Reconnected, Reconnector, Watcher, WatcherOptions};
