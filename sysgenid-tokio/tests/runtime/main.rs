// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The crate over a real broker, in runtimes of one thread and of several.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that fails panics, also in a helper"
)]

mod scene;

mod cancelled;
mod changes;
mod closures;
mod errors;
mod hung;
mod orchestrator;
mod paused;
mod stream;
mod traits;
mod watcher;
