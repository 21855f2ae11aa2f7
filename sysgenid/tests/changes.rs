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

#[path = "changes/fork.rs"]
mod fork;
#[path = "changes/hung.rs"]
mod hung;
#[path = "changes/scene.rs"]
mod scene;
#[path = "changes/sources.rs"]
mod sources;
#[path = "changes/told_again.rs"]
mod told_again;
