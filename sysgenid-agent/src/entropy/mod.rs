// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The entropy barrier: it makes the kernel's random bytes new in this clone. `secret` is what is
//! mixed in, `barrier` what the kernel is asked for. No byte of a secret leaves either.

mod barrier;
mod secret;

pub use barrier::{Reseeded, is_permitted, reseed};
pub use secret::Secret;
