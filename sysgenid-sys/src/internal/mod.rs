// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the other crates of this project stand on, and what is nobody else's: the memory that a whole
//! process looks at, and system calls that rustix does not have. It changes with each release.

#[cfg(feature = "std")]
mod barrier;
#[cfg(feature = "std")]
mod claims;
pub mod clock;
#[cfg(feature = "std")]
pub mod counters;
#[cfg(feature = "std")]
pub mod cpu;
pub mod entropy;
#[cfg(feature = "std")]
pub mod environment;
#[cfg(feature = "std")]
pub mod fork;
#[cfg(feature = "std")]
pub mod hardware;
#[cfg(feature = "std")]
pub mod lend;
#[cfg(feature = "std")]
pub mod published;
pub mod reseed;
pub mod socket;
#[cfg(feature = "std")]
pub(crate) mod sync;
pub mod words;
