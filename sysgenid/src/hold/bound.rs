// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};

use zeroize::Zeroize;

use super::stale::Stale;
use super::value;
use crate::check::unchanged::{is_current, is_unchanged};
use crate::check::{ProcessWide, Uniqueness, Witness};

/// A value that ends with the generation it was made in: a connection, a lease, a session key.
///
/// Where a [`Guarded`](crate::Guarded) value is rebuilt, this one is refused: after a restore or a
/// fork every use fails with [`Stale`], and the value is wiped. To make another is the caller's
/// business.
///
/// It is bound to a moment *before* the value was made. A restore that comes while a connection is
/// being opened therefore ends that connection, too:
///
/// ```
/// use sysgenid::Bound;
///
/// // First: what is made across a change is refused.
/// let before = sysgenid::uniqueness();
/// let mut session_key = Bound::new(before, agree_on_a_key());
///
/// let tag = session_key.with(|key| key[0] ^ 1)?;
/// # assert_eq!(tag, 6);
/// sysgenid::assume_restored();
/// assert!(session_key.with(|key| key[0] ^ 1).is_err(), "and the key is wiped");
/// # fn agree_on_a_key() -> [u8; 32] { [7; 32] }
/// # Ok::<(), sysgenid::Stale>(())
/// ```
///
/// Asynchronous code looks again when it comes back:
///
/// ```
/// use sysgenid::Bound;
///
/// async fn ask(lease: &Bound<Lease>) -> std::io::Result<u32> {
///     let answer = lease.get()?.ask().await;
///     lease.check()?; // else the answer is not used
///     Ok(answer)
/// }
/// # struct Lease;
/// # impl Lease { async fn ask(&self) -> u32 { 7 } }
/// # let lease = Bound::unwiped(sysgenid::uniqueness(), Lease);
/// # let mut context = std::task::Context::from_waker(std::task::Waker::noop());
/// # let std::task::Poll::Ready(answer) = std::pin::pin!(ask(&lease)).poll(&mut context) else { panic!() };
/// # assert_eq!(answer?, 7);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # What is guaranteed
///
/// - A value is handed out only while the witness shows no change since the moment that it is bound
///   to. Once it was refused it stays refused, whatever the witness shows later.
/// - [`with`](Self::with) returns a result only if there was no change from that moment until after
///   the use.
/// - The first look through an exclusive reference after a change wipes the value and drops it; so
///   does a use that panics, and the drop of this. With [`unwiped`](Self::unwiped) it is only dropped.
///
/// # What is not
///
/// - A look through a *shared* reference refuses the value and leaves it in memory, because another
///   thread may be using it. It is wiped by the next look through an exclusive one, or at the end.
/// - Nothing watches: a value that is never looked at stays where it is.
/// - To drop a connection may send something, such as the goodbye of TLS, under keys that each clone
///   has: see the recipe for services in the project's book.
/// - What [`Guarded`](crate::Guarded) does not promise is not promised here either: changes that the
///   witness does not show, copies that were made elsewhere.
pub struct Bound<T, W = ProcessWide> {
    witness: W,
    mark: Uniqueness,
    /// By a look through a shared reference.
    is_refused: AtomicBool,
    value: Option<T>,
    wipe: fn(&mut T),
}

impl<T> Bound<T> {
    /// Binds `value` to the moment `before`, which the caller took from
    /// [`uniqueness`](crate::uniqueness) before it began to make the value.
    pub const fn new(before: Uniqueness, value: T) -> Self
    where
        T: Zeroize,
    {
        Self::with_witness(ProcessWide, before, value)
    }

    /// As [`new`](Self::new), but leaves the wiping to the value: for one that wipes itself when it
    /// is dropped, or is not a secret.
    pub const fn unwiped(before: Uniqueness, value: T) -> Self {
        Self::unwiped_with_witness(ProcessWide, before, value)
    }
}

impl<T, W: Witness> Bound<T, W> {
    /// As [`new`](Bound::new), with a witness that the caller chooses. `before` is a
    /// [`mark`](Witness::mark) of that witness: one of another is taken for an old one.
    pub const fn with_witness(witness: W, before: Uniqueness, value: T) -> Self
    where
        T: Zeroize,
    {
        Self::wiped_by(T::zeroize, witness, before, value)
    }

