// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::fmt;

use rand_core::{Rng, SeedableRng, TryCryptoRng, TryRng};
use zeroize::Zeroize;

use crate::base::error::{Error, Result};
use crate::check::unchanged::{ATTEMPTS, is_unchanged, mark_for_build};
use crate::check::{ProcessWide, Uniqueness, Witness};
use crate::random::entropy;

/// A generator of the caller's choice that never draws from a state of which there are copies.
///
/// A restored snapshot and a fork copy a generator, and the copies draw the same numbers. This one
/// is seeded from the kernel, and from the kernel again before it returns the first number after a
/// change. It uses the generator as it is, so `R` decides how good and how fast the numbers are.
///
/// ```
/// use rand::rngs::StdRng;
/// use rand::{Rng, RngExt};
/// use sysgenid::rand_core::{TryRng, UnwrapErr};
/// use sysgenid::{ProcessWide, SnapshotSafeRng};
///
/// let mut rng = SnapshotSafeRng::<StdRng>::new(ProcessWide)?;
/// let mut nonce = [0; 12];
/// rng.try_fill_bytes(&mut nonce)?;
///
/// // For those who want a generator that cannot fail, this one panics instead:
/// let mut rng = UnwrapErr(rng);
/// let die: u8 = rng.random_range(1..=6);
/// # assert!((1..=6).contains(&die));
/// # Ok::<(), sysgenid::Error>(())
/// ```
///
/// # What is guaranteed, and what is not
///
/// - After each draw the witness is asked. Numbers are returned only if nothing has changed since
///   the generator was seeded, so none is returned that was drawn before, or across, a change that
///   the witness shows. Otherwise they are drawn again from a new seed; after a few such attempts
///   they come straight from the kernel, so a draw always ends.
/// - A draw that fails returns no numbers: what it leaves in the caller's buffer is zeros.
/// - The old generator is dropped before a new one is made. It is wiped from memory if `R` does so
///   when it is dropped (`chacha20` does, with its feature `zeroize`).
/// - There is no `Clone`: the clone would draw the same.
/// - **If the witness shows no restores, no generator is used**: every draw comes from the kernel, by
///   [`entropy::fill`](crate::entropy::fill), and costs a system call. That is the case for
///   `ProcessWide` while it has no source, or only a driver of the v5 dialect.
/// - **Only changes that the witness shows are seen.** There is a window between the resume of a
///   restored machine and the change that the source shows; see the book's page on guarantees. Keys
///   that are kept are better built from [`entropy::fill`](crate::entropy::fill): only the window
///   until the kernel reseeds remains then.
/// - What was returned is the caller's. A snapshot that is taken afterwards copies it with
///   everything else.
/// - A seed is the kernel's random numbers, with the processor's mixed into them where it has any
///   (RDRAND of x86-64). Where it has none, all depends on the kernel, which must have been reseeded
///   before the witness shows the change. With a counter that the hypervisor writes, it has not been.
///
/// # Errors of a draw
///
/// [`is_entropy`](Error::is_entropy) if a new seed is needed and the kernel gives none. The next
/// draw tries again.
pub struct SnapshotSafeRng<R, W = ProcessWide> {
    witness: W,
    /// The generator, and how things were just before it was seeded.
    seeded: Option<(Uniqueness, R)>,
}

impl<R: SeedableRng, W: Witness> SnapshotSafeRng<R, W> {
    /// Seeds a generator from the kernel, to be guarded by what `witness` sees.
    ///
    /// # Errors
    ///
    /// [`is_entropy`](Error::is_entropy) if the kernel gives no random bytes.
    pub fn new(witness: W) -> Result<Self> {
        let mut this = Self {
            witness,
            seeded: None,
        };
        this.reseed()?;
        Ok(this)
    }

    /// Drops the generator and seeds a new one from the kernel, as a change would.
    ///
    /// # Errors
    ///
    /// [`is_entropy`](Error::is_entropy) if the kernel gives no random bytes. The old generator is
    /// gone all the same.
    #[cold]
    pub fn reseed(&mut self) -> Result<()> {
        // First, so that nothing leaves the old one behind.
        self.seeded = None;
        if !self.witness.shows_restores() {
            // No generator is made. The caller still learns whether the kernel returns bytes.
            return entropy::fill(&mut [0]);
        }
        // Before the seed: a change in between makes the next check fail.
        let now = mark_for_build(&self.witness);
        let mut seed = R::Seed::default();
        entropy::seed(seed.as_mut())?;
        self.seeded = Some((now, R::from_seed(seed.clone())));
        seed.as_mut().zeroize();
        Ok(())
    }

    /// What guards the generator.
    #[must_use]
    pub fn witness(&self) -> &W {
        &self.witness
    }

    /// Returns what `draw` has drawn from the generator, once nothing has changed meanwhile. In the
    /// end, and if no restores are seen, `draw` gets no generator and draws from the kernel.
    ///
    /// There is no check before the draw: what the one after it refuses is seen by nobody.
    #[inline]
    fn draw<T>(&mut self, mut draw: impl FnMut(Option<&mut R>) -> Result<T>) -> Result<T> {
        for _ in 0..ATTEMPTS {
            if let Some((seeded, rng)) = &mut self.seeded {
                let drawn = draw(Some(rng))?;
                if is_unchanged(&self.witness, seeded) {
                    return Ok(drawn);
                }
            } else if is_blind(&self.witness) {
                break;
            }
            self.reseed()?;
        }
        draw(None)
    }
}

/// Returns whether a clone could draw from a copy of the state without being noticed.
#[cold]
fn is_blind(witness: &impl Witness) -> bool {
    !witness.shows_restores()
}

impl<R: SeedableRng + Rng, W: Witness> TryRng for SnapshotSafeRng<R, W> {
    type Error = Error;

    #[inline]
    fn try_next_u32(&mut self) -> Result<u32> {
        self.draw(|rng| match rng {
            Some(rng) => Ok(rng.next_u32()),
            None => entropy::array().map(u32::from_ne_bytes),
        })
    }

    #[inline]
    fn try_next_u64(&mut self) -> Result<u64> {
        self.draw(|rng| match rng {
            Some(rng) => Ok(rng.next_u64()),
            None => entropy::array().map(u64::from_ne_bytes),
        })
    }

    #[inline]
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<()> {
        let drawn = self.draw(|rng| match rng {
            Some(rng) => {
                rng.fill_bytes(bytes);
                Ok(())
            }
            None => entropy::fill(bytes),
        });
        if drawn.is_err() {
            // Of the old generator.
            bytes.zeroize();
        }
        drawn
    }
}

impl<R: SeedableRng + Rng + TryCryptoRng, W: Witness> TryCryptoRng for SnapshotSafeRng<R, W> {}

impl<R, W: fmt::Debug> fmt::Debug for SnapshotSafeRng<R, W> {
    /// Shows nothing of the generator.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotSafeRng")
            .field("witness", &self.witness)
            .finish_non_exhaustive()
    }
}
