// SPDX-License-Identifier: Apache-2.0 OR MIT
//! For crates that bring the SDK to a runtime, such as `sysgenid-tokio`: the errors of what only
//! they do, so that their callers have one type of error to look at, and what only they ask.

use std::error::Error as StdError;
use std::io;

use crate::error::{Error, Kind, Result};
use crate::{Source, Watcher, watcher};

/// Nothing can wait here: there is no runtime, or it is shutting down. `message` is a clause that
/// says what to do.
#[must_use]
pub fn no_runtime(message: &'static str, source: Option<&Source>) -> Error {
    locate(Error::new(Kind::Runtime(message)), source)
}

/// What is asked for cannot be done so, though the source works. `message` is a clause that says what
/// to do.
#[must_use]
pub fn unsupported(message: &'static str, source: Option<&Source>) -> Error {
    locate(Error::new(Kind::Unsupported(message)), source)
}

/// The event loop did not take a descriptor.
#[must_use]
pub fn not_registered(error: &io::Error, source: Option<&Source>) -> Error {
    locate(Error::io("registering with the event loop", error), source)
}

/// A helper that waits where the runtime may not could not be started.
#[must_use]
pub fn no_helper(error: &io::Error, source: Option<&Source>) -> Error {
    locate(Error::io("starting a thread", error), source)
}

/// The caller's own rebuild failed.
#[must_use]
pub fn rebuild(
    error: impl Into<Box<dyn StdError + Send + Sync>>,
    source: Option<&Source>,
) -> Error {
    locate(Error::rebuild(error), source)
}

/// The deadline passed while tracked watchers had not acknowledged the current generation.
#[must_use]
pub fn watchers_timed_out(source: Option<&Source>) -> Error {
    locate(watcher::watchers_timed_out(), source)
}

/// For those who wait for the next change while one is not acknowledged: whether the broker is
/// there still. [`Watcher::try_changed`] does not tell as long as there is a change to handle.
///
/// # Errors
///
/// [`is_lost`](Error::is_lost); the error of `poll`.
pub fn check_broker(watcher: &Watcher) -> Result<()> {
    watcher.check_broker()
}

fn locate(error: Error, source: Option<&Source>) -> Error {
    match source {
        Some(source) => error.at(source.path()),
        None => error,
    }
}
