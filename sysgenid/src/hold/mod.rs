// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Values that must not outlive a change: checked before their use, and after it. Nothing here waits
//! for a change, or is told of one.

mod bound;
mod gate;
mod handled;
mod loaded;
mod owned;
mod published;
mod reader;
mod shared;
mod stale;
mod thread;
mod turn;
mod value;
mod waiting;

pub use bound::Bound;
pub use gate::{Gate, Pass};
pub use loaded::Loaded;
pub use owned::Guarded;
pub use reader::SharedReader;
pub use shared::SharedGuarded;
pub use stale::Stale;
pub use thread::ThreadGuarded;

use std::error::Error as StdError;

use crate::base::error::{Error, Kind, Result};
use crate::check::unchanged::{ATTEMPTS, again};

/// What a build that fails returns. The question mark turns any error into it, and text as well.
pub type BuildError = Box<dyn StdError + Send + Sync>;

/// What the `first` attempt has returned, or if a change has overtaken that, one of a few more.
#[inline(always)]
fn settled<R>(first: Option<R>, attempt: impl FnMut() -> Result<Option<R>>) -> Result<R> {
    match first {
        Some(result) => Ok(result),
        None => settled_again(attempt),
    }
}

#[cold]
fn settled_again<R>(attempt: impl FnMut() -> Result<Option<R>>) -> Result<R> {
    again(attempt)?.ok_or_else(unsettled)
}

#[cold]
fn unsettled() -> Error {
    Error::new(Kind::Unsettled(ATTEMPTS))
}
