// SPDX-License-Identifier: Apache-2.0 OR MIT
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

mod not_registered;
mod observer;
mod orchestrator;
mod polled_probe;
mod readiness;
mod runtime;
mod watcher;

pub use not_registered::NotRegistered;
pub use observer::Observer;
pub use orchestrator::AsyncOrchestrator;
pub use polled_probe::PolledProbe;
pub use watcher::Watcher;
