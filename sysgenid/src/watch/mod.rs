// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Being notified of changes, and acknowledging them. What is rebuilt for a change belongs to the
//! layers above and to the caller.

pub(crate) mod changes;
#[cfg(feature = "mio")]
mod mio;
pub(crate) mod observer;
mod pauses;
pub(crate) mod watcher;

pub use changes::{
    Acknowledged, Change, Changes, ChangesOptions, ChangesUntil, ChangesWaker, changes,
};
pub use observer::Observer;
pub use watcher::{NotAWatcher, Watcher, WatcherOptions};
