// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::fmt;
use std::sync::Arc;

use zeroize::Zeroize;

use super::loaded::Loaded;
use super::reader::SharedReader;
use super::turn::Turn;
use super::value::{self, Wiped};
use super::{BuildError, settled};
use crate::base::Generation;
use crate::base::error::Result;
use crate::base::sync::constant;
use crate::check::unchanged::is_unchanged;
use crate::check::{ProcessWide, Uniqueness, Witness};
use crate::hold::published::Published;

/// A cached secret that many threads use, rebuilt when the system was restored or the process
/// forked.
///
/// The same promises as [`Guarded`](crate::Guarded)'s, through a shared reference: for a `static`,
/// or behind an [`Arc`](std::sync::Arc). Who uses the value waits for nobody as long as it is up to
/// date, and writes to no memory that other threads use.
///
/// ```
/// use sysgenid::SharedGuarded;
///
/// static TICKET_KEY: SharedGuarded<[u8; 32]> =
///     SharedGuarded::new(|_generation| Ok(sysgenid::entropy::array()?));
///
/// // In any thread:
/// let tag = TICKET_KEY.with(|key| key.iter().fold(0_u8, |sum, byte| sum ^ byte))?;
/// # let _ = tag;
/// # Ok::<(), sysgenid::Error>(())
/// ```
///
/// A build that captures something is [named](crate::Guarded#how-it-is-named) as a `Guarded`'s.
///
/// # What is guaranteed
///
/// - [`with`](Self::with) returns a result, and [`transaction`](Self::transaction) commits, only if
///   the witness shows no change from before the use until after it.
/// - After a change, one thread rebuilds. The others wait for it. If it fails, so do those that
///   waited, with the same error; if it panics, with one that says so. The next call builds again.
/// - Whoever still uses the old value goes on safely; its result is then thrown away. The last of
///   them wipes the value and drops it.
/// - A rebuild that fails or panics leaves no old value behind.
/// - A computation that panics leaves the value as it is.
///
/// # What is not
///
/// - That a use never waits: after a change it waits for the build, as long as that takes. A build
///   that uses its own guard gets the error
///   [`is_reentrant`](crate::Error::is_reentrant); two guards whose builds use each other, in two
///   threads, wait for ever.
/// - That the first use in a thread allocates nothing.
/// - That a forked child wipes the old value, if other threads of the parent were using it during
///   the fork: in the child they never finish.
/// - And what [`Guarded`](crate::Guarded) does not promise either.
pub struct SharedGuarded<T, W = ProcessWide, B = fn(Generation) -> Result<T, BuildError>> {
    pub(super) witness: W,
    /// Empty before the first use, and during a rebuild.
    published: Published<Built<T>>,
    turn: Turn,
    wipe: fn(&mut T),
    build: B,
}

/// A value, and what the witness showed when it was built.
pub(super) struct Built<T> {
    pub(super) mark: Uniqueness,
    /// Tells it from another with the same mark.
    pub(super) number: u64,
    value: Wiped<T>,
}

impl<T> Built<T> {
    #[inline]
    pub(super) fn get(&self) -> &T {
        self.value.get()
    }
}

impl<T, B: Fn(Generation) -> Result<T, BuildError>> SharedGuarded<T, ProcessWide, B> {
    constant! {
        /// Guards what `build` returns with [`ProcessWide`], and wipes what it returned before. Builds
        /// nothing yet.
        ///
        /// `build` must take its entropy from the kernel: see [`Guarded::new`](crate::Guarded::new).
        pub fn new(build: B) -> Self
        where
            T: Zeroize,
        {
            Self::with_witness(ProcessWide, build)
        }
    }

    constant! {
        /// As [`new`](Self::new), but leaves the wiping to the value: for one that wipes itself when it
        /// is dropped, or is not a secret.
        pub fn unwiped(build: B) -> Self {
            Self::unwiped_with_witness(ProcessWide, build)
        }
    }
}

