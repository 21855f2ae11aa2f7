// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Hooks: their order, what becomes of those that fail, panic or hang, and forks in the middle.
#![cfg(all(target_os = "linux", not(sysgenid_loom)))]
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod deadlines;
mod failures;
mod forks;
mod order;
mod scene;
mod threads;
