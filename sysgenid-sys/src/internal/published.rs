// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A place for a value that many threads read and few replace.
//!
//! A reader announces which value it uses, in a *claim* of its thread, and looks again: a value that is
//! still published then was announced in time. Who replaces a value looks through all claims, and leaves
//! one that is announced to its last reader. These are hazard pointers.
//!
//! Between the announcement and the second look there must be a full barrier, which costs more than all
//! the rest. So it is the writer who has every thread of the process execute one, by the system call
//! `membarrier`; the reader only keeps the compiler from changing the order. Where there is no such call, readers
//! execute the barrier themselves.
//!
//! # Forks
//!
//! A forked child has the claims of threads that it does not have. What they announced stays in memory
//! there, unwiped, and nothing waits for them. The same holds for what is replaced in the child, if a
//! thread of the parent was looking after the same place during the fork.
//!
//! # Where the barrier fails
//!
//! A sandbox that was closed since may refuse the call. Then a value that was replaced is kept until the
//! call works again, or until the place itself is dropped.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::ops::Deref;
use std::ptr;
use std::sync::Arc;

use crate::internal::barrier;
use crate::internal::claims::{self, Claim};
use crate::internal::sync::{AtomicPtr, AtomicU32, Ordering, constant};

/// A value, or none, that is replaced now and then. What was replaced is dropped by the last that
/// reads it, or by whoever replaced it.
pub struct Published<T> {
    /// Null, or an `Arc` that was made a pointer.
    current: AtomicPtr<T>,
    /// What was replaced and is not in the list yet: null, or a box that was made a pointer.
    added: AtomicPtr<Replaced<T>>,
    /// How often a look at the list was asked for since a thread has begun to look; 0 if none does. A
    /// forked child may find it set by a thread that it does not have: then what is replaced in the
    /// child stays in memory.
    looks: AtomicU32,
    /// Only for the thread that has raised `looks` from 0, or for the owner.
    list: UnsafeCell<Vec<Replaced<T>>>,
    _owns: PhantomData<Arc<T>>,
}

struct Replaced<T> {
    value: Arc<T>,
    /// Whether no thread can announce it any more; false if that is not known, because the barrier
    /// failed.
    is_unreachable: bool,
    /// Null, or that was added before.
    next: *mut Replaced<T>,
}

// SAFETY: It hands out references to values in all threads, and drops them in any, which `T` bears. Its
// own parts are atomic, but for the list, which one thread at a time has.
unsafe impl<T: Send + Sync> Send for Published<T> {}
// SAFETY: As above.
unsafe impl<T: Send + Sync> Sync for Published<T> {}

impl<T> Published<T> {
    constant! {
        /// No value.
        pub fn empty() -> Self {
            Self {
                current: AtomicPtr::new(ptr::null_mut()),
                added: AtomicPtr::new(ptr::null_mut()),
                looks: AtomicU32::new(0),
                list: UnsafeCell::new(Vec::new()),
                _owns: PhantomData,
            }
        }
    }