impl<T, W: Witness, B: Fn(Generation) -> Result<T, BuildError>> SharedGuarded<T, W, B> {
    constant! {
        /// As [`new`](SharedGuarded::new), with a witness that the caller chooses: of
        /// [`RestoreOnly`](crate::RestoreOnly), for example, if forked workers share the value.
        pub fn with_witness(witness: W, build: B) -> Self
        where
            T: Zeroize,
        {
            Self::wiped_by(T::zeroize, witness, build)
        }
    }

    constant! {
        /// As [`unwiped`](SharedGuarded::unwiped), with a witness that the caller chooses.
        pub fn unwiped_with_witness(witness: W, build: B) -> Self {
            Self::wiped_by(value::leave, witness, build)
        }
    }

    constant! {
        fn wiped_by(wipe: fn(&mut T), witness: W, build: B) -> Self {
            Self {
                witness,
                published: Published::empty(),
                turn: Turn::new(),
                wipe,
                build,
            }
        }
    }

    /// Lets `compute` use the value, and returns its result only if nothing changed from before the
    /// use until after it. Otherwise rebuilds and computes again.
    ///
    /// `compute` may so run more than once: it should have no effect outside but its result. It may
    /// use the guard again.
    ///
    /// # Errors
    ///
    /// [`is_rebuild`](crate::Error::is_rebuild) if building failed, in this thread or in the one
    /// that it waited for; [`is_unsettled`](crate::Error::is_unsettled) if something changed during
    /// each of a few builds or computations; [`is_reentrant`](crate::Error::is_reentrant) if the
    /// call is made by the guard's own build.
    #[inline]
    pub fn with<R>(&self, compute: impl FnMut(&T) -> R) -> Result<R> {
        self.transaction(compute, |result| result)
    }

    /// Lets `prepare` use the value, as [`with`](Self::with) does, and then `commit` have an effect
    /// with what was prepared: exactly once, and only if nothing changed since the value was taken;
    /// otherwise not at all.
    ///
    /// The window between the check and the effect is that of
    /// [`Guarded::transaction`](crate::Guarded::transaction).
    ///
    /// # Errors
    ///
    /// As [`with`](Self::with). After an error `commit` has not run.
    #[inline]
    pub fn transaction<R, S>(
        &self,
        mut prepare: impl FnMut(&T) -> R,
        commit: impl FnOnce(R) -> S,
    ) -> Result<S> {
        let prepared = settled(self.attempt(&mut prepare)?, || self.attempt(&mut prepare))?;
        Ok(commit(prepared))
    }

    /// What was prepared, unless a change overtook it: then another value is published.
    #[inline(always)]
    fn attempt<R>(&self, prepare: &mut impl FnMut(&T) -> R) -> Result<Option<R>> {
        // The value first, and then what it is compared with: a change that was to be seen when this
        // was called is in what is looked at last.
        if let Some(built) = self.published.load() {
            if built.mark == self.witness.glance() {
                return match self.compute(&built, prepare) {
                    Ok(prepared) => Ok(Some(prepared)),
                    Err(overtaken) => {
                        // First: it may be this that keeps the old value in memory.
                        drop(built);
                        self.replace(overtaken)
                    }
                };
            }
        }
        self.attempt_at_length(prepare)
    }

    #[cold]
    fn attempt_at_length<R>(&self, prepare: &mut impl FnMut(&T) -> R) -> Result<Option<R>> {
        let built = self.current()?;
        match self.compute(&built, prepare) {
            Ok(prepared) => Ok(Some(prepared)),
            Err(overtaken) => {
                // First, as above.
                drop(built);
                self.replace(overtaken)
            }
        }
    }

    /// What was prepared, or the number of the value if a change overtook it.
    #[inline(always)]
    fn compute<R>(&self, built: &Built<T>, prepare: &mut impl FnMut(&T) -> R) -> Result<R, u64> {
        let prepared = prepare(built.get());
        if is_unchanged(&self.witness, &built.mark) {
            Ok(prepared)
        } else {
            Err(built.number)
        }
    }

