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
//! - not a descendant that is given the id of an ancestor who has ended, if nobody between the two
//!   looked;
//! - and a child that shares its parent's memory is taken for a fork. Each of the two changes the
//!   number for the other at each look.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::Errno;
use crate::abi::PAGE_LEN;

/// The number, in one look; or 0 if [`current`] must be asked.
///
/// A copy of the process never sees the number of the original here. Whoever sees the number that
/// an [`advance`] gave sees what was done before it, too.
#[inline]
#[must_use]
pub fn glance() -> u32 {
    // Acquire: its partner is the release store of `advance`.
    FORKS.words().generation.load(Ordering::Acquire)
}

/// The number. It is never 0. Ordered as [`glance`].
#[cold]
#[must_use]
pub fn current() -> u32 {
    FORKS.current()
}

/// Changes the number, as a fork would: something else has made what is in memory doubtful.
/// Whoever sees the new number sees what was done before.
pub fn advance() {
    FORKS.advance();
}

/// A number for this process, that changes by nothing but a fork, and is never 0. It is another one
/// than that of each process that this one is a copy of.
#[inline]
#[must_use]
pub fn process() -> u32 {
    // Relaxed: nothing but the kernel changes it, before the child runs.
    match FORKS.words().process.load(Ordering::Relaxed) {
        0 => FORKS.process(),
        number => number,
    }
}

static FORKS: Forks = Forks::new(&UNSET, &REFUSED);
static UNSET: Words = Words::new();
static REFUSED: Words = Words::new();

/// What the kernel empties. 0 is no number yet.
struct Words {
    generation: AtomicU32,
    process: AtomicU32,
}

impl Words {
    const fn new() -> Self {
        Self {
            generation: AtomicU32::new(0),
            process: AtomicU32::new(0),
        }
    }
}

struct Forks {
    /// Where to look: at one of the two below, which stay empty, or at the page, which is never
    /// unmapped.
    words: AtomicPtr<Words>,
    /// Before the first time that a number is asked for.
    unset: &'static Words,
    /// If the kernel empties no page.
    refused: &'static Words,
    /// The last number that was given out in this process or, by way of the copy, in one before it.
    last: AtomicU32,
    /// Without a page: the process that `last` is the generation of.
    pid: AtomicU32,
}

impl Forks {
    const fn new(unset: &'static Words, refused: &'static Words) -> Self {
        Self {
            words: AtomicPtr::new(ptr::from_ref(unset).cast_mut()),
            unset,
            refused,
            last: AtomicU32::new(0),
            pid: AtomicU32::new(0),
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

    fn current(&self) -> u32 {
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

    fn advance(&self) {
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
        let page = map_wiped();
        let words = page.unwrap_or(ptr::from_ref(self.refused).cast_mut());
        let unset = ptr::from_ref(self.unset).cast_mut();
        // Relaxed: see `words`. The page's first zeros are there before its address is.
        let installed =
            self.words
                .compare_exchange(unset, words, Ordering::Relaxed, Ordering::Relaxed);
        if let (Err(_), Ok(page)) = (installed, page) {
            // Another thread was faster.
            // SAFETY: It was mapped here with this length, and nobody else has seen it.
            let _ = unsafe { munmap(page.cast(), PAGE_LEN) };
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

    /// The generation without a page.
    fn by_pid(&self) -> u32 {
        let pid = pid();
        // Acquire: its partner is the store below. Whoever sees this process there sees that its
        // number was counted, too.
        if self.pid.load(Ordering::Acquire) != pid {
            // Two threads may both do that: the first then sees one change too many, and no thread
            // sees the number of the parent.
            self.next();
            self.pid.store(pid, Ordering::Release);
        }
        // Acquire: its partner is `next` in `advance`.
        self.last.load(Ordering::Acquire)
    }
}

fn pid() -> u32 {
    rustix::process::getpid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs()
}

/// A new page of zeros, that is one again in a child.
fn map_wiped() -> Result<*mut Words, Errno> {
    // Some emulators answer any advice with success and do nothing. The kernel refuses this one for
    // memory that is shared, where it would make no sense.
    if let Ok(shared) = map_with_advice(MapFlags::SHARED) {
        // SAFETY: It was mapped with this length, and nobody else has seen it.
        let _ = unsafe { munmap(shared, PAGE_LEN) };
        return Err(Errno::OPNOTSUPP);
    }
    map_with_advice(MapFlags::PRIVATE).map(|page| page.cast())
}

fn map_with_advice(flags: MapFlags) -> Result<*mut std::ffi::c_void, Errno> {
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: The kernel chooses the address, so nothing that is mapped already is touched.
    let page = unsafe { mmap_anonymous(ptr::null_mut(), PAGE_LEN, access, flags) }?;
    // SAFETY: It is the mapping just made, of this length; both are rounded up to whole pages,
    // whatever their size. The advice takes nothing from this process, and nobody looks there yet.
    match unsafe { madvise(page, PAGE_LEN, Advice::LinuxWipeOnFork) } {
        Ok(()) => Ok(page),
        Err(errno) => {
            // SAFETY: As above.
            let _ = unsafe { munmap(page, PAGE_LEN) };
            Err(errno)
        }
    }
}
