// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The device's ioctls on any open file of the node. `sysgenid_sys::device::Device` has them for a
//! file that it owns and can write; the cases also use files that are shared or read-only.

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::ioctl::{IntegerSetter, Opcode, ioctl};
use sysgenid_sys::abi::{self, Dialect};

pub(crate) fn set_watcher_tracking(
    file: impl AsFd,
    dialect: Dialect,
    tracked: bool,
) -> Result<(), Errno> {
    match dialect {
        Dialect::V6 => by_value::<{ abi::SET_WATCHER_TRACKING }>(file, usize::from(tracked)),
        _ => Err(Errno::OPNOTSUPP),
    }
}

/// Waits for the watchers; 0 ms is for ever.
pub(crate) fn wait_watchers(file: impl AsFd, dialect: Dialect, ms: u32) -> Result<(), Errno> {
    match dialect {
        Dialect::V5 => by_value::<{ abi::V5_WAIT_WATCHERS }>(file, ms as usize),
        _ => by_value::<{ abi::WAIT_WATCHERS }>(file, ms as usize),
    }
}

pub(crate) fn trigger_gen_update(file: impl AsFd, dialect: Dialect, min: u32) -> Result<(), Errno> {
    match dialect {
        Dialect::V5 => by_value::<{ abi::V5_FORCE_GEN_UPDATE }>(file, min as usize),
        _ => by_value::<{ abi::TRIGGER_GEN_UPDATE }>(file, min as usize),
    }
}

/// An ioctl with a number as its argument.
pub(crate) fn by_value<const OPCODE: Opcode>(
    file: impl AsFd,
    argument: usize,
) -> Result<(), Errno> {
    // SAFETY: The cases pass files of the node under test, whose ioctls take numbers by value. They
    // use codes of its own types only, which nothing before the driver gives a meaning.
    unsafe { ioctl(file, IntegerSetter::<OPCODE>::new_usize(argument)) }
}
