// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::fmt;
use std::marker::PhantomData;

use sysgenid_sys::internal::fork;

use super::sync::{AtomicU64, Futex, Ordering, constant, this_thread};

/// A lock that a forked child does not find held by a thread that it does not have.
///
/// A lock of the standard library that some thread holds during a fork stays locked in the child
/// for ever: the thread that would open it was not copied. This one is held by a thread *of a
/// process*, and a child takes it over from another process.
///
/// It holds no data. What it protects is found by a child as the other thread left it in the middle
/// of its work, so each single store there must leave it usable.
///
/// A panic of the holder opens it; nothing is poisoned. A guard that is forgotten keeps it shut.
pub(crate) struct ForkLock {
    /// The thread that holds it, as [`this_thread`] says it, with its process; 0 if none does. They are
    /// one word, so that a signal handler which comes at any moment knows whether its own thread holds
    /// it.
    holder: AtomicU64,
    /// How often it was opened, which is what threads sleep on.
    opened: Futex,
    /// The number of this process: [`fork::process`], but in a model.
    process: fn() -> u32,
}

impl ForkLock {
    constant! {
        pub(crate) fn new() -> Self {
            Self {
                holder: AtomicU64::new(0),
                opened: Futex::new(0),
                process: fork::process,
            }
        }
    }

    /// Waits until no other thread of this process holds it. `None` if this thread does.
    pub(crate) fn lock(&self) -> Option<ForkGuard<'_>> {
        let process = (self.process)();
        let thread = this_thread(process);
        loop {
            // Before the holder. Acquire: its partner is the release addition of `drop`, before which
            // the lock was opened. So whoever is found to hold it below opens it after this, and ends
            // the sleep.
            let opened = self.opened.word.load(Ordering::Acquire);
            // Relaxed: the exchange below looks again. And only this thread ever stores its number; a
            // copy of it has another one.
            let held_by = self.holder.load(Ordering::Relaxed);
            if held_by == thread {
                return None;
            }
            if process_of(held_by) == process {
                self.opened.sleep_while(opened);
                continue;
            }
            // It is free, or was left behind in the process that this one is a copy of. Acquire:
            // its partner is the release store of `drop`. Who left it behind has no part in this
            // memory.
            let taken =
                self.holder
                    .compare_exchange(held_by, thread, Ordering::Acquire, Ordering::Relaxed);
            if taken.is_ok() {
                return Some(ForkGuard {
                    lock: self,
                    process,
                    _not_send: PhantomData,
                });
            }
        }
    }
}

/// Of a thread, as [`this_thread`] says it.
fn process_of(thread: u64) -> u32 {
    (thread >> 32) as u32
}

impl fmt::Debug for ForkLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForkLock").finish_non_exhaustive()
    }
}

/// Holds a [`ForkLock`] until it is dropped.
#[must_use = "the lock is opened when this is dropped"]
pub(crate) struct ForkGuard<'a> {
    lock: &'a ForkLock,
    /// In which it was taken.
    process: u32,
    /// It is this thread that holds the lock.
    _not_send: PhantomData<*const ()>,
}

impl ForkGuard<'_> {
    /// Whether this is the process that took the lock. If the thread that holds it forks, the
    /// child's copy of the guard holds nothing: what was done under it is to be thrown away there,
    /// and the lock to be taken anew.
    pub(crate) fn is_held(&self) -> bool {
        (self.lock.process)() == self.process
    }
}

impl Drop for ForkGuard<'_> {
    fn drop(&mut self) {
        // A copy opens nothing: another thread of its process may have taken the lock over.
        if !self.is_held() {
            return;
        }
        // Release: its partner is the acquire exchange of the next holder.
        self.lock.holder.store(0, Ordering::Release);
        // Release: its partner is the acquire load in `lock`.
        self.lock.opened.word.fetch_add(1, Ordering::Release);
        // Always: nobody counts who sleeps, and the lock is for what is rare.
        self.lock.opened.wake_one();
    }
}

