// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Why a generation changed.

use std::fmt;

use sysgenid_sys::wire;

/// Why the generation changed, as far as the source tells.
///
/// It is for logs. A program that is told of a change handles it as a restore, whatever its cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The machine was restored from a snapshot, or cloned.
    Restore,
    /// The machine was restored or cloned, and a broker does not know whether the kernel's entropy is
    /// new: what was drawn since may be what another clone has drawn. `sysgenid trigger --reseed` makes
    /// it new, and all look again.
    EntropyUnknown,
    /// The machine may have been restored: a broker has missed what would have announced it.
    Possible,
    /// A program asked for a change, as one does that restores a container.
    Trigger,
    /// A cause with this number, which a broker gave that is newer than this crate.
    Other(u32),
}

impl Cause {
    /// That of a broker; `None` if nothing has changed.
    pub(crate) fn of(cause: wire::Cause) -> Option<Self> {
        Some(match cause {
            wire::Cause::NONE => return None,
            wire::Cause::RESTORE => Self::Restore,
            wire::Cause::ENTROPY_UNKNOWN => Self::EntropyUnknown,
            wire::Cause::POSSIBLE => Self::Possible,
            wire::Cause::TRIGGER => Self::Trigger,
            wire::Cause(number) => Self::Other(number),
        })
    }
}

/// One word, such as `restore`, `entropy-unknown`, `possible-restore` or `trigger`.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Restore => "restore",
            Self::EntropyUnknown => "entropy-unknown",
            Self::Possible => "possible-restore",
            Self::Trigger => "trigger",
            Self::Other(number) => return write!(f, "cause-{number}"),
        })
    }
}
