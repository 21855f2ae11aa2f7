// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What each thread announces that it uses. All claims stay in memory until the process ends, and are
//! taken again by other threads.

use std::cell::Cell;
use std::ptr;

use crate::internal::barrier;
use crate::internal::sync::{AtomicBool, AtomicPtr, Ordering, shared};

/// One thing that one thread uses.
// Alone in its cache lines, which its thread writes to in each use.
#[repr(align(128))]
pub(crate) struct Claim {
    /// Null, or what is used.
    pub(crate) announced: AtomicPtr<()>,
    is_taken: AtomicBool,
    /// That was made before.
    next: Option<&'static Claim>,
}

shared! {
    /// Null, or the last that was made.
    static LAST: AtomicPtr<Claim> = AtomicPtr::new(ptr::null_mut());
}

#[cfg(not(sysgenid_loom))]
thread_local! {
    static OWN: Cell<Option<&'static Claim>> = const { Cell::new(None) };
    static LEAVING: Leaving = const { Leaving };
}

#[cfg(sysgenid_loom)]
loom::thread_local! {
    static OWN: Cell<Option<&'static Claim>> = Cell::new(None);
    static LEAVING: Leaving = Leaving;
}

/// Gives this thread's claim back when the thread ends.
struct Leaving;

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Ok(Some(claim)) = OWN.try_with(Cell::take) {
            claim.give_back();
        }
    }
}

impl Claim {
    /// Release: its partner is the load in [`is_announced`]. Whoever does not find there what this thread
    /// used before sees that the use is over.
    #[inline]
    pub(crate) fn announce<T>(&self, value: *const T) {
        self.announced
            .store(value.cast_mut().cast(), Ordering::Release);
    }

    /// Release: as [`announce`](Self::announce).
    #[inline]
    pub(crate) fn clear(&self) {
        self.announced.store(ptr::null_mut(), Ordering::Release);
    }

    /// Lets another thread have it. It must be clear.
    pub(crate) fn give_back(&self) {
        // Release: its partner is the exchange in `another`.
        self.is_taken.store(false, Ordering::Release);
    }
}

/// The claim of this thread, which [light barriers](barrier::light) are enough for; `None` before its
/// first use, or if they are not.
#[inline]
pub(crate) fn of_this_thread() -> Option<&'static Claim> {
    OWN.with(Cell::get)
}

/// A claim for one use, which needs a [full barrier](barrier::full). The next use of this thread has a
/// claim of its own.
pub(crate) fn another() -> &'static Claim {
    if of_this_thread().is_none() && barrier::is_asymmetric() {
        // Not at the end of the thread, when nothing gives it back.
        let _ = LEAVING.try_with(|_| OWN.with(|own| own.set(Some(take()))));
    }
    take()
}

fn take() -> &'static Claim {
    // Acquire: its partner is the exchange below.
    let last = LAST.load(Ordering::Acquire);
    // SAFETY: It is null, or was leaked below and is only ever shared.
    let mut claim = unsafe { last.as_ref() };
    while let Some(found) = claim {
        // Acquire: its partner is the store in `give_back`.
        if found
            .is_taken
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
        {
            return found;
        }
        claim = found.next;
    }
    let mut new = Box::new(Claim {
        announced: AtomicPtr::new(ptr::null_mut()),
        is_taken: AtomicBool::new(true),
        next: None,
    });
    let mut next = LAST.load(Ordering::Acquire);
    loop {
        // SAFETY: As above.
        new.next = unsafe { next.as_ref() };
        let pointer = Box::into_raw(new);
        // Release: its partners are the acquire loads of `LAST`.
        match LAST.compare_exchange(next, pointer, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: It was just made of a box, which is leaked: it is only shared from now on.
            Ok(_) => return unsafe { &*pointer },
            Err(now) => {
                next = now;
                // SAFETY: It was made of a box above, and no other thread has it.
                new = unsafe { Box::from_raw(pointer) };
            }
        }
    }
}

/// Whether a thread announces this. Whoever is told that none does sees the uses that are over.
pub(crate) fn is_announced<T>(value: *const T) -> bool {
    // SAFETY: As in `take`. Acquire: as there.
    let mut claim = unsafe { LAST.load(Ordering::Acquire).as_ref() };
    while let Some(found) = claim {
        // Acquire: see `announce`.
        if ptr::eq(found.announced.load(Ordering::Acquire), value.cast()) {
            return true;
        }
        claim = found.next;
    }
    false
}
