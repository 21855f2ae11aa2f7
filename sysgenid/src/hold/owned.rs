// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::error::Error as StdError;
use std::fmt;
use std::mem;

use zeroize::Zeroize;

use super::value::{self, Wiped};
use super::{ATTEMPTS, BuildError, is_unchanged, unsettled};
use crate::base::Generation;
use crate::base::error::Result;
use crate::check::{ProcessWide, Uniqueness, Witness};

type Build<T> = dyn FnMut(Generation) -> Result<T, BuildError> + Send;

/// A cached secret that is rebuilt when the system was restored or the process forked.
///
/// The value is built when it is first used, and again before the first use after a change: check,
/// use, check again. What is up to date costs a few loads and one branch. The old value is wiped
/// from memory.
///
/// This one has one owner. For many threads there is [`SharedGuarded`](crate::SharedGuarded), for
/// `thread_local!` [`ThreadGuarded`](crate::ThreadGuarded).
///
/// ```
/// use sysgenid::{Guarded, ProcessWide};
///
/// let mut ticket_key = Guarded::new(ProcessWide, |_generation| {
///     let mut key = [0_u8; 32];
///     sysgenid::entropy::fill(&mut key)?;
///     Ok::<_, sysgenid::Error>(key)
/// });
///
/// // The result was computed from a key of this generation, or it is not returned.
/// let tag = ticket_key.with(|key| key.iter().fold(0_u8, |sum, byte| sum ^ byte))?;
/// # let _ = tag;
/// # Ok::<(), sysgenid::Error>(())
/// ```
///
/// # What is guaranteed
///
/// - [`get`](Self::get) returns a value that was built since the last change that the witness shows
///   at its return. [`with`](Self::with) returns a result, and
///   [`transaction`](Self::transaction) commits, only if the witness shows no change from before
///   the use until after it.
/// - A rebuild that fails or panics leaves no old value behind: the next call builds again.
/// - So does a computation that panics, because it may have left the value half changed; and so
///   does one that a change overtook, with all that it did to the value. A panic in a *commit*
///   leaves the value as it was prepared.
/// - With [`new`](Self::new), a value is [`Zeroize`]d before it is dropped: by a rebuild, an error,
///   a panic or the end of the guard.
///
/// # What is not
///
/// - A change that the witness does not show *yet* is not seen: there is a window between the
///   resume of a restored machine and the change of the counter. A [`ProcessWide`] without a source
///   shows no restores at all, and the use of a value that is built already does not look for one.
/// - A snapshot that is taken after the last check copies the value with everything else. What a
///   computation gave away while it ran (bytes on a socket) is not taken back.
/// - Only the value itself is wiped: not what `build` and the computations leave on the stack when
///   they copy or move it, nor results. A large secret belongs in a [`Box`] from the start.
/// - Whoever panics while it holds what [`get`](Self::get) returned leaves the value as it is.
/// - The value is only as fresh as its entropy: see [`new`](Self::new).
pub struct Guarded<T, W = ProcessWide> {
    witness: W,
    /// What the witness showed when the value was built.
    mark: Uniqueness,
    value: Option<Wiped<T>>,
    wipe: fn(&mut T),
    build: Box<Build<T>>,
}

impl<T: Zeroize, W: Witness> Guarded<T, W> {
    /// Guards what `build` returns, and wipes what it returned before. Builds nothing yet.
    ///
    /// `build` must take its entropy from the kernel by a system call, as
    /// [`entropy::fill`](crate::entropy::fill) does. From anything in the memory of this process it
    /// would get the same value in every clone. The C library's `getrandom`, and so the crate
    /// getrandom from 0.3 on, may draw from such memory.
    pub fn new<E>(
        witness: W,
        build: impl FnMut(Generation) -> Result<T, E> + Send + 'static,
    ) -> Self
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        Self::wiped_by(T::zeroize, witness, build)
    }
}

