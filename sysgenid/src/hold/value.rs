// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::mem;

use super::{BuildError, settled};
use crate::base::Generation;
use crate::base::error::{Error, Result};
use crate::check::unchanged::{is_unchanged, mark_for_build};
use crate::check::{Uniqueness, Witness};

/// A value that is wiped before it is dropped.
pub(super) struct Wiped<T> {
    value: T,
    /// Does nothing to what needs no wiping.
    wipe: fn(&mut T),
}

impl<T> Wiped<T> {
    pub(super) fn new(wipe: fn(&mut T), value: T) -> Self {
        Self { value, wipe }
    }

    #[inline]
    pub(super) fn get(&self) -> &T {
        &self.value
    }

    #[inline]
    pub(super) fn get_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T> Drop for Wiped<T> {
    fn drop(&mut self) {
        (self.wipe)(&mut self.value);
    }
}

/// For a value that wipes itself, or is not a secret.
pub(super) const fn leave<T>(_: &mut T) {}

/// Builds a value during which nothing changed, and says at which mark.
pub(super) fn build<T, W: Witness>(
    witness: &W,
    wipe: fn(&mut T),
    mut build: impl FnMut(Generation) -> Result<T, BuildError>,
) -> Result<(Uniqueness, Wiped<T>)> {
    let mut attempt = || {
        let mark = mark_for_build(witness);
        let value = build(mark.generation()).map_err(Error::rebuild)?;
        let value = Wiped::new(wipe, value);
        Ok(is_unchanged(witness, &mark).then_some((mark, value)))
    };
    settled(attempt()?, attempt)
}

/// A value in use, that is thrown away unless it is kept: a use that panics may have left it half
/// changed, and a change that overtook the use makes all of it doubtful.
pub(super) struct InUse<'a, T>(&'a mut Option<Wiped<T>>);

impl<'a, T> InUse<'a, T> {
    #[inline]
    pub(super) fn of(value: &'a mut Option<Wiped<T>>) -> Self {
        Self(value)
    }

    #[inline]
    pub(super) fn get_mut(&mut self) -> Option<&mut T> {
        self.0.as_mut().map(Wiped::get_mut)
    }

    #[inline]
    pub(super) fn keep(self) {
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
