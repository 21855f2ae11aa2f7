// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a driver is on a kernel: which dialect it speaks, and how it hears of a restore.

use std::fmt;

/// The dialect that the driver is loaded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Dialect {
    V6,
    V5,
}

impl Dialect {
    pub(crate) const ALL: [Self; 2] = [Self::V6, Self::V5];

    /// The value of the driver's parameter `abi`.
    pub(crate) fn abi(self) -> &'static str {
        match self {
            Self::V6 => "6",
            Self::V5 => "5",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V6 => "v6",
            Self::V5 => "v5",
        })
    }
}

/// What tells the driver of a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// The kernel, which has a driver for the machine's vmgenid device.
    Vmfork,
    /// The device itself.
    Acpi,
    /// Nobody: the machine has no such device.
    Trigger,
}

impl fmt::Display for Backend {
    /// As the driver says it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Vmfork => "vmfork",
            Self::Acpi => "acpi",
            Self::Trigger => "trigger",
        })
    }
}
