// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether anything has changed since: a few loads, and no waiting. What is done about a change
//! belongs to the layers above.

mod probe;
mod process_wide;
pub(crate) mod unchanged;
mod uniqueness;
mod witness;

pub use probe::Probe;
pub(crate) use process_wide::has_looked_for_sources;
#[cfg(feature = "testing")]
pub(crate) use process_wide::world;
pub use process_wide::{
    ForkDetection, ProcessWide, Protection, Refreshed, assume_restored, generation, init,
    protection, uniqueness,
};
pub use uniqueness::Uniqueness;
pub(crate) use uniqueness::WORDS;
pub use witness::{RestoreOnly, Witness};
