// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Values that must not outlive a change: checked before their use, and after it. Nothing here waits
//! for a change.

mod owned;
mod published;
mod reader;
mod shared;
mod thread;
mod turn;
mod value;

pub use owned::Guarded;
pub use reader::SharedReader;
pub use shared::SharedGuarded;
pub use thread::ThreadGuarded;

use std::error::Error as StdError;

use crate::base::error::{Error, Kind};
use crate::base::sync::{Ordering, fence};
use crate::check::{Uniqueness, Witness};

/// How often a call starts over because something changed meanwhile. A change is a restore of the
/// whole system, or a fork: four in the time of one use is not a system that is up.
const ATTEMPTS: u32 = 4;

/// What a caller's build fails with.
type BuildError = Box<dyn StdError + Send + Sync>;

/// Whether nothing has changed since `mark`, after the value was used.
#[inline]
fn is_unchanged<W: Witness>(witness: &W, mark: &Uniqueness) -> bool {
    // What the use has read was read before this looks: if it saw something of after the change,
    // this sees the change. The partner is the release order of whatever the use has seen.
    fence(Ordering::Acquire);
    witness.glance() == *mark || is_still(witness, mark)
}

/// The same, if a glance could not tell.
#[cold]
fn is_still<W: Witness>(witness: &W, mark: &Uniqueness) -> bool {
    witness.mark() == *mark
}

#[cold]
fn unsettled() -> Error {
    Error::new(Kind::Unsettled(ATTEMPTS))
}
