// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The broker as its clients and its owner see it, through a client that speaks the wire format
//! itself: the SDK has its own tests.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that fails panics, also in a helper"
)]

mod awaiting;
mod child;
mod client;

mod directory;
mod follow;
mod forks;
mod hostile;
mod idle;
mod incidents;
mod kill;
mod kmsg;
mod limits;
mod notices;
mod ordering;
mod phase;
mod played;
mod refusals;
mod requests;
mod restart;
#[allow(dead_code, reason = "a case is reported elsewhere")]
#[path = "../../../conformance/tests/common/skipped.rs"]
mod skipped;
mod stress;
mod users;
mod waits;
