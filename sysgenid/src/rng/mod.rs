// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Generators of random numbers whose state is never used in two places.

#[cfg(feature = "rng")]
mod buffer;
mod snapshot_safe;
#[cfg(feature = "rng")]
mod thread;

#[cfg(all(test, feature = "rng"))]
mod tests;

pub use snapshot_safe::SnapshotSafeRng;
#[cfg(feature = "rng")]
pub use thread::{ThreadRng, rng};

/// How often a draw starts over because something changed meanwhile, before the kernel's own bytes
/// are taken instead.
const ATTEMPTS: u32 = 4;
