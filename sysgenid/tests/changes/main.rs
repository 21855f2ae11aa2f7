// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Changes of whichever source there is: brokers on threads and in processes of their own, pages, and
//! real forks.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that fails panics, also in a helper"
)]

#[path = "../../../conformance/tests/common/child.rs"]
mod child;
mod fork;
mod hung;
mod scene;
mod sources;
mod told_again;
