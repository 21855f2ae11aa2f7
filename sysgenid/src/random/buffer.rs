// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::mem;
use std::sync::atomic::{Ordering, fence};

use chacha20::variants::Legacy;
use chacha20::{ChaChaCore, R12};
use rand_core::SeedableRng;
use rand_core::block::Generator;
use sysgenid_sys::internal::words;
use zeroize::Zeroize;

use crate::base::error::Result;
use crate::check::unchanged::{ATTEMPTS, is_unchanged, mark_for_build};
use crate::check::{Uniqueness, Witness};
use crate::random::entropy;

type ChaCha12 = ChaChaCore<R12, Legacy>;

/// What the generator gives in one go, of which the buffer has several. The more there are, the
/// less does the key count that each filling costs.
type Block = <ChaCha12 as Generator>::Output;
const BLOCKS: usize = 8;

const BLOCK_WORDS: usize = size_of::<Block>() / 4;
const WORDS: usize = BLOCKS * BLOCK_WORDS;
const KEY_WORDS: usize = 8;
type Key = [u8; 4 * KEY_WORDS];

/// New entropy is mixed in after 64 KiB, as `rand` does it.
const STIRRED_AFTER: usize = 64 * 1024;

/// So many bytes and more are drawn where the caller wants them, and not moved there from the buffer.
/// For fewer, the key that it takes costs more than the moving.
const LARGE: usize = 2 * size_of::<Block>();

/// Random words that are drawn ahead, with the key that the next ones come from.
///
/// Nothing that was handed out can be found out from what is left: what is drawn is erased, and the
/// key of one filling is erased by the next, which was drawn with it ("fast key erasure").
// In this order blocks begin where lines of the cache do, and what each draw looks at is in one line.
#[cfg_attr(test, derive(Clone))]
#[repr(C, align(64))]
pub(super) struct Buffer {
    words: [Block; BLOCKS],
    /// How things were just before the key was drawn from the kernel.
    seeded: Uniqueness,
    /// How many words at the beginning of `words` are unused; the others are 0.
    left: usize,
    /// Whether there is a key at all.
    is_seeded: bool,
    /// How many bytes were drawn since new entropy was mixed in.
    drawn: usize,
    key: Key,
}

impl Buffer {
    /// Without a key. All zeros, so that it costs a new thread nothing.
    pub(super) const EMPTY: Self = Self {
        words: [[0; BLOCK_WORDS]; BLOCKS],
        seeded: Uniqueness::of(crate::Generation::new(0)),
        left: 0,
        is_seeded: false,
        drawn: 0,
        key: [0; 4 * KEY_WORDS],
    };

    /// So many words. They were drawn since the last change that `witness` shows, or it is `None` because
    /// that is not sure, or there are too few: [`fill`](Self::fill) is sure.
    ///
    /// They are taken first and checked then: what the check refuses is seen by nobody. The number is
    /// a constant, so that this is a few instructions wherever it ends up.
    #[inline(always)]
    pub(super) fn words<const N: usize>(&mut self, witness: &impl Witness) -> Option<[u32; N]> {
        let words = self.take_words()?;
        self.is_unique(witness).then_some(words)
    }

    #[inline(always)]
    fn take_words<const N: usize>(&mut self) -> Option<[u32; N]> {
        // Wraps to a number that is too large if there are too few. So it is one comparison, of the number
        // that the rest needs.
        let left = self.left.wrapping_sub(N);
        if left > WORDS - N {
            return None;
        }
        let words = self.words.as_flattened_mut().get_mut(left..left + N)?;
        let taken = mem::replace(words.first_chunk_mut()?, [0; N]);
        self.left = left;
        Some(taken)
    }

    /// Refills the buffer if there are fewer words in it. Returns whether it has.
    pub(super) fn need(&mut self, words: usize) -> bool {
        let is_needed = self.left < words && self.is_seeded;
        if is_needed {
            self.refill();
        }
        is_needed
    }

