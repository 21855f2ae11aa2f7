// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The device at the level of system calls: every row of the ABI's table of operations, and every
//! fault of the posted and shipped drivers. Needs the kernel driver, and root.
//!
//! What the dialects have in common are the same cases. A bystander of a case that others wait in
//! acknowledges or closes, because v5 tracks every open file.

mod close;
mod end_of_range;
mod faults;
mod fdinfo;
mod fork;
pub(crate) mod ioctls;
mod map;
pub(crate) mod mapping;
mod node;
mod open;
mod poll;
mod read;
mod remap;
mod sysfs;
mod tracing;
mod tracking;
mod trigger;
mod uevent;
mod v5_only;
mod v6_only;
pub mod vmclock;
pub mod vmgenid;
mod wait;
mod write;

pub(crate) use self::mapping::{Mapping, Request};
pub use self::node::Node;
pub(crate) use self::node::OpenFile;

use sysgenid_sys::abi::Dialect;

use crate::suite::Case;

/// What the suite leaves to others, and why.
pub const NOTES: &[&str] =
    &["32-bit processes (fault 9) need a 32-bit program: `cargo xtask vm test` has its own"];

/// All cases of a dialect. Those that take the counter to the end of its range come last; they
/// leave it at the beginning.
pub fn cases(dialect: Dialect) -> impl Iterator<Item = &'static Case<Node>> {
    let own: [&[Case<Node>]; 2] = match dialect {
        Dialect::V5 => [v5_only::CASES, &[]],
        _ => [v6_only::CASES, tracking::CASES],
    };
    let common = [
        open::CASES,
        read::CASES,
        write::CASES,
        poll::CASES,
        wait::CASES,
        trigger::CASES,
        map::CASES,
        remap::CASES,
        fork::CASES,
        close::CASES,
        faults::CASES,
        fdinfo::CASES,
        sysfs::CASES,
        tracing::CASES,
    ];
    let last = [end_of_range::CASES];
    common.into_iter().chain(own).chain(last).flatten()
}
