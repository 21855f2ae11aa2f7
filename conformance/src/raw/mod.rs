// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The device at the level of system calls: every row of the ABI's table of operations, and every
//! fault of the posted and shipped drivers. Needs the kernel driver (v6 dialect), and root.

mod close;
mod end_of_range;
mod faults;
mod map;
mod mapping;
mod node;
mod open;
mod poll;
mod read;
mod tracking;
mod trigger;
mod wait;
mod write;

pub use self::node::Node;
pub(crate) use self::node::OpenFile;

use crate::suite::Case;

/// What the suite leaves to others, and why.
pub const NOTES: &[&str] = &[
    "32-bit processes (fault 9) need a 32-bit program: `cargo xtask vm test` has one of its own",
    "milliseconds that overflow 32 bits (fault 5) need a 32-bit kernel: here they overflow 64",
];

/// All cases. Those that take the counter to the end of its range come last; they leave it at the
/// beginning.
pub fn cases() -> impl Iterator<Item = &'static Case<Node>> {
    [
        open::CASES,
        read::CASES,
        write::CASES,
        poll::CASES,
        tracking::CASES,
        wait::CASES,
        trigger::CASES,
        map::CASES,
        close::CASES,
        faults::CASES,
        end_of_range::CASES,
    ]
    .into_iter()
    .flatten()
}