    /// Moves words to `bytes`, at most as many as there are, and returns the rest of `bytes`. The
    /// rest of a word that is used in part is lost.
    fn take<'a>(&mut self, bytes: &'a mut [u8]) -> &'a mut [u8] {
        let (bytes, rest) = bytes.split_at_mut(bytes.len().min(4 * self.left));
        let left = self.left - bytes.len().div_ceil(4);
        let words = self.words.as_flattened_mut().get_mut(left..self.left);
        let words = words.unwrap_or_default();
        put(words, bytes);
        words.fill(0);
        self.left = left;
        rest
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
            if !self.is_seeded {
                if !witness.shows_restores() {
                    break;
                }
                self.seed(witness).inspect_err(|_| bytes.zeroize())?;
            }
            // Not checked before it: what the check after it refuses is overwritten.
            self.take_all(bytes);
            if is_unchanged(witness, &self.seeded) {
                return Ok(());
            }
            self.wipe();
        }
        // Where changes do not end or are not seen, the kernel has to keep up with them.
        entropy::fill(bytes)
    }

    /// Only once there is a key.
    fn take_all(&mut self, bytes: &mut [u8]) {
        if bytes.len() < LARGE {
            return self.take_some(bytes);
        }
        for bytes in bytes.chunks_mut(STIRRED_AFTER) {
            let (before, blocks, after) = words::split(bytes);
            self.take_some(before);
            self.draw(blocks);
            self.take_some(after);
        }
    }

    fn take_some(&mut self, mut bytes: &mut [u8]) {
        loop {
            bytes = self.take(bytes);
            if bytes.is_empty() {
                break;
            }
            self.refill();
        }
    }

    /// Draws `blocks` with a key for them alone, which is one more draw from the buffer.
    fn draw(&mut self, blocks: &mut [Block]) {
        self.drawn += size_of_val(blocks);
        if self.drawn > STIRRED_AFTER {
            // The words in the buffer were drawn before that.
            self.stir();
            self.refill();
        }
        self.need(KEY_WORDS);
        let Some(words) = self.take_words::<KEY_WORDS>() else {
            return;
        };
        let mut key = Key::default();
        put(&words, &mut key);
        let mut cipher = ChaCha12::from_seed(key);
        key.zeroize();
        for block in blocks {
            cipher.generate(block);
            for word in block {
                *word = word.to_le();
            }
        }
    }

    /// Draws a key from the kernel.
    fn seed(&mut self, witness: &impl Witness) -> Result<()> {
        self.wipe();
        // First: after a change in between, the next check fails.
        self.seeded = mark_for_build(witness);
        entropy::seed(&mut self.key)?;
        self.is_seeded = true;
        Ok(())
    }

    /// Only once there is a key. What is left in the buffer is lost.
    #[inline(never)]
    fn refill(&mut self) {
        self.drawn += 4 * WORDS;
        if self.drawn > STIRRED_AFTER {
            self.stir();
        }
        let mut cipher = ChaCha12::from_seed(self.key);
        for block in &mut self.words {
            cipher.generate(block);
        }
        let words = self.words.as_flattened_mut();
        self.left = words.len().saturating_sub(KEY_WORDS);
        if let Some(key) = words.get_mut(self.left..) {
            put(key, &mut self.key);
            key.fill(0);
        }
    }

    /// Mixes new entropy into the key. The key is as good as it was if there is none just now, in a
    /// sandbox that was closed after the start, so that is no failure.
    fn stir(&mut self) {
        let mut entropy = Key::default();
        if entropy::fill(&mut entropy).is_ok() {
            for (key, entropy) in self.key.iter_mut().zip(entropy) {
                *key ^= entropy;
            }
            entropy.zeroize();
        }
        self.drawn = 0;
    }

    /// Makes it one without a key.
    pub(super) fn wipe(&mut self) {
        self.is_seeded = false;
        self.left = 0;
        self.drawn = 0;
        self.key.zeroize();
        self.words.as_flattened_mut().zeroize();
    }
}

/// Four bytes for each word, little-endian; fewer of the last one.
fn put(words: &[u32], bytes: &mut [u8]) {
    let mut whole = bytes.chunks_exact_mut(4);
    for (to, from) in whole.by_ref().zip(words) {
        to.copy_from_slice(&from.to_le_bytes());
    }
    let part = whole.into_remainder();
    if let Some(from) = words.last() {
        for (to, from) in part.iter_mut().zip(from.to_le_bytes()) {
            *to = from;
        }
    }
}

#[cfg(test)]
impl Buffer {
    pub(super) const BYTES: usize = 4 * WORDS;
    pub(super) const LARGE: usize = LARGE;

    /// Begins anew with this key.
    pub(super) fn set_key(&mut self, key: Key) {
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
        !self.is_seeded && self.key == Key::default() && self.left == 0 && self.used_is_erased()
    }
}
