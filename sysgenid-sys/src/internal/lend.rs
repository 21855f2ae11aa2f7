// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A thread's own stock of something, of which signal handlers of that thread may want some as well.

use std::cell::UnsafeCell;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering, compiler_fence};

/// A stock, which has a number of things in it.
pub trait Stock {
    /// How many there are: less than [`usize::MAX`].
    fn count(&self) -> usize;
}

/// A stock that is lent to one caller at a time.
///
/// It does what `RefCell` does for one who writes, and is faster for one who takes something out of
/// the stock: there the one number says both how much is left and whether the stock is lent.
pub struct Lend<T> {
    /// The count, or [`LENT`]. Only this thread and its signal handlers look at it, so relaxed loads
    /// and stores do.
    open: AtomicUsize,
    stock: UnsafeCell<T>,
}

/// More than there ever is.
const LENT: usize = usize::MAX;

impl<T: Stock> Lend<T> {
    /// A stock in which there is nothing yet.
    pub const fn empty(stock: T) -> Self {
        Self {
            open: AtomicUsize::new(0),
            stock: UnsafeCell::new(stock),
        }
    }

    /// Lends the stock to `work`; `None` if it is lent already, further up in this thread: to the caller
    /// of a caller, or to what a signal handler interrupted.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        if self.open.load(Ordering::Relaxed) == LENT {
            return None;
        }
        self.open.store(LENT, Ordering::Relaxed);
        // For a handler that interrupts this thread here, the stock is lent before it is touched.
        compiler_fence(Ordering::SeqCst);
        let _back = Back(self);
        // SAFETY: No other thread can have this reference, because the type is not `Sync`. In this
        // thread nothing else is made of the stock while it is lent: whatever `work` calls, and a
        // handler that interrupts it, finds that it is. A handler that comes between the load and the
        // store above has given the stock back when it returns, which it does before this goes on.
        Some(work(unsafe { &mut *self.stock.get() }))
    }

    /// Lends the stock to `take`, with its count, if that is from `LEAST` to `MOST`; `take` also
    /// returns how many are left. `None` if there are more or fewer, if the stock is lent, and perhaps
    /// if a signal handler interrupts this: [`with`](Self::with) tells.
    ///
    /// If `take` panics, the stock stays lent.
    #[inline(always)]
    pub fn take<const LEAST: usize, const MOST: usize, R>(
        &self,
        take: impl FnOnce(&mut T, usize) -> (R, usize),
    ) -> Option<R> {
        let count = self.open.load(Ordering::Relaxed);
        // It wraps if there are too few. `LENT` is too many.
        if count.wrapping_sub(LEAST) > MOST - LEAST {
            return None;
        }
        self.open.store(LENT, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        // SAFETY: As in `with`.
        let stock = unsafe { &mut *self.stock.get() };
        // Otherwise a handler took something between the load and the store above. It costs one
        // comparison to find that out, for which nothing has to wait.
        let (taken, left) = if stock.count() == count {
            let (taken, left) = take(stock, count);
            (Some(taken), left)
        } else {
            (None, stock.count())
        };
        compiler_fence(Ordering::SeqCst);
        self.open.store(left, Ordering::Relaxed);
        taken
    }
}

/// Takes the stock back, also after a panic.
struct Back<'a, T: Stock>(&'a Lend<T>);

impl<T: Stock> Drop for Back<'_, T> {
    fn drop(&mut self) {
        // SAFETY: It is lent still, and the reference that it was lent as is gone.
        let count = unsafe { &*self.0.stock.get() }.count();
        // The stock is touched no more once it is not lent.
        compiler_fence(Ordering::SeqCst);
        self.0.open.store(count, Ordering::Relaxed);
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

    use super::{Lend, Stock};

    struct Apples(usize);

    impl Stock for Apples {
        fn count(&self) -> usize {
            self.0
        }
    }

    fn with(count: usize) -> Lend<Apples> {
        let lend = Lend::empty(Apples(0));
        lend.with(|apples| apples.0 = count).unwrap();
        lend
    }

    fn take_two(lend: &Lend<Apples>) -> Option<usize> {
        lend.take::<2, 5, _>(|apples, count| {
            assert_eq!(apples.0, count);
            apples.0 -= 2;
            (count, apples.0)
        })
    }

    #[test]
    fn what_is_lent_is_not_lent_again_until_it_is_back() {
        let lend = with(4);
        let inner = lend.with(|_| (lend.with(|_| ()), take_two(&lend)));
        assert_eq!(inner, Some((None, None)));
        let inner = lend.take::<1, 5, _>(|_, count| ((lend.with(|_| ()), take_two(&lend)), count));
        assert_eq!(inner, Some((None, None)));
        assert_eq!(lend.with(|apples| apples.0), Some(4));
    }

    #[test]
    fn as_many_are_taken_as_there_are() {
        let lend = with(5);
        assert_eq!(take_two(&lend), Some(5));
        assert_eq!(take_two(&lend), Some(3));
        assert_eq!(take_two(&lend), None);
        assert_eq!(lend.with(|apples| apples.0), Some(1));
        assert_eq!(take_two(&with(6)), None, "more than the most");
        assert_eq!(take_two(&Lend::empty(Apples(0))), None);
    }

    /// As a signal handler leaves it that takes one between the look at the count and the lending.
    #[test]
    fn what_another_has_taken_meanwhile_is_not_taken_again() {
        let lend = with(4);
        lend.open.store(5, super::Ordering::Relaxed);
        assert_eq!(take_two(&lend), None);
        assert_eq!(take_two(&lend), Some(4), "it is back, with the right count");
    }

    #[test]
    fn a_panic_gives_it_back() {
        let lend = with(3);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            lend.with(|apples| {
                apples.0 = 2;
                std::panic::panic_any(())
            })
        }));
        panicked.unwrap_err();
        assert_eq!(take_two(&lend), Some(2));
    }
}
