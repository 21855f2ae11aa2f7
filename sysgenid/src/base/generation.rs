// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::fmt;

/// A system generation: the value of the counter that changes when the system is restored or
/// cloned from a snapshot.
///
/// Two generations are equal or they are not. There is no order: the counter may wrap, and a
/// number that went "back" means a change like any other. Sysgenid's counter has 32 bits, a
/// vmclock's has 64; the numbers of two sources have nothing to do with each other.
///
/// **Not an identity.** All clones of a snapshot taken at generation `n` see the same next
/// generation, so a generation tells one clone's past from its present, never one clone from
/// another.
///
/// ```
/// use sysgenid::Generation;
///
/// let before = Generation::new(7);
/// assert_ne!(before, Generation::new(8));
/// assert_eq!(before.to_string(), "7");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Generation(u64);

impl Generation {
    /// The generation with this number.
    #[inline]
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number, for messages and for other programs. Compare generations, not numbers.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<u32> for Generation {
    #[inline]
    fn from(number: u32) -> Self {
        Self(number.into())
    }
}

impl From<Generation> for u64 {
    #[inline]
    fn from(generation: Generation) -> Self {
        generation.0
    }
}

impl TryFrom<Generation> for u32 {
    type Error = std::num::TryFromIntError;

    /// Fails for a number that only a counter of 64 bits can have.
    #[inline]
    fn try_from(generation: Generation) -> Result<Self, Self::Error> {
        generation.0.try_into()
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Generation({})", self.0)
    }
}
