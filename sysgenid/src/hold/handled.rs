// SPDX-License-Identifier: Apache-2.0 OR MIT
use crate::base::fork_lock::ForkLock;
use crate::base::sync::{AtomicU64, Ordering, constant, fence};
use crate::check::{Uniqueness, WORDS};

/// Up to which moment all changes were handled. Readers wait for nothing: while it is being written
/// there is no such moment.
pub(super) struct Handled {
    /// Held by the writer.
    writing: ForkLock,
    /// Odd before the first time and during a write. A forked child may find it odd.
    version: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl Handled {
    constant! {
        pub(super) fn nothing() -> Self {
            Self {
                writing: ForkLock::new(),
                version: AtomicU64::new(1),
                words: [
                    AtomicU64::new(0),
                    AtomicU64::new(0),
                    #[cfg(feature = "testing")]
                    AtomicU64::new(0),
                ],
            }
        }
    }

    #[inline]
    pub(super) fn get(&self) -> Option<Uniqueness> {
        // Acquire: its partner is the last store of `set`. Whoever finds a moment sees what was done
        // before it was set.
        let version = self.version.load(Ordering::Acquire);
        let words = self
            .words
            .each_ref()
            .map(|word| word.load(Ordering::Relaxed));
        // Acquire: its partner is the release fence in `set`. If one of the words is of a later write,
        // the version below is of that one, too.
        fence(Ordering::Acquire);
        let is_whole = version % 2 == 0 && version == self.version.load(Ordering::Relaxed);
        is_whole.then(|| Uniqueness::from_words(words))
    }

    pub(super) fn set(&self, mark: Uniqueness) {
        // None if this thread is in the middle of it, and this a signal handler: then nothing is set.
        let Some(_writing) = self.writing.lock() else {
            return;
        };
        // Relaxed: it is written under the lock, which is this thread's now.
        let odd = self.version.load(Ordering::Relaxed) | 1;
        self.version.store(odd, Ordering::Relaxed);
        fence(Ordering::Release);
        for (to, word) in self.words.iter().zip(mark.words()) {
            to.store(word, Ordering::Relaxed);
        }
        self.version.store(odd.wrapping_add(1), Ordering::Release);
    }
}
