// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The *fork generation*: a number that changes in a forked child.
//!
//! `fork` copies what must be unique, as a restore does. The number lies in a page that the kernel
//! empties in the child (`MADV_WIPEONFORK`), so it costs one load to look, and no way of forking
//! gets round it: `fork`, a bare `clone`, whatever library makes the call. A child that *shares* its
//! parent's memory (`vfork`, `CLONE_VM`, a thread) has copied nothing, and sees no change.
//!
//! Where the kernel or a sandbox refuses that advice, or an emulator only says that it follows it,
//! the process id is compared instead, which costs a system call at each look and sees less:
//!
//! - not a child that has its parent's id, which takes a pid namespace of its own;
//! - not a descendant that is given the id of an ancestor who has ended;
//! - and a child that shares its parent's memory is taken for a fork, in the child.

use std::ptr;

#[cfg(not(sysgenid_loom))]
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::Errno;
#[cfg(not(sysgenid_loom))]
use crate::abi::PAGE_LEN;
use crate::process::PROCESS;
use crate::sync::{AtomicPtr, AtomicU32, Ordering, constant, shared};

/// The number, in one look; or 0 if [`current`] must be asked.
///
/// A copy of the process never sees the number of the original here. Whoever sees the number that
/// an [`advance`] gave sees what was done before it, too.
#[inline]
#[must_use]
pub fn glance() -> u32 {
    // Acquire: its partner is the release store of `advance`.
    PROCESS.forks.words().generation.load(Ordering::Acquire)
}

/// The number. It is never 0. Ordered as [`glance`].
#[cold]
#[must_use]
pub fn current() -> u32 {
    PROCESS.forks.current()
}

/// Changes the number, as a fork would: something else has made what is in memory doubtful.
/// Whoever sees the new number sees what was done before.
pub fn advance() {
    PROCESS.forks.advance();
}

/// A number for this process, that changes by nothing but a fork, and is never 0. It is another one
/// than that of each process that this one is a copy of.
#[inline]
#[must_use]
pub fn process() -> u32 {
    // Relaxed: nothing but the kernel changes it, before the child runs.
    match PROCESS.forks.words().process.load(Ordering::Relaxed) {
        0 => PROCESS.forks.process(),
        number => number,
    }
}

shared! {
    static UNSET: Words = Words {
        generation: AtomicU32::new(0),
        process: AtomicU32::new(0),
    };
    static REFUSED: Words = Words {
        generation: AtomicU32::new(0),
        process: AtomicU32::new(0),
    };
}

/// What the kernel empties. 0 is no number yet.
pub(crate) struct Words {
    generation: AtomicU32,
    process: AtomicU32,
}

pub(crate) struct Forks {
    /// Where to look: at one of the two below, which stay empty, or at the page, which is never
    /// unmapped.
    words: AtomicPtr<Words>,
    /// Before the first time that a number is asked for.
    unset: &'static Words,
    /// If the kernel empties no page.
    refused: &'static Words,
    /// The last number that was given out in this process or, by way of the copy, in one before it.
    last: AtomicU32,
    #[cfg(sysgenid_loom)]
    pages: Pages,
}

impl Forks {
    constant! {
        /// Those of this process: there is one of it.
        pub(crate) fn of_this_process() -> Self {
            Self {
                words: AtomicPtr::new(ptr::from_ref::<Words>(&UNSET).cast_mut()),
                unset: &UNSET,
                refused: &REFUSED,
                last: AtomicU32::new(0),
                #[cfg(sysgenid_loom)]
                pages: Pages::default(),
            }
        }
    }

