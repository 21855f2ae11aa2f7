// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::cell::{RefCell, RefMut};
use std::error::Error as StdError;
use std::fmt;

use zeroize::Zeroize;

use super::owned::Guarded;
use crate::base::Generation;
use crate::base::error::{Error, Kind, Result};
use crate::check::{ProcessWide, Witness};

/// A cached secret of one thread, rebuilt when the system was restored or the process forked: a
/// [`Guarded`] for `thread_local!`, where there is only a shared reference.
///
/// ```
/// use sysgenid::{ProcessWide, ThreadGuarded};
///
/// thread_local! {
///     static SESSION: ThreadGuarded<[u8; 16]> = ThreadGuarded::new(ProcessWide, |_generation| {
///         let mut id = [0_u8; 16];
///         sysgenid::entropy::fill(&mut id)?;
///         Ok::<_, sysgenid::Error>(id)
///     });
/// }
///
/// let first_byte = SESSION.with(|session| session.with(|id| id[0]))?;
/// # let _ = first_byte;
/// # Ok::<(), sysgenid::Error>(())
/// ```
///
/// What is guaranteed and what is not is as with [`Guarded`]. Besides, the value is in use during a
/// build, a computation and a preparation: there the guard cannot be used again, and says so with
/// an error. A commit may use it.
pub struct ThreadGuarded<T, W = ProcessWide>(RefCell<Guarded<T, W>>);

impl<T: Zeroize, W: Witness> ThreadGuarded<T, W> {
    /// Guards what `build` returns, and wipes what it returned before. Builds nothing yet.
    ///
    /// `build` must take its entropy from the kernel: see [`Guarded::new`].
    pub fn new<E>(
        witness: W,
        build: impl FnMut(Generation) -> Result<T, E> + Send + 'static,
    ) -> Self
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        Self(RefCell::new(Guarded::new(witness, build)))
    }
}

impl<T, W: Witness> ThreadGuarded<T, W> {
    /// As [`new`](Self::new), but leaves the wiping to the value: for one that wipes itself when it
    /// is dropped, or is no secret.
    pub fn unwiped<E>(
        witness: W,
        build: impl FnMut(Generation) -> Result<T, E> + Send + 'static,
    ) -> Self
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        Self(RefCell::new(Guarded::unwiped(witness, build)))
    }

    /// As [`Guarded::with`].
    ///
    /// # Errors
    ///
    /// As [`Guarded::with`]; also [`is_reentrant`](Error::is_reentrant) if the call is made by the
    /// guard's own build or computation.
    #[inline]
    pub fn with<R>(&self, compute: impl FnMut(&mut T) -> R) -> Result<R> {
        self.borrow()?.with(compute)
    }

    /// As [`Guarded::transaction`].
    ///
    /// # Errors
    ///
    /// As [`with`](Self::with). After an error `commit` has not run.
    #[inline]
    pub fn transaction<R, S>(
        &self,
        prepare: impl FnMut(&mut T) -> R,
        commit: impl FnOnce(R) -> S,
    ) -> Result<S> {
        // The last check and the commit are apart by the end of the borrow only.
        let prepared = self.borrow()?.with(prepare)?;
        Ok(commit(prepared))
    }

    #[inline]
    fn borrow(&self) -> Result<RefMut<'_, Guarded<T, W>>> {
        self.0.try_borrow_mut().map_err(|_| reentrant())
    }
}

#[cold]
fn reentrant() -> Error {
    Error::new(Kind::Reentrant)
}

impl<T, W: fmt::Debug> fmt::Debug for ThreadGuarded<T, W> {
    /// Shows the generation and not the value, which is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ThreadGuarded").field(&self.0).finish()
    }
}
