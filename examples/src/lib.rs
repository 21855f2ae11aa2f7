// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the examples share, and the project's pages as documentation tests.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod stage;

pub use stage::{Failure, Stage};

/// Draws a number from the kernel, which reseeds itself on a restore. A number from a generator in
/// the memory of this process would be the same in every clone.
///
/// # Errors
///
/// A sandbox forbids the system call `getrandom`.
pub fn random_id() -> sysgenid::Result<u64> {
    sysgenid::entropy::array().map(u64::from_ne_bytes)
}

/// The pages whose code is compiled and run as documentation tests. `tests/pages.rs` checks that
/// none is left out.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../README.md")]
    mod readme {}
    #[doc = include_str!("../../CONTRIBUTING.md")]
    mod contributing {}
    #[doc = include_str!("../../docs/src/problem.md")]
    mod problem {}
    #[doc = include_str!("../../docs/src/quickstart.md")]
    mod quickstart {}
    #[doc = include_str!("../../docs/src/recipes.md")]
    mod recipes {}
    #[doc = include_str!("../../docs/src/hooks.md")]
    mod hooks {}
    #[doc = include_str!("../../docs/src/python.md")]
    mod python {}
    #[doc = include_str!("../../docs/src/python-random.md")]
    mod python_random {}
    #[doc = include_str!("../../docs/src/python-reference.md")]
    mod python_reference {}
    #[doc = include_str!("../../docs/src/testing-your-code.md")]
    mod testing_your_code {}
    #[doc = include_str!("../../docs/src/guarantees.md")]
    mod guarantees {}
    #[doc = include_str!("../../docs/src/command.md")]
    mod command {}
    #[doc = include_str!("../../docs/src/followers.md")]
    mod followers {}
    #[doc = include_str!("../../docs/src/platforms.md")]
    mod platforms {}
    #[doc = include_str!("../../docs/src/abi.md")]
    mod abi {}
    #[doc = include_str!("../../docs/src/architecture.md")]
    mod architecture {}
    #[doc = include_str!("../../docs/src/testing.md")]
    mod testing {}
    #[doc = include_str!("../../docs/src/benchmarks.md")]
    mod benchmarks {}
}
