// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::fmt;

use zeroize::Zeroize;

use super::value::{self, InUse, Wiped};
use super::{BuildError, settled, unsettled};
use crate::base::Generation;
use crate::base::error::Result;
use crate::check::unchanged::is_unchanged;
use crate::check::{ProcessWide, Uniqueness, Witness};

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
/// use sysgenid::Guarded;
///
/// let mut ticket_key = Guarded::new(|_generation| Ok(sysgenid::entropy::array::<32>()?));
///
/// // The result was computed from a key of this generation, or it is not returned.
/// let tag = ticket_key.with(|key| key.iter().fold(0_u8, |sum, byte| sum ^ byte))?;
/// # let _ = tag;
/// # Ok::<(), sysgenid::Error>(())
/// ```
///
/// # How it is named
///
/// In a `struct` or a `static`, a guard whose build captures nothing is a `Guarded<T>`, or with a
/// witness of the caller's choice a `Guarded<T, W>`: its build is a function pointer. A build that
/// captures something is boxed:
///
/// ```
/// use sysgenid::{BuildError, Generation, Guarded, ProcessWide};
///
/// type Build<T> = Box<dyn FnMut(Generation) -> Result<T, BuildError> + Send>;
///
/// struct Signer {
///     salt: Guarded<[u8; 16]>,
///     key: Guarded<Vec<u8>, ProcessWide, Build<Vec<u8>>>,
/// }
///
/// fn signer(length: usize) -> Signer {
///     Signer {
///         salt: Guarded::new(|_| Ok([0; 16])),
///         key: Guarded::new(Box::new(move |_| Ok(vec![0; length]))),
///     }
/// }
/// # assert_eq!(signer(7).key.get()?.len(), 7);
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
pub struct Guarded<T, W = ProcessWide, B = fn(Generation) -> Result<T, BuildError>> {
    witness: W,
    /// What the witness showed when the value was built.
    mark: Uniqueness,
    value: Option<Wiped<T>>,
    wipe: fn(&mut T),
    build: B,
}

impl<T, B: FnMut(Generation) -> Result<T, BuildError>> Guarded<T, ProcessWide, B> {
    /// Guards what `build` returns with [`ProcessWide`], and wipes what it returned before. Builds
    /// nothing yet.
    ///
    /// `build` must take its entropy from the kernel by a system call, as
    /// [`entropy::fill`](crate::entropy::fill) does. From anything in the memory of this process it
    /// would get the same value in every clone. The C library's `getrandom`, and so the crate
    /// getrandom from 0.3 on, may draw from such memory.
    ///
    /// A build that cannot fail returns `Ok`: `Guarded::new(|_| Ok(0_u64))`. A use of its value may
    /// fail nevertheless, if changes do not end.
    pub const fn new(build: B) -> Self
    where
        T: Zeroize,
    {
        Self::with_witness(ProcessWide, build)
    }

    /// As [`new`](Self::new), but leaves the wiping to the value: for one that wipes itself when it
    /// is dropped, or is not a secret.
    pub const fn unwiped(build: B) -> Self {
        Self::unwiped_with_witness(ProcessWide, build)
    }
}

impl<T, W: Witness, B: FnMut(Generation) -> Result<T, BuildError>> Guarded<T, W, B> {
    /// As [`new`](Guarded::new), with a witness that the caller chooses, such as
    /// [`RestoreOnly`](crate::RestoreOnly) or a [`Probe`](crate::Probe).
    pub const fn with_witness(witness: W, build: B) -> Self
    where
        T: Zeroize,
    {
        Self::wiped_by(T::zeroize, witness, build)
    }

    /// As [`unwiped`](Guarded::unwiped), with a witness that the caller chooses.
    pub const fn unwiped_with_witness(witness: W, build: B) -> Self {
        Self::wiped_by(value::leave, witness, build)
    }

    const fn wiped_by(wipe: fn(&mut T), witness: W, build: B) -> Self {
        Self {
            witness,
            mark: Uniqueness::of(Generation::new(0)),
            value: None,
            wipe,
            build,
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
        if self.is_current() {
            self.value
                .as_mut()
                .map(Wiped::get_mut)
                .ok_or_else(unsettled)
        } else {
            self.get_renewed()
        }
    }

    /// Whether there is a value that a glance shows to be up to date.
    #[inline(always)]
    fn is_current(&self) -> bool {
        // Of two conditions one branch: they hold together nearly always.
        (self.mark == self.witness.glance()) & self.value.is_some()
    }

    // As `get`, where the caller goes on and saves something anyway.
    #[inline(always)]
    fn make_current(&mut self) -> Result<&mut T> {
        if !self.is_current() {
            self.renew()?;
        }
        match &mut self.value {
            Some(value) => Ok(value.get_mut()),
            // `renew` left one.
            None => Err(unsettled()),
        }
    }

    // The rest of `get` as a whole, so that a caller can jump there and saves nothing for it.
    #[cold]
    fn get_renewed(&mut self) -> Result<&mut T> {
        self.renew()?;
        // `renew` left one.
        self.value
            .as_mut()
            .map(Wiped::get_mut)
            .ok_or_else(unsettled)
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
    /// let mut wire = Vec::new();
    /// // A key would be beside it. No number may be used twice with that.
    /// let mut nonce = sysgenid::Guarded::new(|_generation| Ok(0_u64));
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
        let prepared = settled(self.attempt(&mut prepare)?, || self.attempt(&mut prepare))?;
        Ok(commit(prepared))
    }

    /// What was prepared, unless a change overtook it: then the value is gone, too.
    #[inline(always)]
    fn attempt<R>(&mut self, prepare: &mut impl FnMut(&mut T) -> R) -> Result<Option<R>> {
        self.make_current()?;
        let mut in_use = InUse::of(&mut self.value);
        let Some(value) = in_use.get_mut() else {
            return Ok(None);
        };
        let prepared = prepare(value);
        if is_unchanged(&self.witness, &self.mark) {
            in_use.keep();
            return Ok(Some(prepared));
        }
        Ok(None)
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

impl<T, W: fmt::Debug, B> fmt::Debug for Guarded<T, W, B> {
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
