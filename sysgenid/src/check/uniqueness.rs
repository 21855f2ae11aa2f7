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
    #[cfg(feature = "testing")]
    played: Played,
}

/// What a test plays: nothing outside of its worlds.
#[cfg(feature = "testing")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Played {
    /// Which world it is, or 0. What was made in one is old in another, and outside.
    world: u32,
    /// The number of the last fork that was played, or 0.
    fork: u32,
}

#[cfg(feature = "testing")]
impl Played {
    const NOTHING: Self = Self { world: 0, fork: 0 };
}

impl Uniqueness {
    /// That of a system in this generation, for a [`Witness`](crate::Witness) of one's own. It
    /// leaves forks out.
    #[must_use]
    pub const fn of(generation: Generation) -> Self {
        Self {
            primary: generation.get(),
            other: 0,
            #[cfg(feature = "testing")]
            played: Played::NOTHING,
        }
    }

    #[inline]
    pub(crate) fn new(primary: u64, secondary: u32, fork: u32) -> Self {
        Self {
            primary,
            other: u64::from(secondary) << 32 | u64::from(fork),
            #[cfg(feature = "testing")]
            played: Played::NOTHING,
        }
    }

    /// The same in a world of a test, after its fork of this number.
    #[cfg(feature = "testing")]
    pub(crate) fn played(self, world: u32, fork: u32) -> Self {
        Self {
            played: Played { world, fork },
            ..self
        }
    }

    /// All of it, to be kept where only words can be.
    #[inline]
    pub(crate) fn words(self) -> [u64; WORDS] {
        [
            self.primary,
            self.other,
            #[cfg(feature = "testing")]
            {
                u64::from(self.played.world) << 32 | u64::from(self.played.fork)
            },
        ]
    }

    #[inline]
    #[cfg_attr(
        feature = "testing",
        expect(clippy::cast_possible_truncation, reason = "the low half is wanted")
    )]
    pub(crate) fn from_words(words: [u64; WORDS]) -> Self {
        Self {
            primary: words[0],
            other: words[1],
            #[cfg(feature = "testing")]
            played: Played {
                world: (words[2] >> 32) as u32,
                fork: words[2] as u32,
            },
        }
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
            #[cfg(feature = "testing")]
            played: Played {
                fork: 0,
                ..self.played
            },
            ..self
        }
    }

    #[inline]
    fn fork(self) -> u64 {
        self.other & FORK
    }
}

/// How many words it has.
pub(crate) const WORDS: usize = if cfg!(feature = "testing") { 3 } else { 2 };

const FORK: u64 = u32::MAX as u64;

impl PartialEq for Uniqueness {
    /// In one branch: what is compared is nearly always equal.
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        #[cfg(feature = "testing")]
        if self.played != other.played {
            return false;
        }
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
