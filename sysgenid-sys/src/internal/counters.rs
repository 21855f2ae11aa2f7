// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The counters that this whole process looks at.
//!
//! There are two, because of two sources each may see what the other does not: the counter of a
//! driver changes when the kernel has reseeded, and when somebody triggers it; that of the hypervisor
//! is right from the first instruction after a resume on. Either stands on a constant until it is [installed](Counter::install),
//! so that a look has nothing to ask first.
//!
//! Nothing here is ever taken back: a counter that was replaced stays mapped until the process ends,
//! because somebody may be looking at it, and a forked child finds all of it as it was.

use std::fmt;
use std::ptr;

use crate::internal::fork::Forks;
use crate::internal::sync::{AtomicPtr, AtomicWord, Ordering, shared};
use crate::page::CounterPage;

shared! {
    /// What this process looks at.
    pub static PROCESS: Process = Process {
        forks: Forks::of_this_process(),
        primary: Counter {
            counter: AtomicPtr::new(ptr::from_ref::<AtomicWord>(&BEFORE).cast_mut()),
        },
        secondary: Counter {
            counter: AtomicPtr::new(ptr::from_ref::<AtomicWord>(&NONE).cast_mut()),
        },
    };

    static BEFORE: AtomicWord = AtomicWord::new(BEFORE_WORD);
    static NONE: AtomicWord = AtomicWord::new(0);
}

/// What the [primary](Process::primary) counter shows before anything is installed. A counter may have this number as well.
#[allow(clippy::unnecessary_cast, reason = "other machines need it")]
pub const UNSET: u64 = BEFORE_WORD as u64;

const BEFORE_WORD: crate::page::Word = crate::page::Word::MAX;

/// All that a process looks at, in one place: code of another crate finds a static by way of a table,
/// at the price of a load for each.
pub struct Process {
    pub(crate) forks: Forks,
    /// The counter that is preferred, [`UNSET`] at first.
    pub primary: Counter,
    /// The other counter; it stays 0 if there is none.
    pub secondary: Counter,
}

/// A counter that may be replaced while others look at it.
pub struct Counter {
    /// Of a static, or in a mapping that is never unmapped.
    counter: AtomicPtr<AtomicWord>,
}

impl Counter {
    /// The counter's number: two loads.
    ///
    /// Relaxed, both: whoever must see what [`install`](Self::install) did learns of it by the
    /// [fork generation](crate::internal::fork::advance), which is loaded *before* the counters.
    #[inline]
    #[must_use]
    pub fn load(&self) -> u64 {
        // SAFETY: The pointer is that of a static or of a counter in a mapping that `install` never
        // unmaps; either is aligned, and only accessed atomically. The mapping was made by a system
        // call, before its address was anywhere.
        let counter = unsafe { &*self.counter.load(Ordering::Relaxed) };
        #[allow(clippy::useless_conversion, reason = "other machines need it")]
        u64::from(counter.load(Ordering::Relaxed))
    }

    /// The low 32 bits of the number.
    #[inline]
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low half is what is wanted"
    )]
    pub fn load_low(&self) -> u32 {
        self.load() as u32
    }

    /// Lets everybody look at `page` from now on.
    pub fn install(&self, page: CounterPage) {
        self.point_at(leak(page));
    }

    /// Lets everybody look at a number that never changes, and is 0.
    pub fn install_nothing(&self) {
        self.point_at(&NONE);
    }

    /// Relaxed: see [`load`](Self::load).
    fn point_at(&self, counter: &'static AtomicWord) {
        let counter = ptr::from_ref(counter).cast_mut();
        self.counter.store(counter, Ordering::Relaxed);
    }
}

impl Default for Counter {
    /// One on which nothing is installed, for who wants another set of them.
    fn default() -> Self {
        Self {
            counter: AtomicPtr::new(ptr::from_ref::<AtomicWord>(&BEFORE).cast_mut()),
        }
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Counter").field(&self.load()).finish()
    }
}

#[cfg(not(sysgenid_loom))]
fn leak(page: CounterPage) -> &'static AtomicWord {
    let counter = page.word();
    std::mem::forget(page);
    // SAFETY: It points to an aligned word of a mapping that nobody is left to unmap, and that this
    // program only ever loads from, relaxed, as in `CounterPage::load`. The cast is dereferenced
    // because `from_ptr` asks for memory that can be written.
    unsafe { &*counter.cast::<AtomicWord>() }
}

