// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::fmt;
use std::sync::Arc;

use super::shared::{Built, SharedGuarded};
use super::{BuildError, settled, unsettled};
use crate::base::Generation;
use crate::base::error::Result;
use crate::check::unchanged::is_unchanged;
use crate::check::{ProcessWide, Uniqueness, Witness};

/// One thread's way to a [`SharedGuarded`] value, at the price of a [`Guarded`](crate::Guarded) of
/// its own: it keeps hold of the value, instead of taking it at each use.
///
/// The guarantees are those of the guard that it [reads](SharedGuarded::reader).
///
/// # What is not guaranteed
///
/// A reader that is not used keeps an outdated value in memory, unwiped, until its next use or its
/// drop. It never hands it out.
pub struct SharedReader<'a, T, W = ProcessWide, B = fn(Generation) -> Result<T, BuildError>> {
    guard: &'a SharedGuarded<T, W, B>,
    /// That of the value: beside it, so that there is one thing less to look up.
    mark: Uniqueness,
    held: Option<Arc<Built<T>>>,
}

impl<'a, T, W, B> SharedReader<'a, T, W, B>
where
    W: Witness,
    B: Fn(Generation) -> Result<T, BuildError>,
{
    pub(super) fn new(guard: &'a SharedGuarded<T, W, B>) -> Self {
        Self {
            guard,
            mark: Uniqueness::of(Generation::new(0)),
            held: None,
        }
    }

    /// The value of this moment, rebuilt if need be.
    ///
    /// Nothing is known about changes *after* the return: use [`with`](Self::with) for a result
    /// that must not cross one.
    ///
    /// # Errors
    ///
    /// As [`SharedGuarded::with`].
    #[inline]
    pub fn get(&mut self) -> Result<&T> {
        // Of two conditions one branch: they hold together nearly always.
        if (self.mark == self.guard.witness.glance()) & self.held.is_some() {
            self.held.as_deref().map(Built::get).ok_or_else(unsettled)
        } else {
            self.get_renewed()
        }
    }

    // The rest of `get` as a whole, so that a caller can jump there and saves nothing for it.
    #[cold]
    fn get_renewed(&mut self) -> Result<&T> {
        self.renew()?;
        // `renew` left one.
        self.held.as_deref().map(Built::get).ok_or_else(unsettled)
    }

    /// As [`SharedGuarded::with`].
    ///
    /// # Errors
    ///
    /// As [`SharedGuarded::with`].
    #[inline]
    pub fn with<R>(&mut self, compute: impl FnMut(&T) -> R) -> Result<R> {
        self.transaction(compute, |result| result)
    }

    /// As [`SharedGuarded::transaction`].
    ///
    /// # Errors
    ///
    /// As [`SharedGuarded::transaction`].
    #[inline]
    pub fn transaction<R, S>(
        &mut self,
        mut prepare: impl FnMut(&T) -> R,
        commit: impl FnOnce(R) -> S,
    ) -> Result<S> {
        let prepared = settled(self.attempt(&mut prepare)?, || self.attempt(&mut prepare))?;
        Ok(commit(prepared))
    }

    /// What was prepared, unless a change overtook it: then another value is held.
    #[inline(always)]
    fn attempt<R>(&mut self, prepare: &mut impl FnMut(&T) -> R) -> Result<Option<R>> {
        let prepared = prepare(self.get()?);
        if is_unchanged(&self.guard.witness, &self.mark) {
            return Ok(Some(prepared));
        }
        // So that it is not that one again, whatever the witness shows by now.
        self.replace()?;
        Ok(None)
    }

    /// Keeps the value if the glance was wrong, or else gets another.
    #[cold]
    fn renew(&mut self) -> Result<()> {
        if self.held.is_some() && self.mark == self.guard.witness.mark() {
            return Ok(());
        }
        self.replace()
    }

    #[cold]
    fn replace(&mut self) -> Result<()> {
        // First: it may be this that keeps the old value in memory.
        let outdated = self.held.take().map(|built| built.number);
        let built = self.guard.newer_than(outdated)?;
        self.mark = built.mark;
        self.held = Some(built);
        Ok(())
    }
}

impl<T, W: fmt::Debug, B> fmt::Debug for SharedReader<'_, T, W, B> {
    /// Shows the generation and not the value, which is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedReader")
            .field("guard", &self.guard)
            .field("held", &self.held.as_ref().map(|_| self.mark.generation()))
            .finish()
    }
}
