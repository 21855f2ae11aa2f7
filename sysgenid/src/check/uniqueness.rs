// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::fmt;
use std::hash::{Hash, Hasher};

use crate::base::Generation;

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
    primary: u64,
    /// In the low half the fork generation: never 0 but in a glance that leaves it open, or for what
    /// ignores forks. In the high half the low one of another source's number; 0 where only one is looked at.
    other: u64,
}

impl Uniqueness {
    /// That of a system in this generation, for a [`Witness`](crate::Witness) of one's own. It
    /// leaves forks out.
    #[must_use]
    pub const fn of(generation: Generation) -> Self {
        Self {
            primary: generation.get(),
            other: 0,
        }
    }

    #[inline]
    pub(crate) fn new(primary: u64, secondary: u32, fork: u32) -> Self {
        Self {
            primary,
            other: u64::from(secondary) << 32 | u64::from(fork),
        }
    }

    /// All of it, to be kept where only words can be.
    #[inline]
    pub(crate) fn words(self) -> [u64; 2] {
        [self.primary, self.other]
    }

    #[inline]
    pub(crate) fn from_words([primary, other]: [u64; 2]) -> Self {
        Self { primary, other }
    }

    /// The generation in it.
    #[inline]
    #[must_use]
    pub const fn generation(self) -> Generation {
        Generation::new(self.primary)
    }

    /// Whether it leaves open which fork generation this is.
    #[inline]
    pub(crate) fn is_open(self) -> bool {
        self.fork() == 0
    }

    #[inline]
    pub(crate) fn without_fork(self) -> Self {
        Self {
            other: self.other & !FORK,
            ..self
        }
    }

    #[inline]
    fn fork(self) -> u64 {
        self.other & FORK
    }
}

const FORK: u64 = u32::MAX as u64;

impl PartialEq for Uniqueness {
    /// In one branch: what is compared is nearly always equal.
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        (self.primary ^ other.primary) | (self.other ^ other.other) == 0
    }
}

impl Eq for Uniqueness {}

impl Hash for Uniqueness {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.primary, self.other).hash(state);
    }
}

impl fmt::Debug for Uniqueness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uniqueness")
            .field("generation", &self.primary)
            .field("secondary", &(self.other >> 32))
            .field("fork", &self.fork())
            .finish()
    }
}
