// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random bytes of the kernel, and generators of random numbers whose state is never used in two
//! places. No generator's algorithm is ours.

#[cfg(feature = "rng")]
mod buffer;
pub mod entropy;
#[cfg(feature = "rand_core")]
mod snapshot_safe;
#[cfg(feature = "rng")]
mod thread;

#[cfg(all(test, feature = "rng"))]
mod tests;

#[cfg(feature = "rand_core")]
pub use snapshot_safe::SnapshotSafeRng;
#[cfg(all(feature = "rng", feature = "testing"))]
pub(crate) use thread::forget_thread;
#[cfg(feature = "rng")]
pub use thread::{ThreadRng, rng};

/// How often a draw starts over because something changed meanwhile, before the kernel's own bytes
/// are taken instead.
#[cfg(feature = "rand_core")]
const ATTEMPTS: u32 = 4;