impl<T, W: Witness> Guarded<T, W> {
    /// As [`new`](Self::new), but leaves the wiping to the value: for one that wipes itself when it
    /// is dropped, or is no secret.
    pub fn unwiped<E>(
        witness: W,
        build: impl FnMut(Generation) -> Result<T, E> + Send + 'static,
    ) -> Self
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        Self::wiped_by(|_| {}, witness, build)
    }

    fn wiped_by<E>(
        wipe: fn(&mut T),
        witness: W,
        mut build: impl FnMut(Generation) -> Result<T, E> + Send + 'static,
    ) -> Self
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        Self {
            witness,
            mark: Uniqueness::of(Generation::new(0)),
            value: None,
            wipe,
            build: Box::new(move |generation| build(generation).map_err(Into::into)),
        }
    }

    /// The value of this moment, rebuilt if need be.
    ///
    /// Nothing is known about changes *after* the return: use [`with`](Self::with) for a result
    /// that must not cross one.
    ///
    /// # Errors
    ///
    /// [`is_rebuild`](crate::Error::is_rebuild) if building failed;
    /// [`is_unsettled`](crate::Error::is_unsettled) if something changed during each of a few
    /// attempts to build.
    #[inline]
    pub fn get(&mut self) -> Result<&mut T> {
        // Of two conditions one branch: they hold together nearly always.
        if !((self.mark == self.witness.glance()) & self.value.is_some()) {
            self.renew()?;
        }
        match &mut self.value {
            Some(value) => Ok(value.get_mut()),
            // `renew` left one.
            None => Err(unsettled()),
        }
    }

    /// Lets `compute` use the value, and returns its result only if nothing changed from before the
    /// use until after it. Otherwise rebuilds and computes again.
    ///
    /// `compute` may so run more than once: it should have no effect outside but its result. For an
    /// effect there is [`transaction`](Self::transaction).
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get); also [`is_unsettled`](crate::Error::is_unsettled) if something
    /// changed during each of a few computations.
    #[inline]
    pub fn with<R>(&mut self, compute: impl FnMut(&mut T) -> R) -> Result<R> {
        self.transaction(compute, |result| result)
    }

    /// Lets `prepare` use the value, as [`with`](Self::with) does, and then `commit` have an effect
    /// with what was prepared: exactly once, and only if nothing changed since the value was taken;
    /// otherwise not at all.
    ///
    /// ```
    /// use sysgenid::{Guarded, ProcessWide};
    ///
    /// let mut wire = Vec::new();
    /// // A key would be beside it. No number may be used twice with that.
    /// let mut nonce = Guarded::new(ProcessWide, |_generation| Ok::<_, std::io::Error>(0_u64));
    /// for _ in 0..3 {
    ///     nonce.transaction(
    ///         |nonce| {
    ///             *nonce += 1;
    ///             *nonce
    ///         },
    ///         |nonce| wire.push(nonce),
    ///     )?;
    /// }
    /// assert_eq!(wire, [1, 2, 3]);
    /// # Ok::<(), sysgenid::Error>(())
    /// ```
    ///
    /// # What is not guaranteed
    ///
    /// That nothing changes between the check and the effect: these few instructions, and `commit`
    /// itself, are a window that no check can close. Whatever must not be sent twice needs a
    /// receiver that notices.
    ///
    /// # Errors
    ///
    /// As [`with`](Self::with). After an error `commit` has not run.
    #[inline]
    pub fn transaction<R, S>(
        &mut self,
        mut prepare: impl FnMut(&mut T) -> R,
        commit: impl FnOnce(R) -> S,
    ) -> Result<S> {
        let prepared = match self.attempt(&mut prepare)? {
            Some(prepared) => prepared,
            None => self.attempt_again(prepare)?,
        };
        Ok(commit(prepared))
    }

    /// What was prepared, unless a change overtook it.
    #[inline(always)]
    fn attempt<R>(&mut self, prepare: &mut impl FnMut(&mut T) -> R) -> Result<Option<R>> {
        self.get()?;
        let in_use = InUse(&mut self.value);
        let Some(value) = &mut *in_use.0 else {
            return Ok(None);
        };
        let prepared = prepare(value.get_mut());
        if is_unchanged(&self.witness, &self.mark) {
            in_use.keep();
            return Ok(Some(prepared));
        }
        Ok(None)
    }

    #[cold]
    fn attempt_again<R>(&mut self, mut prepare: impl FnMut(&mut T) -> R) -> Result<R> {
        for _ in 1..ATTEMPTS {
            if let Some(prepared) = self.attempt(&mut prepare)? {
                return Ok(prepared);
            }
        }
        Err(unsettled())
    }

    /// The witness that is asked.
    #[must_use]
    pub fn witness(&self) -> &W {
        &self.witness
    }

    /// Keeps the value if the glance was wrong, or else builds a new one.
    #[cold]
    fn renew(&mut self) -> Result<()> {
        if self.value.is_some() && self.mark == self.witness.mark() {
            return Ok(());
        }
        // First, so that neither an error nor a panic leaves the old value behind.
        self.value = None;
        let (mark, value) = value::build(&self.witness, self.wipe, &mut self.build)?;
        self.mark = mark;
        self.value = Some(value);
        Ok(())
    }
}

/// A value that is thrown away unless somebody says otherwise.
struct InUse<'a, T>(&'a mut Option<Wiped<T>>);

impl<T> InUse<'_, T> {
    #[inline]
    fn keep(self) {
        mem::forget(self);
    }
}

impl<T> Drop for InUse<'_, T> {
    #[cold]
    #[inline(never)]
    fn drop(&mut self) {
        *self.0 = None;
    }
}

impl<T, W: fmt::Debug> fmt::Debug for Guarded<T, W> {
    /// Shows the generation and not the value, which is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded")
            .field("witness", &self.witness)
            .field(
                "built",
                &self.value.as_ref().map(|_| self.mark.generation()),
            )
            .finish_non_exhaustive()
    }
}