    /// Relaxed: whoever sees the new pointer but not yet what it points to sees 0 there, and asks
    /// for a number.
    #[inline]
    fn words(&self) -> &'static Words {
        // SAFETY: The pointer is that of a static, or of a page that was mapped for reading and
        // writing and is never unmapped. Both are aligned, and are only accessed atomically; the
        // kernel writes to the page only in a child that is not running yet.
        unsafe { &*self.words.load(Ordering::Relaxed) }
    }

    pub(crate) fn current(&self) -> u32 {
        self.number(|words| &words.generation)
            .unwrap_or_else(|| self.by_pid())
    }

    #[cold]
    fn process(&self) -> u32 {
        self.number(|words| &words.process).unwrap_or_else(pid)
    }

    /// The number in a word of the page, a new one if it was emptied; `None` without a page.
    fn number(&self, word: fn(&Words) -> &AtomicU32) -> Option<u32> {
        loop {
            let words = self.words();
            if ptr::eq(words, self.unset) {
                self.set_up();
            } else if ptr::eq(words, self.refused) {
                return None;
            } else {
                let word = word(words);
                // Acquire, as in `glance`.
                match word.load(Ordering::Acquire) {
                    // Of several threads of a child, one gives the number. Relaxed: nothing was
                    // done before it that others must see; and what its thread had seen before the
                    // fork, all threads of the child have seen.
                    0 => drop(word.compare_exchange(
                        0,
                        self.next(),
                        Ordering::Relaxed,
                        Ordering::Relaxed,
                    )),
                    number => return Some(number),
                }
            }
        }
    }

    pub(crate) fn advance(&self) {
        let _ = self.current();
        let number = self.next();
        let words = self.words();
        if !ptr::eq(words, self.refused) {
            // Release: its partners are the acquire loads of `glance` and `number`. Two who advance
            // at a time may come in either order: neither number was there before.
            words.generation.store(number, Ordering::Release);
        }
    }

    /// Points `words` at a page that the kernel empties in a child, or at `refused`. Takes no lock:
    /// its holder could be left behind in a fork.
    fn set_up(&self) {
        #[cfg(not(sysgenid_loom))]
        let page = map_wiped();
        #[cfg(sysgenid_loom)]
        let page = self.pages.next();
        let words = page.unwrap_or(ptr::from_ref(self.refused).cast_mut());
        let unset = ptr::from_ref(self.unset).cast_mut();
        // Relaxed: see `words`. The page's first zeros are there before its address is.
        let installed =
            self.words
                .compare_exchange(unset, words, Ordering::Relaxed, Ordering::Relaxed);
        if let (Err(_), Ok(page)) = (installed, page) {
            // Another thread was faster, and nobody has seen this page.
            unmap(page);
        }
    }

    /// A number that this process has not had, nor those that it is a copy of. It is counted before
    /// it is given to anybody: a child that has a copy of it has a copy of the count as well.
    fn next(&self) -> u32 {
        loop {
            // AcqRel: in whichever thread, a number follows the one before it.
            let number = self.last.fetch_add(1, Ordering::AcqRel).wrapping_add(1);
            if number != 0 {
                return number;
            }
        }
    }

    /// The generation without a page. Nothing is stored, so there is nothing that a fork could come
    /// in between of, or that a child which shares the memory could spoil.
    fn by_pid(&self) -> u32 {
        /// The kernel gives no greater ids than these bits have.
        const PID_BITS: u32 = 22;

        // What is left counts the calls of `advance`, and comes round after 1,024 of them. Acquire:
        // its partner is `next` there.
        pid() | self.last.load(Ordering::Acquire) << PID_BITS
    }
}

fn pid() -> u32 {
    rustix::process::getpid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs()
}

/// A new page of zeros, that is one again in a child.
#[cfg(not(sysgenid_loom))]
fn map_wiped() -> Result<*mut Words, Errno> {
    // Some emulators answer any advice with success and do nothing. The kernel refuses this one for
    // memory that is shared, where it would make no sense.
    if let Ok(shared) = map_with_advice(MapFlags::SHARED) {
        unmap(shared);
        return Err(Errno::OPNOTSUPP);
    }
    map_with_advice(MapFlags::PRIVATE)
}

