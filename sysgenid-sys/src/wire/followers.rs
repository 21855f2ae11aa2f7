// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What announces restores to a broker.

use core::fmt;
use core::str::FromStr;

/// A set of followers, with one bit for each. Later releases know more of them than this one, and a
/// client shows an unknown one by its bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Followers(pub u32);

impl Followers {
    /// None: the generation changes only when a client triggers it.
    pub const NONE: Self = Self(0);
    /// The record that the kernel logs when it has reseeded itself after a restore (`/dev/kmsg`).
    pub const KMSG: Self = Self(1);
    /// The counter of a vmclock, which the hypervisor writes (`/dev/vmclockN`).
    pub const VMCLOCK: Self = Self(2);
    /// The counter of a vmgenid device, which the hypervisor writes (`/dev/vmgenid`).
    pub const VMGENID: Self = Self(4);
    /// gVisor's file (`/proc/gvisor/checkpoint`).
    pub const GVISOR: Self = Self(8);

    /// Each known follower.
    pub const EACH: [Self; 4] = [Self::KMSG, Self::VMCLOCK, Self::VMGENID, Self::GVISOR];

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `others` are in this set.
    #[must_use]
    pub const fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// This set and `others`.
    #[must_use]
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// This set without `others`.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// The followers of this set, one by one, those that this release does not know among them.
    pub fn each(self) -> impl Iterator<Item = Self> {
        (0..u32::BITS)
            .map(|bit| Self(1 << bit))
            .filter(move |&one| self.contains(one))
    }

    /// The name of a single known follower, as `sysgenid serve --follow` takes it.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::KMSG => "kmsg",
            Self::VMCLOCK => "vmclock",
            Self::VMGENID => "vmgenid",
            Self::GVISOR => "gvisor",
            _ => return None,
        })
    }
}

/// The names with commas between them, or `none`.
///
/// ```
/// use sysgenid_sys::wire::Followers;
///
/// let both = Followers::KMSG.with(Followers::VMCLOCK);
/// assert_eq!(both.to_string(), "kmsg, vmclock");
/// assert_eq!(Followers(1 << 20).to_string(), "bit 20");
/// ```
impl fmt::Display for Followers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (number, one) in self.each().enumerate() {
            if number > 0 {
                f.write_str(", ")?;
            }
            match one.name() {
                Some(name) => f.write_str(name)?,
                None => write!(f, "bit {}", one.0.trailing_zeros())?,
            }
        }
        Ok(())
    }
}

/// No follower has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSuchFollower;

impl fmt::Display for NoSuchFollower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there are kmsg, vmclock, vmgenid and gvisor")
    }
}

impl core::error::Error for NoSuchFollower {}

/// A single follower by its name.
impl FromStr for Followers {
    type Err = NoSuchFollower;

    fn from_str(name: &str) -> Result<Self, NoSuchFollower> {
        let mut each = Self::EACH.into_iter();
        each.find(|one| one.name() == Some(name))
            .ok_or(NoSuchFollower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_follower_has_a_name_that_leads_back_to_it() {
        for one in Followers::EACH {
            assert_eq!(one.name().unwrap().parse(), Ok(one));
            assert_eq!(one.each().count(), 1);
        }
        assert_eq!("".parse::<Followers>(), Err(NoSuchFollower));
        let all = Followers::EACH
            .into_iter()
            .fold(Followers::NONE, Followers::with);
        assert!(all.each().eq(Followers::EACH));
        assert_eq!(
            all.without(Followers::KMSG).to_string(),
            "vmclock, vmgenid, gvisor"
        );
        assert_eq!(Followers::NONE.to_string(), "none");
    }
}
