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
use crate::check::unchanged::{ATTEMPTS, until_unchanged};

/// What a build that fails returns. The question mark turns any error into it, and text as well.
pub type BuildError = Box<dyn StdError + Send + Sync>;

/// As [`until_unchanged`], where there is nothing else to fall back on.
#[inline(always)]
fn settled<R>(attempt: impl FnMut() -> Result<Option<R>>) -> Result<R> {
    match until_unchanged(attempt)? {
        Some(result) => Ok(result),
        None => Err(unsettled()),
    }
}

#[cold]
fn unsettled() -> Error {
    Error::new(Kind::Unsettled(ATTEMPTS))
}
