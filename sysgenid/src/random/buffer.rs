// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::mem;
use std::sync::atomic::{Ordering, fence};

use chacha20::variants::Legacy;
use chacha20::{ChaChaCore, R12};
use rand_core::SeedableRng;
use rand_core::block::Generator;
use zeroize::Zeroize;

use super::ATTEMPTS;
use crate::base::error::Result;
use crate::check::{Uniqueness, Witness};
use crate::random::entropy;

type ChaCha12 = ChaChaCore<R12, Legacy>;

/// What the generator gives in one go, of which the buffer has several. The more there are, the
/// less does the key count that each filling costs.
type Block = <ChaCha12 as Generator>::Output;
const BLOCKS: usize = 8;

const WORDS: usize = BLOCKS * size_of::<Block>() / 4;
const KEY_WORDS: usize = 8;

/// New entropy is mixed in after 64 KiB, as `rand` does it.
const FILLINGS: usize = 64 * 1024 / (4 * WORDS);

/// Random words that are drawn ahead, with the key that the next ones come from.
///
/// Nothing that was handed out can be found out from what is left: what is drawn is erased, and the
/// key of one filling is erased by the next, which was drawn with it ("fast key erasure").
#[cfg_attr(test, derive(Clone))]
pub(super) struct Buffer {
    /// How things were just before the key was drawn from the kernel.
    seeded: Uniqueness,
    /// Whether there is a key at all.
    is_seeded: bool,
    fillings: usize,
    key: [u8; 4 * KEY_WORDS],
    /// How many words at the beginning of `words` are unused; the others are 0.
    left: usize,
    words: [Block; BLOCKS],
}

impl Buffer {
    /// Without a key. All zeros, so that it costs a new thread nothing.
    pub(super) const EMPTY: Self = Self {
        seeded: Uniqueness::of(crate::Generation::new(0)),
        is_seeded: false,
        fillings: 0,
        key: [0; 4 * KEY_WORDS],
        left: 0,
        words: [[0; size_of::<Block>() / 4]; BLOCKS],
    };

    /// So many words, drawn since the last change that `witness` shows. `None` if there are not
    /// enough, or perhaps not: [`fill`](Self::fill) knows.
    ///
    /// They are taken first and checked then: what the check refuses is seen by nobody. The number is
    /// a constant, so that this is a few instructions wherever it ends up.
    #[inline(always)]
    pub(super) fn words<const N: usize>(&mut self, witness: &impl Witness) -> Option<[u32; N]> {
        // Wraps to a start behind the end if there are too few.
        let left = self.left.wrapping_sub(N);
        let words = self.words.as_flattened_mut().get_mut(left..)?;
        let taken = mem::replace(words.first_chunk_mut()?, [0; N]);
        self.left = left;
        self.is_unique(witness).then_some(taken)
    }

    /// Moves words to `bytes`, if there are enough. The rest of a word that is used in part is lost.
    fn take(&mut self, bytes: &mut [u8]) -> bool {
        // Wraps to a start behind the end, which is no range, if there are too few.
        let left = self.left.wrapping_sub(bytes.len().div_ceil(4));
        let Some(words) = self.words.as_flattened_mut().get_mut(left..self.left) else {
            return false;
        };
        self.left = left;
        let mut whole = bytes.chunks_exact_mut(4);
        for (to, from) in whole.by_ref().zip(words.iter()) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        if let Some(from) = words.last() {
            let from = from.to_le_bytes();
            for (to, from) in whole.into_remainder().iter_mut().zip(from) {
                *to = from;
            }
        }
        words.fill(0);
        true
    }

    /// Whether nothing has changed since the key was drawn, if a glance tells.
    #[inline(always)]
    fn is_unique(&self, witness: &impl Witness) -> bool {
        // What was taken was taken before the look at the counter, whose partner is the store of
        // whoever changes it.
        fence(Ordering::Acquire);
        witness.glance() == self.seeded
    }

