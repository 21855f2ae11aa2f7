// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The counters that this whole process looks at.
//!
//! There are two, because of two sources each may see what the other does not: the counter of the
//! hypervisor is right from the first instruction after a resume on, that of a driver also changes
//! when somebody triggers it. Either stands on a constant until it is [installed](Counter::install),
//! so that a look has nothing to ask first.

use std::mem::forget;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::page::{AtomicWord, CounterPage, Word};

/// The counter that is preferred, [`UNSET`] at first.
pub static PRIMARY: Counter = Counter::new(&BEFORE);
/// The other counter; it stays 0 if there is none.
pub static SECONDARY: Counter = Counter::new(&NONE);

/// What [`PRIMARY`] shows before anything is installed. A counter may have this number as well.
#[allow(clippy::unnecessary_cast, reason = "other machines need it")]
pub const UNSET: u64 = Word::MAX as u64;

static BEFORE: AtomicWord = AtomicWord::new(Word::MAX);
static NONE: AtomicWord = AtomicWord::new(0);

/// A counter that may be replaced while others look at it.
pub struct Counter {
    /// Of a static, or in a mapping that is never unmapped.
    counter: AtomicPtr<AtomicWord>,
}

impl Counter {
    /// One that shows a constant.
    #[must_use]
    pub const fn new(constant: &'static AtomicWord) -> Self {
        Self {
            counter: AtomicPtr::new(std::ptr::from_ref(constant).cast_mut()),
        }
    }

    /// The counter's number: two relaxed loads.
    #[inline]
    #[must_use]
    pub fn load(&self) -> u64 {
        // SAFETY: The pointer is that of a static or of a counter in a mapping that `install` never
        // unmaps; either is aligned, and only accessed atomically.
        let counter = unsafe { &*self.counter() };
        // Relaxed: what lies in it orders nothing.
        #[allow(clippy::useless_conversion, reason = "other machines need it")]
        u64::from(counter.load(Ordering::Relaxed))
    }

    /// The low 32 bits of the number, which are all of a driver's.
    #[inline]
    #[must_use]
    pub fn load_low(&self) -> u32 {
        // SAFETY: As in `load`; the low half of a word comes first where it has two.
        let counter = unsafe { AtomicU32::from_ptr(self.counter().cast()) };
        counter.load(Ordering::Relaxed)
    }

    #[inline]
    fn counter(&self) -> *mut AtomicWord {
        // Relaxed: the mapping that it points to was made before by a system call.
        self.counter.load(Ordering::Relaxed)
    }

    /// Lets everybody look at `page` from now on, or at nothing that ever changes. The mapping
    /// stays until the process ends, also when another is installed: somebody may be looking at it.
    pub fn install(&self, page: Option<CounterPage>) {
        let counter = match page {
            Some(page) => {
                let counter = page.as_ptr();
                forget(page);
                counter.cast()
            }
            None => (&raw const NONE).cast_mut(),
        };
        self.counter.store(counter, Ordering::Relaxed);
    }
}
