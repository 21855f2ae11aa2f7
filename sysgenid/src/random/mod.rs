// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random bytes of the kernel, and generators of random numbers whose state is never used in two
//! places. No generator's algorithm is ours.

#[cfg(feature = "rng")]
mod buffer;
pub mod entropy;
#[cfg(feature = "rand_core")]
mod kernel;
#[cfg(feature = "rand_core")]
mod snapshot_safe;
#[cfg(feature = "rng")]
mod thread;
mod versions;

#[cfg(all(test, feature = "rng", feature = "testing"))]
mod tests;

#[cfg(feature = "rand_core")]
pub use kernel::KernelRng;
#[cfg(feature = "rand_core")]
pub use snapshot_safe::SnapshotSafeRng;
#[cfg(all(feature = "rng", feature = "testing"))]
pub(crate) use thread::forget_thread;
#[cfg(feature = "rng")]
pub use thread::{ThreadRng, rng};

/// Ends a draw that the kernel gives no bytes for.
#[cfg(any(feature = "rng", feature = "rand_core_06"))]
#[cold]
#[expect(
    clippy::panic,
    reason = "the trait has no error, and the documentation says it"
)]
fn give_up(error: &crate::Error) -> ! {
    panic!("no random numbers: {error}")
}
