// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The counters that this whole process looks at.
//!
//! There are two, because of two sources each may see what the other does not: the counter of the
//! hypervisor is right from the first instruction after a resume on, that of a driver also changes
//! when somebody triggers it. Either stands on a constant until it is [installed](Counter::install),
//! so that a look has nothing to ask first.

use std::mem::forget;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::page::CounterPage;

/// The counter that is preferred, [`UNSET`] at first.
pub static PRIMARY: Counter = Counter::new(&BEFORE);
/// The other counter; it stays 0 if there is none.
pub static SECONDARY: Counter = Counter::new(&NONE);

/// What [`PRIMARY`] shows before anything is installed. A counter may have this number as well.
pub const UNSET: u32 = u32::MAX;

static BEFORE: AtomicU32 = AtomicU32::new(UNSET);
static NONE: AtomicU32 = AtomicU32::new(0);

/// A counter that may be replaced while others look at it.
pub struct Counter {
    /// Of a static, or in a mapping that is never unmapped.
    counter: AtomicPtr<AtomicU32>,
}

impl Counter {
    /// One that shows a constant.
    #[must_use]
    pub const fn new(constant: &'static AtomicU32) -> Self {
        Self {
            counter: AtomicPtr::new(std::ptr::from_ref(constant).cast_mut()),
        }
    }

    /// The counter's number: two relaxed loads.
    #[inline]
    #[must_use]
    pub fn load(&self) -> u32 {
        // Relaxed: the mapping that it points to was made before by a system call, and what lies in
        // it orders nothing.
        let counter = self.counter.load(Ordering::Relaxed);
        // SAFETY: The pointer is that of a static or of a counter in a mapping that `install` never
        // unmaps; either is aligned, and only accessed atomically.
        unsafe { &*counter }.load(Ordering::Relaxed)
    }

    /// Lets everybody look at `page` from now on, or at nothing that ever changes. The mapping
    /// stays until the process ends, also when another is installed: somebody may be looking at it.
    pub fn install(&self, page: Option<CounterPage>) {
        let counter = match page {
            Some(page) => {
                let counter = page.as_ptr();
                forget(page);
                counter.cast_mut()
            }
            None => (&raw const NONE).cast_mut(),
        };
        self.counter.store(counter, Ordering::Relaxed);
    }
}