    /// The last value that was stored. The reader sees what was done before that.
    #[inline]
    pub fn load(&self) -> Option<Held<'_, T>> {
        if let Some(claim) = claims::of_this_thread() {
            // Relaxed: it is this thread's, but for signal handlers, which leave it as it was.
            if claim.announced.load(Ordering::Relaxed).is_null() {
                let value = self.current.load(Ordering::Relaxed);
                claim.announce(value);
                barrier::light();
                // Acquire: its partner is the swap in `store`, before which the value was made.
                if self.current.load(Ordering::Acquire) == value {
                    return Held::new(self, value, claim, false);
                }
                claim.clear();
                // It may have been left to this reader, which does not use it after all.
                self.look_after();
            }
        }
        self.load_slowly()
    }

    /// In the first use of a thread, in a use within a use, and where a value was just replaced.
    #[cold]
    fn load_slowly(&self) -> Option<Held<'_, T>> {
        let claim = claims::another();
        let mut value = self.current.load(Ordering::Relaxed);
        let mut is_first = true;
        loop {
            claim.announce(value);
            barrier::full();
            // Acquire: as in `load`.
            let now = self.current.load(Ordering::Acquire);
            if now == value {
                break;
            }
            value = now;
            is_first = false;
        }
        if !is_first {
            // As in `load`.
            self.look_after();
        }
        Held::new(self, value, claim, true)
    }

    /// Puts `value` in the place of what was there.
    pub fn store(&self, value: Option<Arc<T>>) {
        let value = value.map_or(ptr::null(), Arc::into_raw).cast_mut();
        // Release for those who load it; Acquire, because what it was made of may be dropped here.
        let old = self.current.swap(value, Ordering::AcqRel);
        if old.is_null() {
            return;
        }
        // SAFETY: It was made of an `Arc` by this function, and is taken back once.
        let old = unsafe { Arc::from_raw(old) };
        // Each thread has announced what it uses by now, or will find the new value when it looks again.
        let is_unreachable = barrier::heavy();
        self.add(Box::new(Replaced {
            value: old,
            is_unreachable,
            next: ptr::null_mut(),
        }));
        self.look_after();
    }

    fn add(&self, replaced: Box<Replaced<T>>) {
        let replaced = Box::into_raw(replaced);
        let mut next = self.added.load(Ordering::Relaxed);
        loop {
            // SAFETY: It is a box of this function until it is added.
            unsafe { (*replaced).next = next };
            // Release: its partner is the swap in `look_after`, which takes it.
            let added = self.added.compare_exchange_weak(
                next,
                replaced,
                Ordering::Release,
                Ordering::Relaxed,
            );
            match added {
                Ok(_) => return,
                Err(now) => next = now,
            }
        }
    }

    /// Drops what nobody uses any more, or leaves that to the thread that is at it.
    #[cold]
    fn look_after(&self) {
        // Release: whoever looks next sees what this thread has cleared or added. Acquire: to have the
        // list as the last one left it, and see what others have cleared or added.
        if self.looks.fetch_add(1, Ordering::AcqRel) != 0 {
            return;
        }
        let mut unused = Vec::new();
        let mut looks = 1;
        loop {
            self.take_unused(&mut unused);
            // Acquire and release as above: what was asked for meanwhile is done by this thread.
            let end = self
                .looks
                .compare_exchange(looks, 0, Ordering::AcqRel, Ordering::Acquire);
            match end {
                Ok(_) => break,
                Err(now) => looks = now,
            }
        }
        // Only now: their drop may do anything.
        drop(unused);
    }

    /// Takes what nobody uses out of the list. Only for the thread that has raised `looks` from 0.
    fn take_unused(&self, unused: &mut Vec<Replaced<T>>) {
        // SAFETY: This thread has raised `looks` from 0, so that no other has a reference.
        let list = unsafe { &mut *self.list.get() };
        self.take_added(list);
        // What was doubtful is so until the barrier works again: then it holds for all of them.
        if list.iter().any(|replaced| !replaced.is_unreachable) && barrier::heavy() {
            for replaced in &mut *list {
                replaced.is_unreachable = true;
            }
        }
        for replaced in mem::take(list) {
            if replaced.is_unreachable && !claims::is_announced(Arc::as_ptr(&replaced.value)) {
                unused.push(replaced);
            } else {
                list.push(replaced);
            }
        }
    }

    fn take_added(&self, list: &mut Vec<Replaced<T>>) {
        // Acquire: its partner is the exchange in `add`.
        let mut added = self.added.swap(ptr::null_mut(), Ordering::Acquire);
        while !added.is_null() {
            // SAFETY: It was made of a box in `add`, and the swap has given it to this thread alone.
            let replaced = unsafe { Box::from_raw(added) };
            added = replaced.next;
            list.push(*replaced);
        }
    }
}

impl<T> Drop for Published<T> {
    fn drop(&mut self) {
        // Whoever holds a value borrows this, so nobody does.
        let mut list = Vec::new();
        self.take_added(&mut list);
        let current = self.current.load(Ordering::Relaxed);
        if !current.is_null() {
            // SAFETY: It was made of an `Arc` in `store`, and is taken back once.
            drop(unsafe { Arc::from_raw(current) });
        }
    }
}

impl<T> fmt::Debug for Published<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Published").finish_non_exhaustive()
    }
}

