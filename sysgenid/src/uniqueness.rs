// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::fmt;

use crate::Generation;

/// What was unique at one moment is unique still while this has not changed: the generation of the
/// system and that of the process.
///
/// A restore duplicates the memory of a machine, a `fork` that of a process. So what must be unique
/// is checked for both. Like a [`Generation`], it is equal to another or it is not; it has no order,
/// means nothing to another process, and is no identity.
///
/// ```
/// let before = sysgenid::uniqueness();
/// // … the system may be restored here, or this may go on in a forked child …
/// assert_eq!(sysgenid::uniqueness(), before, "neither happened here");
/// ```
#[derive(Clone, Copy)]
#[repr(align(16))]
pub struct Uniqueness {
    pub(crate) primary: u64,
    /// Of another source that tells of other changes; 0 where only one is looked at.
    pub(crate) secondary: u32,
    /// Never 0 but in a glance that leaves it open, or for what ignores forks.
    pub(crate) fork: u32,
}

impl Uniqueness {
    /// That of a system in this generation, for a [`Witness`](crate::Witness) of one's own. It
    /// leaves forks out.
    #[must_use]
    pub const fn of(generation: Generation) -> Self {
        Self {
            primary: generation.get(),
            secondary: 0,
            fork: 0,
        }
    }

    /// The generation in it.
    #[inline]
    #[must_use]
    pub const fn generation(self) -> Generation {
        Generation::new(self.primary)
    }

    #[inline]
    fn local(self) -> u64 {
        u64::from(self.secondary) << 32 | u64::from(self.fork)
    }
}

impl PartialEq for Uniqueness {
    /// In one branch: what is compared is nearly always equal.
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        (self.primary ^ other.primary) | (self.local() ^ other.local()) == 0
    }
}

impl Eq for Uniqueness {}

impl fmt::Debug for Uniqueness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uniqueness")
            .field("generation", &self.primary)
            .field("secondary", &self.secondary)
            .field("fork", &self.fork)
            .finish()
    }
}
