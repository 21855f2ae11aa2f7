// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::cell::{RefCell, RefMut};
use std::fmt;

use zeroize::Zeroize;

use super::BuildError;
use super::owned::Guarded;
use crate::base::Generation;
use crate::base::error::{Error, Kind, Result};
use crate::check::{ProcessWide, Witness};

/// A cached secret of one thread, rebuilt when the system was restored or the process forked: a
/// [`Guarded`] for `thread_local!`, where there is only a shared reference.
///
/// ```
/// use sysgenid::ThreadGuarded;
///
/// thread_local! {
///     static SESSION: ThreadGuarded<[u8; 16]> = const {
///         ThreadGuarded::new(|_generation| Ok(sysgenid::entropy::array()?))
///     };
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
pub struct ThreadGuarded<T, W = ProcessWide, B = fn(Generation) -> Result<T, BuildError>>(
    RefCell<Guarded<T, W, B>>,
);

impl<T, B: FnMut(Generation) -> Result<T, BuildError>> ThreadGuarded<T, ProcessWide, B> {
    /// As [`Guarded::new`].
    pub const fn new(build: B) -> Self
    where
        T: Zeroize,
    {
        Self::with_witness(ProcessWide, build)
    }

    /// As [`Guarded::unwiped`].
    pub const fn unwiped(build: B) -> Self {
        Self::unwiped_with_witness(ProcessWide, build)
    }
}

impl<T, W: Witness, B: FnMut(Generation) -> Result<T, BuildError>> ThreadGuarded<T, W, B> {
    /// As [`Guarded::with_witness`].
    pub const fn with_witness(witness: W, build: B) -> Self
    where
        T: Zeroize,
    {
        Self(RefCell::new(Guarded::with_witness(witness, build)))
    }

    /// As [`Guarded::unwiped_with_witness`].
    pub const fn unwiped_with_witness(witness: W, build: B) -> Self {
        Self(RefCell::new(Guarded::unwiped_with_witness(witness, build)))
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
    fn borrow(&self) -> Result<RefMut<'_, Guarded<T, W, B>>> {
        self.0.try_borrow_mut().map_err(|_| reentrant())
    }
}

#[cold]
fn reentrant() -> Error {
    Error::new(Kind::Reentrant)
}

impl<T, W: fmt::Debug, B> fmt::Debug for ThreadGuarded<T, W, B> {
    /// Shows the generation and not the value, which is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ThreadGuarded").field(&self.0).finish()
    }
}