/// A value in use. It stays with its thread.
pub struct Held<'a, T> {
    from: &'a Published<T>,
    /// Not null, and announced.
    value: *const T,
    claim: &'static Claim,
    /// Whether the claim was taken for this alone.
    is_extra: bool,
}

impl<'a, T> Held<'a, T> {
    /// Of a value that is published and announced in `claim`; or of none.
    #[inline]
    fn new(
        from: &'a Published<T>,
        value: *const T,
        claim: &'static Claim,
        is_extra: bool,
    ) -> Option<Self> {
        if value.is_null() {
            if is_extra {
                claim.give_back();
            }
            return None;
        }
        Some(Self {
            from,
            value,
            claim,
            is_extra,
        })
    }

    /// The value, to be kept for longer.
    #[must_use]
    pub fn keep(&self) -> Arc<T> {
        // SAFETY: It was made of an `Arc`, of which there is one while it is announced. This makes
        // another of it, and takes none away.
        Arc::clone(&ManuallyDrop::new(unsafe { Arc::from_raw(self.value) }))
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: It is announced, and was published after that. Whoever replaces it leaves it alone
        // while it is announced, which is until this is dropped.
        unsafe { &*self.value }
    }
}

impl<T> Drop for Held<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.claim.clear();
        if self.is_extra {
            self.claim.give_back();
            barrier::full();
        } else {
            barrier::light();
        }
        // Either the look of whoever has replaced it found the claim clear, or this finds it replaced.
        if !ptr::eq(self.from.current.load(Ordering::Relaxed), self.value) {
            self.from.look_after();
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Held<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(all(test, not(sysgenid_loom)))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::*;

    /// Says how many there are.
    struct Counted<'a>(&'a AtomicUsize, u64);

    impl<'a> Counted<'a> {
        fn new(count: &'a AtomicUsize, number: u64) -> Option<Arc<Self>> {
            count.fetch_add(1, Ordering::SeqCst);
            Some(Arc::new(Self(count, number)))
        }
    }

    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.1 = u64::MAX;
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn what_was_replaced_goes_with_its_last_reader() {
        let count = AtomicUsize::new(0);
        let left = || count.load(Ordering::SeqCst);
        let published = Published::empty();
        assert!(published.load().is_none());
        published.store(Counted::new(&count, 1));
        // The first use of a thread is slow, and the others are fast.
        for _ in 0..2 {
            let one = published.load().unwrap();
            let within = published.load().unwrap();
            published.store(Counted::new(&count, 2));
            let new = published.load().unwrap();
            assert_eq!((one.1, within.1, new.1, left()), (1, 1, 2, 2));
            drop(one);
            assert_eq!(left(), 2, "it is in use");
            drop(within);
            assert_eq!(left(), 1);
            drop(new);
            published.store(Counted::new(&count, 1));
            assert_eq!(left(), 1, "nobody used it");
        }
        let kept = published.load().unwrap().keep();
        published.store(None);
        assert!(published.load().is_none());
        assert_eq!((kept.1, left()), (1, 1));
        drop(kept);
        assert_eq!(left(), 0);
        published.store(Counted::new(&count, 3));
        drop(published);
        assert_eq!(left(), 0);
    }

    /// Whether another thread uses it cannot be known then, so nothing is dropped.
    #[test]
    fn what_was_replaced_stays_while_the_barrier_is_refused() {
        let count = AtomicUsize::new(0);
        let left = || count.load(Ordering::SeqCst);
        let published = Published::empty();
        published.store(Counted::new(&count, 1));
        // So that there is a thread that relies on it.
        drop(published.load());
        barrier::tests::IS_REFUSED.set(true);
        for number in 2..5 {
            published.store(Counted::new(&count, number));
            assert_eq!(published.load().unwrap().1, number);
        }
        assert_eq!(left(), 4);
        barrier::tests::IS_REFUSED.set(false);
        published.store(Counted::new(&count, 5));
        assert_eq!(left(), 1);

        barrier::tests::IS_REFUSED.set(true);
        published.store(None);
        drop(published);
        barrier::tests::IS_REFUSED.set(false);
        assert_eq!(left(), 0, "whoever drops it knows that nobody does");
    }

    #[test]
    fn each_place_has_its_own_value() {
        let count = AtomicUsize::new(0);
        let places = [Published::empty(), Published::empty()];
        for (place, number) in places.iter().zip(1..) {
            place.store(Counted::new(&count, number));
        }
        let held = places.each_ref().map(|place| place.load().unwrap());
        places[0].store(None);
        assert_eq!(held.each_ref().map(|held| held.1), [1, 2]);
        drop(held);
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn threads_never_read_what_is_gone() {
        const READERS: usize = 4;
        const VALUES: u64 = 3_000;
        let count = AtomicUsize::new(0);
        let published = Published::empty();
        published.store(Counted::new(&count, 0));
        let begin = Barrier::new(READERS + 1);
        thread::scope(|scope| {
            for _ in 0..READERS {
                scope.spawn(|| {
                    begin.wait();
                    let mut last = 0;
                    while last < VALUES {
                        let held = published.load().unwrap();
                        assert!(
                            held.1 >= last && held.1 <= VALUES,
                            "{} after {last}",
                            held.1
                        );
                        last = held.1;
                    }
                });
            }
            begin.wait();
            for number in 1..=VALUES {
                published.store(Counted::new(&count, number));
            }
        });
        assert_eq!(count.load(Ordering::SeqCst), 1, "all the others are gone");
    }

    #[test]
    fn a_thread_that_ended_leaves_its_claim_to_others() {
        let published = Published::empty();
        published.store(Some(Arc::new(7)));
        let claim = || {
            let use_it = || {
                assert_eq!(*published.load().unwrap(), 7);
                ptr::from_ref(claims::of_this_thread().unwrap()) as usize
            };
            thread::scope(|scope| scope.spawn(use_it).join().unwrap())
        };
        // Other tests take claims meanwhile.
        let seen: std::collections::HashSet<_> = (0..200).map(|_| claim()).collect();
        assert!(seen.len() < 100, "{}", seen.len());
    }
}

