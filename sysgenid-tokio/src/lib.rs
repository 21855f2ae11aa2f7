// SPDX-License-Identifier: Apache-2.0 OR MIT
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

mod not_registered;
mod orchestrator;
mod readiness;
mod runtime;
mod watcher;

pub use not_registered::NotRegistered;
pub use orchestrator::AsyncOrchestrator;
pub use watcher::Watcher;
