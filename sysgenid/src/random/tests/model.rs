// SPDX-License-Identifier: Apache-2.0 OR MIT
use chacha20::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use crate::random::buffer::Buffer;

/// The buffer, made of the plain generator: the last words of each filling are the key of the next,
/// and the others are handed out from the end on.
pub(super) struct Model {
    key: [u8; 32],
    words: Vec<[u8; 4]>,
}

impl Model {
    pub(super) fn new(key: [u8; 32]) -> Self {
        Self {
            key,
            words: Vec::new(),
        }
    }

    pub(super) fn fill(&mut self, length: usize) -> Vec<u8> {
        match length {
            4 | 8 | 16 | 32 => self.whole(length / 4),
            Buffer::LARGE.. => {
                // A key for the blocks alone.
                let key = self.whole(8).try_into().unwrap();
                let mut bytes = vec![0; length - length % 256];
                ChaCha12Rng::from_seed(key).fill_bytes(&mut bytes);
                bytes.extend(self.some(length % 256));
                bytes
            }
            _ => self.some(length),
        }
    }

    /// Words that lie together. If there are too few, the rest is given up.
    fn whole(&mut self, count: usize) -> Vec<u8> {
        if self.words.len() < count {
            self.refill();
        }
        self.some(4 * count)
    }

    fn some(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut missing = length.div_ceil(4);
        loop {
            let left = self.words.len() - missing.min(self.words.len());
            let taken = self.words.split_off(left);
            missing -= taken.len();
            bytes.extend(taken.concat());
            if missing == 0 {
                break;
            }
            self.refill();
        }
        bytes.truncate(length);
        bytes
    }

    fn refill(&mut self) {
        let mut plain = ChaCha12Rng::from_seed(self.key);
        let mut filling = [0; Buffer::BYTES];
        plain.fill_bytes(&mut filling);
        let (drawn, next) = filling.split_at(Buffer::BYTES - 32);
        self.key = next.try_into().unwrap();
        let words = drawn.chunks_exact(4);
        self.words = words.map(|word| word.try_into().unwrap()).collect();
    }
}
