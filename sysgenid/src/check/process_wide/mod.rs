// SPDX-License-Identifier: Apache-2.0 OR MIT
mod protection;
mod restored;
mod standing;
#[cfg(all(test, not(sysgenid_loom)))]
mod tests;
#[cfg(feature = "testing")]
pub(crate) mod world;

use sysgenid_sys::internal::clock::coarse_milliseconds;
use sysgenid_sys::internal::counters::{PROCESS, UNSET};
use sysgenid_sys::internal::fork;

pub use self::protection::{ForkDetection, Protection, init, protection};
pub use self::restored::assume_restored;
use self::standing::{STANDING, search};
use crate::base::Generation;
use crate::base::error::Result;
use crate::check::{Uniqueness, Witness};

/// The generation of the source that this process prefers: see [`ProcessWide`].
///
/// ```
/// let before = sysgenid::generation();
/// // … the system may be restored here …
/// assert_eq!(sysgenid::generation(), before, "it was not");
/// ```
#[inline]
#[must_use]
pub fn generation() -> Generation {
    #[cfg(feature = "testing")]
    if let Some(world) = world::here() {
        return world.generation();
    }
    let number = PROCESS.primary.load();
    if number == UNSET {
        return ProcessWide.mark().generation();
    }
    Generation::new(number)
}

/// Whether the process has looked for its sources, and so has read the environment.
pub(crate) fn has_looked_for_sources() -> bool {
    PROCESS.primary.load() != UNSET
}

/// All that this process can know of whether its memory is still unique: see [`ProcessWide`].
#[inline]
#[must_use]
pub fn uniqueness() -> Uniqueness {
    let seen = ProcessWide.glance();
    if seen.is_open() || seen.generation().get() == UNSET {
        return ProcessWide.mark();
    }
    seen
}

/// The witness of the whole process: it knows all that a process can know of whether its memory is
/// still unique, and is set up by its first use.
///
/// It looks at up to three numbers:
///
/// 1. the counter of the source that a probe would take, the driver's if there is one: see
///    [`Source::discover_for_probe`](crate::Source::discover_for_probe).
/// 2. beside a driver's, the counter that the hypervisor writes, if there is one: of a vmclock its
///    low 32 bits, for the driver's change follows.
/// 3. the fork generation, which is another one in a forked child.
///
/// [`SYSGENID_SOURCE`](crate::SOURCE_VARIABLE) names one source in place of the first two. The environment
/// is read when the process is set up, and not again.
///
/// ```
/// use sysgenid::{ProcessWide, Witness};
///
/// let before = ProcessWide.mark();
/// // … the system may be restored here, or this may go on in a forked child …
/// assert_eq!(ProcessWide.mark(), before, "neither happened here");
/// ```
///
/// # Without a source
///
/// It works on a machine that has none: then the generation is 0, and only forks are seen. No call
/// fails for lack of a source, so a program that relies on restores being seen calls
/// [`verify`](Self::verify) when it starts.
///
/// Calls that are slow anyway notice a source that appears later: the build of a guarded value, a
/// draw from `rng()`, [`mark`](Witness::mark), [`protection`](crate::protection), `verify` and
/// [`refresh`](Self::refresh). The last two look at each call, the others at most once a second. The
/// appearance of a source counts as a change. Fast calls do not look: [`generation`],
/// [`uniqueness`] and the use of a guarded value that is built already go on with the constant until
/// another call in the process has looked.
///
/// A look opens files and allocates memory. A process that enters a sandbox calls [`init`] first; a
/// sandbox that kills the process for opening a file must not be entered without a source.
///
/// # What is not guaranteed
///
/// - What its sources do not show: see [`Probe`](crate::Probe).
/// - A source that was removed or replaced is not noticed by a look: [`verify`](Self::verify) says
///   so and [`refresh`](Self::refresh) finds the new one. What a lost source missed in between shows
///   as a change at that refresh, not before.
/// - A child that shares its parent's memory (`vfork`, `clone` with `CLONE_VM`) has copied nothing
///   and sees no change.
/// - Where the kernel or a sandbox refuses `MADV_WIPEONFORK`, forks are told by the process id: see
///   the page on guarantees.
/// - A restore that no source shows: a program that learns of one in another way calls
///   [`assume_restored`].
/// - A driver of the v5 dialect waits for every open file. Nobody acknowledges for this witness, so
///   it does not use such a driver, and `verify` says so. If that is all there is, the process has
///   no source.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessWide;

