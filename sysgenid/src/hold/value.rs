// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::{ATTEMPTS, BuildError, is_unchanged, unsettled};
use crate::base::Generation;
use crate::base::error::{Error, Result};
use crate::base::sync::{Ordering, fence};
use crate::check::{Uniqueness, Witness};

/// A value that is wiped before it is dropped.
pub(super) struct Wiped<T> {
    value: T,
    /// Does nothing to what needs no wiping.
    wipe: fn(&mut T),
}

impl<T> Wiped<T> {
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

/// Builds a value during which nothing changed, and says at which mark.
pub(super) fn build<T, W: Witness>(
    witness: &W,
    wipe: fn(&mut T),
    mut build: impl FnMut(Generation) -> Result<T, BuildError>,
) -> Result<(Uniqueness, Wiped<T>)> {
    for _ in 0..ATTEMPTS {
        let mark = witness.mark();
        // Who saw the change sees what was done before it, such as a reseeding. The partner is the
        // release order of the store to the counter.
        fence(Ordering::Acquire);
        let value = build(mark.generation()).map_err(Error::rebuild)?;
        let value = Wiped { value, wipe };
        if is_unchanged(witness, &mark) {
            return Ok((mark, value));
        }
    }
    Err(unsettled())
}