    /// Fills `bytes` with what was drawn since the last change that `witness` shows, whatever it
    /// takes. If it shows no restores, the bytes come from the kernel and no key is kept.
    ///
    /// # Errors
    ///
    /// The kernel gives no bytes, or no new key that is needed. `bytes` is all zeros then.
    pub(super) fn fill(&mut self, witness: &impl Witness, bytes: &mut [u8]) -> Result<()> {
        for _ in 0..ATTEMPTS {
            if !(self.is_seeded && self.is_still_unique(witness)) {
                // A buffer is seeded only where restores are seen, and a witness that shows them goes
                // on to do so.
                if !(self.is_seeded || witness.shows_restores()) {
                    break;
                }
                self.seed(witness).inspect_err(|_| bytes.zeroize())?;
            }
            self.take_all(bytes);
            if self.is_still_unique(witness) {
                return Ok(());
            }
        }
        // Where changes do not end or are not seen, the kernel has to keep up with them.
        entropy::fill(bytes)
    }

    /// As [`is_unique`](Self::is_unique), but exact.
    fn is_still_unique(&self, witness: &impl Witness) -> bool {
        self.is_unique(witness) || witness.mark() == self.seeded
    }

    fn take_all(&mut self, mut bytes: &mut [u8]) {
        while !self.take(bytes) {
            let (now, later) = bytes.split_at_mut(bytes.len().min(4 * self.left));
            self.take(now);
            bytes = later;
            self.refill();
        }
    }

    /// Draws a key from the kernel.
    fn seed(&mut self, witness: &impl Witness) -> Result<()> {
        self.wipe();
        // First: after a change in between, the next check fails.
        self.seeded = witness.mark();
        entropy::seed(&mut self.key)?;
        self.is_seeded = true;
        Ok(())
    }

    /// Only once there is a key.
    fn refill(&mut self) {
        if self.fillings == FILLINGS {
            self.stir();
        }
        self.fillings += 1;
        let mut cipher = ChaCha12::from_seed(self.key);
        for block in &mut self.words {
            cipher.generate(block);
        }
        let words = self.words.as_flattened_mut();
        self.left = words.len().saturating_sub(KEY_WORDS);
        if let Some(key) = words.get_mut(self.left..) {
            for (to, from) in self.key.chunks_exact_mut(4).zip(&mut *key) {
                to.copy_from_slice(&from.to_le_bytes());
            }
            key.fill(0);
        }
    }

    /// Mixes new entropy into the key. The key is as good as it was if there is none just now, in a
    /// sandbox that was closed after the start, so that is no failure.
    fn stir(&mut self) {
        let mut entropy = [0; 4 * KEY_WORDS];
        if entropy::fill(&mut entropy).is_ok() {
            for (key, entropy) in self.key.iter_mut().zip(entropy) {
                *key ^= entropy;
            }
            entropy.zeroize();
        }
        self.fillings = 0;
    }

    /// Makes it one without a key.
    pub(super) fn wipe(&mut self) {
        self.is_seeded = false;
        self.left = 0;
        self.fillings = 0;
        self.key.zeroize();
        self.words.as_flattened_mut().zeroize();
    }
}

#[cfg(test)]
impl Buffer {
    pub(super) const BYTES: usize = 4 * WORDS;

    /// Begins anew with this key.
    pub(super) fn set_key(&mut self, key: [u8; 4 * KEY_WORDS]) {
        self.wipe();
        self.is_seeded = true;
        self.key = key;
    }

    /// Whether no word is left of those that were drawn.
    pub(super) fn used_is_erased(&self) -> bool {
        let used = self.words.as_flattened().get(self.left..);
        used.is_some_and(|words| words.iter().all(|&word| word == 0))
    }

    pub(super) fn is_wiped(&self) -> bool {
        !self.is_seeded && self.key == [0; 4 * KEY_WORDS] && self.left == 0 && self.used_is_erased()
    }
}