/// What [`ProcessWide::refresh`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "it tells whether everything that is guarded will be rebuilt"]
#[non_exhaustive]
pub enum Refreshed {
    /// The process looks at what it looked at before.
    Unchanged,
    /// The process looks at another source, or at one more. It counts as a change: what happened
    /// between the two is not known.
    Moved,
}

impl Witness for ProcessWide {
    #[cold]
    fn mark(&self) -> Uniqueness {
        #[cfg(feature = "testing")]
        if let Some(world) = world::here() {
            return world.mark();
        }
        // First: a source that it finds is a change, which the mark is to have.
        let _ = self.shows_restores();
        let fork = fork::current();
        let (primary, secondary) = (PROCESS.primary.load(), PROCESS.secondary.load_low());
        // No two of these are the same: beside a counter of 64 bits there is no other one.
        fork::renew_for(primary.rotate_left(32) ^ u64::from(secondary));
        Uniqueness::new(primary, secondary, fork)
    }

    #[inline]
    fn glance(&self) -> Uniqueness {
        #[cfg(feature = "testing")]
        if let Some(world) = world::here() {
            return world.glance();
        }
        // The fork generation first: whoever sees it as it is after a refresh then sees the
        // counters of that refresh.
        let fork = fork::glance();
        Uniqueness::new(PROCESS.primary.load(), PROCESS.secondary.load_low(), fork)
    }

    #[inline]
    fn glance_at_restores(&self) -> Uniqueness {
        #[cfg(feature = "testing")]
        if let Some(world) = world::here() {
            return world.glance_at_restores();
        }
        Uniqueness::new(PROCESS.primary.load(), PROCESS.secondary.load_low(), 0)
    }

    #[cold]
    fn shows_restores(&self) -> bool {
        #[cfg(feature = "testing")]
        if let Some(world) = world::here() {
            return world.shows_restores();
        }
        STANDING.has_source(coarse_milliseconds, search)
    }
}

impl ProcessWide {
    /// Looks for sources again: for those that appeared after the process was set up, and in the
    /// place of those that were removed or replaced. For a start-up that has loaded a driver, or a
    /// timer; not for the hot path.
    ///
    /// A source that works stays, unless there is now one that [discovery](crate::Source) prefers. So does
    /// one that this process may no longer open, but has mapped.
    ///
    /// # Errors
    ///
    /// As [`Source::discover_for_probe`](crate::Source::discover_for_probe) and [`Probe::open_on`](crate::Probe::open_on) if there is no source
    /// that works. Then the process looks at what it looked at before.
    pub fn refresh(self) -> Result<Refreshed> {
        #[cfg(feature = "testing")]
        if let Some(world) = world::here() {
            return world.verify().map(|()| Refreshed::Unchanged);
        }
        STANDING.refresh(search)
    }

    /// Checks that the process sees what it relies on. Some tens of system calls, for a health
    /// check. A process without a source takes one that is there by now, as
    /// [`refresh`](Self::refresh) does.
    ///
    /// A broker is asked whether it is there, and gets five seconds for the answer: the page of one
    /// that has ended can still be read, and does not change. A page file that is not named by its
    /// broker's directory has no broker that could be asked.
    ///
    /// # Errors
    ///
    /// - [`is_absent`](crate::Error::is_absent) if there is no source, or one that is in use was removed;
    /// - [`is_lost`](crate::Error::is_lost) if it is a broker's directory and no broker runs there, and
    ///   [`is_timeout`](crate::Error::is_timeout) if that one does not answer;
    /// - [`is_broken`](crate::Error::is_broken) if one that is in use was replaced, or if there is a
    ///   second one now that was not there when the process looked: [`refresh`](Self::refresh);
    /// - the error of [`Probe::open_on`](crate::Probe::open_on) if the driver's is there and cannot be used,
    ///   such as [`is_permission`](crate::Error::is_permission), or
    ///   [`is_unsupported`](crate::Error::is_unsupported) for the v5 dialect.
    ///
    /// A counter of the hypervisor's that this process may not open is no error if there is a
    /// driver, because that is how distributions ship it: [`protection`](crate::protection) tells what is
    /// used.
    ///
    /// ```no_run
    /// // A server that must not go on unprotected.
    /// sysgenid::ProcessWide.verify()?;
    /// # Ok::<(), sysgenid::Error>(())
    /// ```
    pub fn verify(self) -> Result<()> {
        #[cfg(feature = "testing")]
        if let Some(world) = world::here() {
            return world.verify();
        }
        STANDING.verify(search)
    }
}