/// A model has no pages; it leaks counters of its own.
#[cfg(sysgenid_loom)]
fn leak(page: CounterPage) -> &'static AtomicWord {
    Box::leak(Box::new(AtomicWord::new(page.load())))
}

/// A value that is replaced now and then, and that nobody waits for. All that it ever was stays
/// until the process ends. A forked child finds the old or the new value, whenever the fork came.
pub struct Latest<T: 'static> {
    /// Null, or a value that was leaked.
    value: AtomicPtr<T>,
}

impl<T: Send + Sync> Latest<T> {
    /// No value.
    #[cfg(not(sysgenid_loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self {
            value: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// No value.
    #[cfg(sysgenid_loom)]
    #[must_use]
    pub fn new() -> Self {
        Self {
            value: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// The value, if there is one.
    #[must_use]
    pub fn get(&self) -> Option<&'static T> {
        // Acquire: its partner is the release store of `replace`, before which the value was
        // written.
        let value = self.value.load(Ordering::Acquire);
        // SAFETY: It is null, or was leaked by `replace` and so lives, unchanged, for ever. It may be
        // shared with any thread, because `T` may.
        unsafe { value.as_ref() }
    }

    /// Puts `value` in the place of what was there. What the caller did before is seen by whoever
    /// gets it.
    pub fn replace(&self, value: T) {
        self.value
            .store(Box::leak(Box::new(value)), Ordering::Release);
    }
}

impl<T: Send + Sync> Default for Latest<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Send + Sync + fmt::Debug> fmt::Debug for Latest<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Latest").field(&self.get()).finish()
    }
}

#[cfg(all(test, sysgenid_loom))]
mod loom_models {
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicBool, fence};
    use loom::thread;

    use super::*;
    use crate::internal::fork::Forks;

    struct Scene {
        forks: Forks,
        counter: Counter,
        latest: Latest<u32>,
        is_restored: AtomicBool,
    }

    impl Scene {
        fn new(shown: u64) -> Arc<Self> {
            let scene = Self {
                forks: Forks::new(),
                counter: Counter {
                    counter: AtomicPtr::new(ptr::from_ref(leaked(shown)).cast_mut()),
                },
                latest: Latest::new(),
                is_restored: AtomicBool::new(false),
            };
            let _ = scene.forks.current();
            Arc::new(scene)
        }

        /// As the process-wide witness does it: the fork generation first.
        fn glance(&self) -> (u32, u64) {
            (self.forks.glance(), self.counter.load())
        }
    }

    /// Before the threads, as if a system call had made it.
    fn leaked(number: u64) -> &'static AtomicWord {
        Box::leak(Box::new(AtomicWord::new(number)))
    }

    /// The new counter shows 4, and by a restore the 5 that the old one has shown all along. A mark
    /// of before the restore must not be taken for one of after it, in whatever pieces it was read.
    #[test]
    fn a_mark_is_never_equal_across_a_move() {
        loom::model(|| {
            let scene = Scene::new(5);
            let counter = leaked(4);
            let onlooker = {
                let scene = Arc::clone(&scene);
                thread::spawn(move || {
                    let mark = scene.glance();
                    // Whoever has seen the restore's number sees the word as well.
                    fence(Ordering::Acquire);
                    (mark, scene.is_restored.load(Ordering::Relaxed))
                })
            };
            scene.counter.point_at(counter);
            scene.forks.advance();
            // The restore.
            scene.is_restored.store(true, Ordering::Relaxed);
            counter.store(5, Ordering::Release);
            let (mark, is_of_now) = onlooker.join().unwrap();
            if !is_of_now {
                assert_ne!(scene.glance(), mark);
            }
        });
    }

    #[test]
    fn a_look_shows_the_constant_or_what_was_installed() {
        loom::model(|| {
            let scene = Scene::new(UNSET);
            let counter = leaked(7);
            let installer = {
                let scene = Arc::clone(&scene);
                thread::spawn(move || {
                    scene.counter.point_at(counter);
                    scene.latest.replace(1);
                })
            };
            assert!([UNSET, 7].contains(&scene.counter.load()));
            // Whoever sees that it is set up sees the counter.
            if scene.latest.get().is_some() {
                assert_eq!(scene.counter.load(), 7);
            }
            installer.join().unwrap();
            assert_eq!(scene.counter.load(), 7);
        });
    }
}