    /// As [`unwiped`](Bound::unwiped), with a witness that the caller chooses.
    pub const fn unwiped_with_witness(witness: W, before: Uniqueness, value: T) -> Self {
        Self::wiped_by(value::leave, witness, before, value)
    }

    const fn wiped_by(wipe: fn(&mut T), witness: W, before: Uniqueness, value: T) -> Self {
        Self {
            witness,
            mark: before,
            is_refused: AtomicBool::new(false),
            value: Some(value),
            wipe,
        }
    }

    /// The value, through a shared reference.
    ///
    /// # Errors
    ///
    /// [`Stale`] if something has changed since the value was made.
    #[inline]
    pub fn get(&self) -> Result<&T, Stale> {
        if !self.may_be_used(is_current) {
            return Err(Stale::new());
        }
        self.value.as_ref().ok_or_else(Stale::new)
    }

    /// The value, through an exclusive reference. Wipes it if it is refused.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    #[inline]
    pub fn get_mut(&mut self) -> Result<&mut T, Stale> {
        if !self.may_be_used(is_current) {
            self.wipe();
        }
        self.value.as_mut().ok_or_else(Stale::new)
    }

    /// Lets `compute` use the value, and returns its result only if nothing has changed since the
    /// value was made, until after the use.
    ///
    /// # Errors
    ///
    /// [`Stale`] if something has changed. If that was found out before the use, `compute` has not
    /// run. The value is wiped in either case.
    #[inline]
    pub fn with<R>(&mut self, compute: impl FnOnce(&mut T) -> R) -> Result<R, Stale> {
        self.get_mut()?;
        let in_use = InUse(self);
        let computed = match &mut in_use.0.value {
            Some(value) => compute(value),
            None => return Err(Stale::new()),
        };
        if !in_use.0.may_be_used(is_unchanged) {
            return Err(Stale::new());
        }
        mem::forget(in_use);
        Ok(computed)
    }

    /// Checks that nothing has changed since the value was made: after a use that was longer than a
    /// closure, and before anything of it is given away.
    ///
    /// # Errors
    ///
    /// [`Stale`] if something has changed.
    #[inline]
    pub fn check(&self) -> Result<(), Stale> {
        if self.is_current() {
            Ok(())
        } else {
            Err(Stale::new())
        }
    }

    /// Whether nothing has changed since the value was made: [`check`](Self::check) as a `bool`, for a
    /// pool that sorts out what is old.
    #[inline]
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.value.is_some() && self.may_be_used(is_unchanged)
    }

    /// The value, which is bound to nothing from now on.
    ///
    /// # Errors
    ///
    /// [`Stale`] if something has changed since it was made. The value is wiped then.
    pub fn into_inner(mut self) -> Result<T, Stale> {
        self.get_mut()?;
        self.value.take().ok_or_else(Stale::new)
    }

    /// The witness that is asked.
    #[must_use]
    pub fn witness(&self) -> &W {
        &self.witness
    }

    #[inline]
    fn may_be_used(&self, check: fn(&W, &Uniqueness) -> bool) -> bool {
        // Relaxed: a thread that does not see yet what another has seen finds out for itself.
        if self.is_refused.load(Ordering::Relaxed) {
            return false;
        }
        check(&self.witness, &self.mark) || self.refuse()
    }

    #[cold]
    fn refuse(&self) -> bool {
        self.is_refused.store(true, Ordering::Relaxed);
        false
    }
}

impl<T, W> Bound<T, W> {
    #[cold]
    fn wipe(&mut self) {
        /// Drops the value even if the wiping panics.
        struct Wiping<'a, T>(&'a mut Option<T>);

        impl<T> Drop for Wiping<'_, T> {
            fn drop(&mut self) {
                *self.0 = None;
            }
        }

        let value = Wiping(&mut self.value);
        if let Some(value) = value.0 {
            (self.wipe)(value);
        }
    }
}

impl<T, W> Drop for Bound<T, W> {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// A value in use, that is wiped unless this is forgotten: by a panic, or by a change.
struct InUse<'a, T, W>(&'a mut Bound<T, W>);

impl<T, W> Drop for InUse<'_, T, W> {
    #[cold]
    #[inline(never)]
    fn drop(&mut self) {
        self.0.wipe();
    }
}

impl<T, W: fmt::Debug> fmt::Debug for Bound<T, W> {
    /// Shows the generation and not the value, which is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound")
            .field("witness", &self.witness)
            .field("generation", &self.mark.generation())
            .finish_non_exhaustive()
    }
}
