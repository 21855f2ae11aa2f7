// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The thread that runs the hooks, over a real broker.
#![cfg(all(target_os = "linux", not(sysgenid_loom)))]
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[path = "../../../conformance/tests/common/child.rs"]
mod child;
mod failing;
mod forks;
mod holding;
mod quiescing;
mod resting;
mod scene;
mod sources;
mod stopping;
