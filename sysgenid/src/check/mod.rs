// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether anything has changed since: a few loads, and no waiting. What is done about a change
//! belongs to the layers above.

mod probe;
mod process_wide;
pub(crate) mod unchanged;
mod uniqueness;
mod witness;

pub use probe::Probe;
pub use process_wide::{ProcessWide, Refreshed, assume_restored, generation, uniqueness};
pub use uniqueness::Uniqueness;
pub use witness::{RestoreOnly, Witness};