#[cfg(not(sysgenid_loom))]
fn map_with_advice(flags: MapFlags) -> Result<*mut Words, Errno> {
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: The kernel chooses the address, so nothing that is mapped already is touched.
    let page = unsafe { mmap_anonymous(ptr::null_mut(), PAGE_LEN, access, flags) }?;
    // SAFETY: It is the mapping just made, of this length; both are rounded up to whole pages,
    // whatever their size. The advice takes nothing from this process, and nobody looks there yet.
    match unsafe { madvise(page, PAGE_LEN, Advice::LinuxWipeOnFork) } {
        Ok(()) => Ok(page.cast()),
        Err(errno) => {
            unmap(page.cast());
            Err(errno)
        }
    }
}

/// Takes back what [`map_with_advice`] made and nobody has seen.
#[cfg(not(sysgenid_loom))]
fn unmap(page: *mut Words) {
    // SAFETY: It was mapped with this length, and nobody refers to it.
    let _ = unsafe { munmap(page.cast(), PAGE_LEN) };
}

/// In a model the pages are there before its threads are, as if a system call had made them.
#[cfg(sysgenid_loom)]
#[derive(Default)]
struct Pages(std::sync::Mutex<Vec<&'static Words>>);

#[cfg(sysgenid_loom)]
impl Pages {
    fn next(&self) -> Result<*mut Words, Errno> {
        let page = self.0.lock().ok().and_then(|mut pages| pages.pop());
        page.map(|page| ptr::from_ref(page).cast_mut())
            .ok_or(Errno::NOMEM)
    }
}

#[cfg(sysgenid_loom)]
fn unmap(_: *mut Words) {}

#[cfg(all(test, sysgenid_loom))]
pub(crate) mod loom_models {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    fn leaked() -> &'static Words {
        Box::leak(Box::new(Words {
            generation: AtomicU32::new(0),
            process: AtomicU32::new(0),
        }))
    }

    impl Forks {
        pub(crate) fn new() -> Self {
            let unset = leaked();
            Self {
                words: AtomicPtr::new(ptr::from_ref(unset).cast_mut()),
                unset,
                refused: leaked(),
                last: AtomicU32::new(0),
                pages: Pages(std::sync::Mutex::new(vec![leaked(), leaked()])),
            }
        }

        pub(crate) fn glance(&self) -> u32 {
            self.words().generation.load(Ordering::Acquire)
        }

        /// What the kernel does to a child before it runs.
        fn wipe(&self) {
            self.words().generation.store(0, Ordering::Relaxed);
            self.words().process.store(0, Ordering::Relaxed);
        }
    }

    /// Runs `work` in two threads at once.
    fn both<T: 'static>(forks: &Arc<Forks>, work: fn(&Forks) -> T) -> (T, T) {
        let other = {
            let forks = Arc::clone(forks);
            thread::spawn(move || work(&forks))
        };
        let own = work(forks);
        (own, other.join().unwrap())
    }

    #[test]
    fn threads_that_set_it_up_agree() {
        loom::model(|| {
            let forks = Arc::new(Forks::new());
            let (own, other) = both(&forks, |forks| (forks.current(), forks.process()));
            assert_eq!(own, other);
            assert_eq!(forks.glance(), own.0);
        });
    }

    #[test]
    fn threads_of_a_child_agree_on_a_number_that_the_parent_never_had() {
        loom::model(|| {
            let forks = Arc::new(Forks::new());
            let first = forks.current();
            forks.advance();
            let parent = [first, forks.current(), forks.process()];
            forks.wipe();
            assert_eq!(forks.glance(), 0);
            let (own, other) = both(&forks, |forks| (forks.current(), forks.process()));
            assert_eq!(own, other);
            assert!(!parent.contains(&own.0) && !parent.contains(&own.1));
        });
    }

    /// Two who advance at a time: each leaves behind what was there when it began.
    #[test]
    fn no_number_comes_again() {
        loom::model(|| {
            let forks = Arc::new(Forks::new());
            let process = forks.process();
            let (own, other) = both(&forks, |forks| {
                let before = forks.current();
                forks.advance();
                assert_ne!(forks.current(), before);
                before
            });
            assert!(forks.current() != own && forks.current() != other);
            assert_eq!(forks.process(), process);
        });
    }
}