#[cfg(all(test, sysgenid_loom))]
mod loom_models {
    use std::mem::forget;
    use std::sync::atomic::AtomicU32 as Process;

    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// A lock and what it protects, in a process of which the model says the number.
    struct Scene {
        lock: ForkLock,
        protected: UnsafeCell<u32>,
    }

    impl Scene {
        fn new(process: fn() -> u32) -> Arc<Self> {
            let mut lock = ForkLock::new();
            lock.process = process;
            Arc::new(Self {
                lock,
                protected: UnsafeCell::new(0),
            })
        }

        /// loom fails if two are in here at a time, or if one does not see what the last one did.
        fn work(&self) {
            let guard = self.lock.lock();
            assert!(guard.is_some());
            self.protected.with_mut(drop);
        }
    }

    #[test]
    fn one_thread_at_a_time_and_none_sleeps_for_ever() {
        loom::model(|| take_turns(1));
    }

    /// Of three threads, all orders with up to two preemptions: all there are take too long.
    #[test]
    fn of_three_threads_one_at_a_time() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| take_turns(2));
    }

    fn take_turns(others: usize) {
        let scene = Scene::new(|| 1);
        let others: Vec<_> = (0..others)
            .map(|_| {
                let scene = Arc::clone(&scene);
                thread::spawn(move || scene.work())
            })
            .collect();
        scene.work();
        for other in others {
            other.join().unwrap();
        }
    }

    /// The threads of a child, in which the lock was left behind.
    #[test]
    fn one_thread_of_a_child_takes_it_over() {
        static PROCESS: Process = Process::new(0);
        fn process() -> u32 {
            PROCESS.load(std::sync::atomic::Ordering::Relaxed)
        }
        loom::model(|| {
            PROCESS.store(1, std::sync::atomic::Ordering::Relaxed);
            let scene = Scene::new(process);
            forget(scene.lock.lock());
            PROCESS.store(2, std::sync::atomic::Ordering::Relaxed);
            let other = {
                let scene = Arc::clone(&scene);
                thread::spawn(move || scene.work())
            };
            scene.work();
            other.join().unwrap();
        });
    }

    /// The thread that forked has a copy of the guard, and drops it while others hold the lock.
    #[test]
    fn a_copy_of_a_guard_opens_nothing() {
        static PROCESS: Process = Process::new(0);
        fn process() -> u32 {
            PROCESS.load(std::sync::atomic::Ordering::Relaxed)
        }
        loom::model(|| {
            PROCESS.store(1, std::sync::atomic::Ordering::Relaxed);
            let scene = Scene::new(process);
            let copy = scene.lock.lock().unwrap();
            PROCESS.store(2, std::sync::atomic::Ordering::Relaxed);
            let other = {
                let scene = Arc::clone(&scene);
                thread::spawn(move || scene.work())
            };
            assert!(!copy.is_held());
            drop(copy);
            scene.work();
            other.join().unwrap();
        });
    }
}

#[cfg(all(test, not(sysgenid_loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::AtomicU32 as Count;
    use std::thread;

    use super::*;

    #[test]
    fn the_thread_that_holds_it_is_told_so() {
        let lock = ForkLock::new();
        let guard = lock.lock().unwrap();
        assert!(guard.is_held());
        assert!(lock.lock().is_none());
        drop(guard);
        assert!(lock.lock().is_some());
    }

    #[test]
    fn a_panic_opens_it() {
        let lock = ForkLock::new();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _guard = lock.lock().unwrap();
            panic!("as a rebuild may");
        }));
        assert!(panicked.is_err());
        assert!(lock.lock().is_some());
    }

    #[test]
    fn threads_take_turns() {
        let lock = ForkLock::new();
        let inside = Count::new(0);
        let turns = Count::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let _guard = lock.lock().unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                        turns.fetch_add(1, Ordering::Relaxed);
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(turns.into_inner(), 16_000);
    }
}
