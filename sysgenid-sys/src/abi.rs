// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Numbers of the `/dev/sysgenid` ABI.
//!
//! All ioctls are `_IO(type, nr)` with the argument passed by value. The value of `_IO` differs
//! between architectures (its direction bits are zero on x86 and Arm, and not on PowerPC, MIPS and
//! SPARC), so the opcodes are built with the platform's own rule.

use rustix::ioctl::{Opcode, opcode};

/// The node of the kernel driver.
pub const DEVICE_PATH: &str = "/dev/sysgenid";

/// What every driver of the device has registered it as, and so the kernel's name of it.
pub const DEVICE_NAME: &str = "sysgenid";

/// Major number of Linux "misc" devices, which the device is one of.
pub const MISC_MAJOR: u32 = 10;

/// Bytes of the counter: what `read` returns and what `write` takes.
pub const COUNTER_LEN: usize = 4;

/// Bytes that can be mapped, from offset 0. The counter is the `u32` at their start.
pub const PAGE_LEN: usize = 4096;

/// ioctl type of the v5 and v6 dialects.
pub const IOCTL_TYPE: u8 = 0xE4;

/// ioctl type of the v4 dialect.
pub const V4_IOCTL_TYPE: u8 = 0x2d;

/// The dialects of `/dev/sysgenid`, by the version of the posting that introduced them.
///
/// One node, several meanings for the same numbers: see the table in the project's ABI document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// January 2021. Its ioctls have another type. Recognised so that it can be refused.
    V4,
    /// February 2021: `WAIT_WATCHERS`, `FORCE_GEN_UPDATE`; every open file is tracked.
    V5,
    /// v6 to v8 and the Amazon Linux kernels: tracking is opt-in and has its own ioctl.
    V6,
}

impl Dialect {
    /// Its name, as in this project's driver's attribute `dialect`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V5 => "v5",
            Self::V6 => "v6",
        }
    }
}

/// `SYSGENID_SET_WATCHER_TRACKING` (v6): whether waiting for watchers waits for this one.
pub const SET_WATCHER_TRACKING: Opcode = opcode::none(IOCTL_TYPE, 1);
/// `SYSGENID_WAIT_WATCHERS` (v6): wait until no tracked watcher is outdated.
pub const WAIT_WATCHERS: Opcode = opcode::none(IOCTL_TYPE, 2);
/// `SYSGENID_TRIGGER_GEN_UPDATE` (v6): change the generation.
pub const TRIGGER_GEN_UPDATE: Opcode = opcode::none(IOCTL_TYPE, 3);

/// `SYSGENID_WAIT_WATCHERS` (v5). The same number as v6's [`SET_WATCHER_TRACKING`].
pub const V5_WAIT_WATCHERS: Opcode = opcode::none(IOCTL_TYPE, 1);
/// `SYSGENID_FORCE_GEN_UPDATE` (v5). The same number as v6's [`WAIT_WATCHERS`].
pub const V5_FORCE_GEN_UPDATE: Opcode = opcode::none(IOCTL_TYPE, 2);

/// `SYSGENID_GET_OUTDATED_WATCHERS` (v4): without side effects, so it tells v4 from v5.
pub const V4_GET_OUTDATED_WATCHERS: Opcode = opcode::none(V4_IOCTL_TYPE, 1);