    /// Has it be another value from now on, whatever the witness shows by then.
    #[cold]
    fn replace<R>(&self, overtaken: u64) -> Result<Option<R>> {
        self.newer_than(Some(overtaken)).map(|_| None)
    }

    /// Takes the value for longer than [`with`](Self::with) does: across an `await`, for example.
    /// Rebuilds it first if need be. [`Loaded::check`] tells later whether it is still up to date.
    ///
    /// # Errors
    ///
    /// As [`with`](Self::with).
    pub fn load(&self) -> Result<Loaded<'_, T, W>> {
        let published = self.published.load();
        let current = published.filter(|built| built.mark == self.witness.glance());
        let built = match current.map(|built| built.keep()) {
            Some(built) => built,
            None => self.current()?,
        };
        Ok(Loaded::new(&self.witness, built))
    }

    /// A handle for one thread, that reads at the price of a [`Guarded`](crate::Guarded).
    ///
    /// ```
    /// use sysgenid::SharedGuarded;
    ///
    /// static KEY: SharedGuarded<[u8; 32]> = SharedGuarded::new(|_generation| Ok([7; 32]));
    ///
    /// std::thread::scope(|scope| {
    ///     for _ in 0..2 {
    ///         scope.spawn(|| -> sysgenid::Result<()> {
    ///             let mut key = KEY.reader();
    ///             for _request in 0..1000 {
    ///                 key.with(|key| key[0])?;
    ///             }
    ///             Ok(())
    ///         });
    ///     }
    /// });
    /// ```
    #[must_use]
    pub fn reader(&self) -> SharedReader<'_, T, W, B> {
        SharedReader::new(self)
    }

    /// The witness that is asked.
    #[must_use]
    pub fn witness(&self) -> &W {
        &self.witness
    }

    /// What is published, if it is up to date; or what is built for it.
    #[cold]
    fn current(&self) -> Result<Arc<Built<T>>> {
        let mut outdated = None;
        if let Some(built) = self.published.load() {
            if built.mark == self.witness.mark() {
                return Ok(built.keep());
            }
            outdated = Some(built.number);
        }
        self.newer_than(outdated)
    }

    /// A value that is up to date and not the one with this number, which its user saw become
    /// outdated.
    #[cold]
    pub(super) fn newer_than(&self, mut outdated: Option<u64>) -> Result<Arc<Built<T>>> {
        if let Some(built) = self.settled(&mut outdated) {
            return Ok(built);
        }
        self.turn.take(|number| {
            // Somebody else may have built it while this thread waited.
            if let Some(built) = self.settled(&mut outdated) {
                return Ok(built);
            }
            // First, so that neither an error nor a panic leaves the old value behind.
            self.published.store(None);
            let (mark, value) = value::build(&self.witness, self.wipe, &self.build)?;
            let built = Arc::new(Built {
                mark,
                number,
                value,
            });
            self.published.store(Some(Arc::clone(&built)));
            Ok(built)
        })
    }

    /// What is published, if it is up to date and was not seen to be outdated before: a witness
    /// may show again what it showed once.
    fn settled(&self, outdated: &mut Option<u64>) -> Option<Arc<Built<T>>> {
        let built = self.published.load()?;
        if Some(built.number) == *outdated {
            return None;
        }
        if built.mark != self.witness.mark() {
            *outdated = Some(built.number);
            return None;
        }
        Some(built.keep())
    }
}

impl<T, W: fmt::Debug, B> fmt::Debug for SharedGuarded<T, W, B> {
    /// Shows the generation and not the value, which is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let built = self.published.load();
        f.debug_struct("SharedGuarded")
            .field("witness", &self.witness)
            .field("built", &built.map(|built| built.mark.generation()))
            .finish_non_exhaustive()
    }
}
