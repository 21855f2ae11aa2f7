// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Something that is a thread's own, of which signal handlers of that thread may want some as well.

use std::cell::UnsafeCell;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering, compiler_fence};

/// A thing that is lent to one caller at a time.
///
/// It does what `RefCell` does for one who writes, and so that a signal handler may come at any moment.
pub struct Lend<T> {
    /// Only this thread and its signal handlers look at it, so relaxed loads and stores do.
    is_lent: AtomicBool,
    thing: UnsafeCell<T>,
}

impl<T> Lend<T> {
    /// A thing that is not lent.
    pub const fn new(thing: T) -> Self {
        Self {
            is_lent: AtomicBool::new(false),
            thing: UnsafeCell::new(thing),
        }
    }

    /// Lends the thing to `work`; `None` if it is lent already, further up in this thread: to the caller
    /// of a caller, or to what a signal handler interrupted.
    #[inline(always)]
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        if self.is_lent.load(Ordering::Relaxed) {
            return None;
        }
        self.is_lent.store(true, Ordering::Relaxed);
        // For a handler that interrupts this thread here, the thing is lent before it is looked at.
        compiler_fence(Ordering::SeqCst);
        let _back = Back(&self.is_lent);
        // SAFETY: No other thread can have this reference, because the type is not `Sync`. In this
        // thread nothing else is made of the thing while it is lent: whatever `work` calls, and a
        // handler that interrupts it, finds that it is. A handler that comes between the load and the
        // store above has given the thing back when it returns, which it does before this goes on, and
        // nothing of the thing was looked at before that.
        Some(work(unsafe { &mut *self.thing.get() }))
    }
}

/// Takes the thing back, also after a panic.
struct Back<'a>(&'a AtomicBool);

impl Drop for Back<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // The thing is touched no more once it is not lent.
        compiler_fence(Ordering::SeqCst);
        self.0.store(false, Ordering::Relaxed);
    }
}

impl<T> fmt::Debug for Lend<T> {
    /// Shows nothing of the stock.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lend").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::Lend;

    #[test]
    fn what_is_lent_is_not_lent_again_until_it_is_back() {
        let lend = Lend::new(4);
        let inner = lend.with(|apples| {
            *apples -= 1;
            lend.with(|apples| *apples)
        });
        assert_eq!(inner, Some(None));
        assert_eq!(lend.with(|apples| *apples), Some(3));
    }

    #[test]
    fn a_panic_gives_it_back() {
        let lend = Lend::new(3);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            lend.with(|apples| {
                *apples = 2;
                std::panic::panic_any(())
            })
        }));
        panicked.unwrap_err();
        assert_eq!(lend.with(|apples| *apples), Some(2));
    }
}