#[cfg(all(test, sysgenid_loom))]
mod loom_models {
    use loom::cell::UnsafeCell as Looked;
    use loom::sync::Arc as Shared;
    use loom::thread;

    use super::*;

    /// loom fails if one thread drops it while another reads it, or without having seen that.
    struct Value(Looked<u32>, Shared<loom::sync::atomic::AtomicUsize>);

    impl Value {
        fn new(number: u32, left: &Shared<loom::sync::atomic::AtomicUsize>) -> Option<Arc<Self>> {
            left.fetch_add(1, Ordering::Relaxed);
            Some(Arc::new(Self(Looked::new(number), Shared::clone(left))))
        }

        fn read(&self) -> u32 {
            // SAFETY: What loom checks.
            self.0.with(|number| unsafe { *number })
        }
    }

    impl Drop for Value {
        fn drop(&mut self) {
            // SAFETY: What loom checks.
            self.0.with_mut(|number| unsafe { *number = u32::MAX });
            self.1.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn model(is_refused: bool, preemptions: usize, readers: usize, uses: usize) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(preemptions);
        model.check(move || {
            if is_refused {
                barrier::refuse();
            }
            let left = Shared::default();
            let published = Shared::new(Published::empty());
            published.store(Value::new(1, &left));
            let readers: Vec<_> = (0..readers)
                .map(|_| {
                    let published = Shared::clone(&published);
                    thread::spawn(move || {
                        let mut last = 0;
                        for _ in 0..uses {
                            let held = published.load().unwrap();
                            let number = held.read();
                            assert!(number >= last && number <= 2, "{number} after {last}");
                            last = number;
                        }
                    })
                })
                .collect();
            published.store(Value::new(2, &left));
            for reader in readers {
                reader.join().unwrap();
            }
            assert_eq!(left.load(Ordering::Relaxed), 1, "the first is gone");
        });
    }

    /// The first use of a thread and the one after it, which is the fast one.
    #[test]
    fn reader_keeps_the_value_and_leaves_none_behind() {
        model(false, 5, 1, 2);
    }

    #[test]
    fn readers_keep_the_value_and_leave_none_behind() {
        model(false, 3, 2, 2);
    }

    #[test]
    fn readers_keep_the_value_without_a_barrier_of_the_kernels() {
        model(true, 3, 1, 2);
        model(true, 2, 2, 1);
    }
}
