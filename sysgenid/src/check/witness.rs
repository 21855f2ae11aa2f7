// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::sync::Arc;

use sysgenid_sys::internal::fork;

#[cfg(feature = "testing")]
use crate::check::world;
use crate::check::{Probe, Uniqueness};

/// What a guard asks whether its value is still unique.
///
/// [`ProcessWide`](crate::ProcessWide) knows all that this process can know, and is what most want.
/// A [`Probe`] looks at one source of the caller's choice, and at forks.
///
/// The trait may be implemented: by a program that learns of restores in its own way, for example. A
/// test needs no witness of its own, because `sysgenid::testing` (feature `testing`) has one.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use sysgenid::{Generation, Uniqueness, Witness};
///
/// /// Counts the restores that the container's runtime tells this program of.
/// struct Told(AtomicU64);
///
/// impl Witness for Told {
///     fn mark(&self) -> Uniqueness {
///         Uniqueness::of(Generation::new(self.0.load(Ordering::Acquire)))
///     }
/// }
/// # assert_eq!(Told(AtomicU64::new(3)).glance(), Told(AtomicU64::new(3)).mark());
/// ```
pub trait Witness {
    /// How things are now: equal to an earlier one if, and only if, nothing changed in between that
    /// this witness can see.
    fn mark(&self) -> Uniqueness;

    /// The same, looked at in a hurry: never equal to an earlier [`mark`](Self::mark) if something
    /// changed since. It may differ from it although nothing did; whoever minds asks for the mark
    /// then.
    #[inline]
    fn glance(&self) -> Uniqueness {
        self.mark()
    }

    /// A glance that leaves forks out: what [`RestoreOnly`] takes. Only a witness that can save
    /// something by it has one of its own.
    #[inline]
    fn glance_at_restores(&self) -> Uniqueness {
        self.glance().without_fork()
    }

    /// Returns whether this witness shows restores. Where it does not, a generator of random numbers
    /// keeps no state, and draws from the kernel instead.
    ///
    /// The call may look for a source, so it is for slow paths. A witness that has once returned true
    /// must not return false later. [`ProcessWide`](crate::ProcessWide) returns false while it has no
    /// source; the default is true.
    fn shows_restores(&self) -> bool {
        true
    }
}

/// The generation of its source, and forks of the process.
impl Witness for Probe {
    fn mark(&self) -> Uniqueness {
        let fork = fork::current();
        let generation = self.generation().get();
        fork::renew_for(generation);
        let seen = Uniqueness::new(generation, 0, fork);
        #[cfg(feature = "testing")]
        let seen = seen.played(0, world::fork_here());
        seen
    }

    #[inline]
    fn glance(&self) -> Uniqueness {
        let fork = fork::glance();
        let seen = Uniqueness::new(self.generation().get(), 0, fork);
        #[cfg(feature = "testing")]
        let seen = seen.played(0, world::fork_here());
        seen
    }

    #[inline]
    fn glance_at_restores(&self) -> Uniqueness {
        Uniqueness::of(self.generation())
    }
}

impl<W: Witness + ?Sized> Witness for &W {
    fn mark(&self) -> Uniqueness {
        (**self).mark()
    }

    #[inline]
    fn glance(&self) -> Uniqueness {
        (**self).glance()
    }

    #[inline]
    fn glance_at_restores(&self) -> Uniqueness {
        (**self).glance_at_restores()
    }

    fn shows_restores(&self) -> bool {
        (**self).shows_restores()
    }
}

impl<W: Witness + ?Sized> Witness for Arc<W> {
    fn mark(&self) -> Uniqueness {
        (**self).mark()
    }

    #[inline]
    fn glance(&self) -> Uniqueness {
        (**self).glance()
    }

    #[inline]
    fn glance_at_restores(&self) -> Uniqueness {
        (**self).glance_at_restores()
    }

    fn shows_restores(&self) -> bool {
        (**self).shows_restores()
    }
}

/// A witness that takes no notice of forks: for what a forked child is meant to have in common with
/// its parent, such as the ticket keys of a server that forks its workers.
///
/// Not for anything whose use in two processes gives one of them away, such as a generator of
/// random numbers or a nonce that is counted.
///
/// It does not see what a process [assumes](crate::assume_restored) by itself. Around
/// [`ProcessWide`](crate::ProcessWide) it does not see that a
/// [refresh](crate::ProcessWide::refresh) has moved to another source, or that a first source has
/// appeared, if that has the same number: a driver that is loaded late begins at 0, the number of a
/// process without a source.
#[derive(Clone, Copy, Debug)]
pub struct RestoreOnly<W>(pub W);

impl<W: Witness> Witness for RestoreOnly<W> {
    fn mark(&self) -> Uniqueness {
        self.0.mark().without_fork()
    }

    #[inline]
    fn glance(&self) -> Uniqueness {
        self.0.glance_at_restores()
    }

    fn shows_restores(&self) -> bool {
        self.0.shows_restores()
    }
}
