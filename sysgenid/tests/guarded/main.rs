// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Guarded values, over a page that the test writes or over a number of its own.
#![cfg(all(target_os = "linux", not(sysgenid_loom)))]
#![allow(clippy::type_complexity, reason = "a guard has the type of its build")]
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod bound;
mod gate;
mod owned;
mod reader;
mod shared;
mod thread;
mod world;
