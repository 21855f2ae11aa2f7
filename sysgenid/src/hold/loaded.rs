// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::shared::Built;
use super::stale::Stale;
use crate::check::unchanged::is_unchanged;
use crate::check::{ProcessWide, Witness};

/// A value that was taken out of a [`SharedGuarded`](crate::SharedGuarded) for longer than a closure
/// lasts, across an `await` for example.
///
/// It was up to date when it was [loaded](crate::SharedGuarded::load). Before anything that was made
/// with it leaves the program, [`check`](Self::check) tells whether it still is.
///
/// ```
/// use sysgenid::SharedGuarded;
///
/// static KEY: SharedGuarded<[u8; 32]> = SharedGuarded::new(|_generation| Ok([7; 32]));
///
/// async fn sign(message: &[u8]) -> sysgenid::Result<u8> {
///     let key = KEY.load()?;
///     let signature = slow_signature(&*key, message).await;
///     key.check()?; // else it is not returned
///     Ok(signature)
/// }
/// # async fn slow_signature(key: &[u8], message: &[u8]) -> u8 { key[0] ^ message[0] }
/// # let mut context = std::task::Context::from_waker(std::task::Waker::noop());
/// # let std::task::Poll::Ready(signed) = std::pin::pin!(sign(b"1")).poll(&mut context) else { panic!() };
/// # assert_eq!(signed?, 7 ^ b'1');
/// # Ok::<(), sysgenid::Error>(())
/// ```
///
/// # What is not guaranteed
///
/// A change in the meantime does not wipe the value: it stays in memory, and can be read, until the
/// last that holds it is dropped. It is wiped then.
pub struct Loaded<'a, T, W = ProcessWide> {
    witness: &'a W,
    built: Arc<Built<T>>,
}

impl<'a, T, W: Witness> Loaded<'a, T, W> {
    pub(super) fn new(witness: &'a W, built: Arc<Built<T>>) -> Self {
        Self { witness, built }
    }

    /// Whether nothing has changed since the value was built.
    #[inline]
    #[must_use]
    pub fn is_current(&self) -> bool {
        is_unchanged(self.witness, &self.built.mark)
    }

    /// Checks that nothing has changed since the value was built.
    ///
    /// # Errors
    ///
    /// [`Stale`] if something has. Whatever the value was used for is to be thrown away then, and
    /// done again with a value that is loaded anew.
    #[inline]
    pub fn check(&self) -> Result<(), Stale> {
        if self.is_current() {
            Ok(())
        } else {
            Err(Stale::new())
        }
    }
}

impl<T, W> Clone for Loaded<'_, T, W> {
    fn clone(&self) -> Self {
        Self {
            witness: self.witness,
            built: Arc::clone(&self.built),
        }
    }
}

impl<T, W> Deref for Loaded<'_, T, W> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.built.get()
    }
}

impl<T, W> fmt::Debug for Loaded<'_, T, W> {
    /// Shows the generation and not the value, which is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("built", &self.built.mark.generation())
            .finish_non_exhaustive()
    }
}
