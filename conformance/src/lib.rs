// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One behaviour suite, run over every implementation of the system generation device.
//!
//! - [`raw`]: system calls on the kernel driver's node.
//! - [`typed`]: the SDK, over every source that has watchers.
//! - [`asynchronous`]: the SDK in tokio's runtimes, over the same.
//! - [`model`]: random operations, compared with the model of the device.
//! - [`process`]: what a process knows of itself, across every way of forking.
//! - [`criu`]: a process that was checkpointed, restored more than once, and forked.
//! - [`stress`]: everything at once, at random, for a kernel with detectors to watch.
//! - [`hammer`]: guards, while another process changes the generation all the time.
//! - [`bumps`]: watchers in a runtime, while the generation changes a million times.
//! - [`starve`]: every call with its allocations failing in turn.
//! - [`hostile`]: the userspace driver under attack, in a separate process.
//!
//! A suite is a table of named cases, made by [`cases!`] and run by [`suite::run`], which prints
//! TAP. The names say the behaviour; they stay the same for every implementation.
//!
//! Nothing here measures how long anything takes: a virtual machine without hardware support is
//! slower by an order of magnitude. What must happen has [`background::PATIENCE`] to happen in, and
//! what must not happen is looked for a short while.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is a failed case"
)]

pub mod agents;
pub mod asynchronous;
pub mod background;
pub mod bumps;
mod capability;
pub mod child;
pub mod criu;
pub(crate) mod forked;
pub mod hammer;
mod host;
pub mod hostile;
pub mod model;
pub mod process;
mod random;
pub mod raw;
pub mod starve;
pub mod stress;
pub mod suite;
pub mod typed;
