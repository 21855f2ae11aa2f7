// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The *fork generation*: a number that changes in a forked child.
//!
//! `fork` copies what must be unique, as a restore does. The number lies in a page that the kernel
//! empties in the child (`MADV_WIPEONFORK`), so it costs one load to look, and no way of forking
//! gets round it: `fork`, a bare `clone`, whatever library makes the call. A child that *shares* its
//! parent's memory (`vfork`, `CLONE_VM`, a thread) has copied nothing, and sees no change.
//!
//! Where the kernel or a sandbox refuses that advice, the process id is compared instead, which
//! costs a system call at each look. It does not see a child that has its parent's id in a pid
//! namespace of its own, and it takes a `vfork` for a change.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::Errno;
use crate::abi::PAGE_LEN;

/// Where [`WORD`] points before the first [`current`]. It stays 0.
static UNSET: AtomicU32 = AtomicU32::new(0);
/// Where [`WORD`] points if the kernel empties no page. It stays 0.
static REFUSED: AtomicU32 = AtomicU32::new(0);

/// The word to look at: one of those above, or the one in the page, which is never unmapped.
static WORD: AtomicPtr<AtomicU32> = AtomicPtr::new((&raw const UNSET).cast_mut());

/// The last number that was given out in this process or, by way of the copy, in one before it.
static LAST: AtomicU32 = AtomicU32::new(0);

/// Without a page: the process that [`LAST`] is the number of.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// The number, in one look; or 0 if [`current`] must be asked.
///
/// A copy of the process never sees the number of the original here.
#[inline]
#[must_use]
pub fn glance() -> u32 {
    word().load(Ordering::Relaxed)
}

/// The number. It is never 0.
#[cold]
#[must_use]
pub fn current() -> u32 {
    loop {
        let word = word();
        if ptr::eq(word, &UNSET) {
            set_up();
        } else if ptr::eq(word, &REFUSED) {
            return by_process();
        } else {
            match word.load(Ordering::Relaxed) {
                // Of several threads of a child, one gives the number.
                0 => drop(word.compare_exchange(0, next(), Ordering::Relaxed, Ordering::Relaxed)),
                number => return number,
            }
        }
    }
}

/// Changes the number, as a fork would: something else has made what is in memory doubtful.
pub fn advance() {
    let _ = current();
    let word = word();
    let number = next();
    if !ptr::eq(word, &REFUSED) {
        word.store(number, Ordering::Relaxed);
    }
}

/// Relaxed: whoever sees the new pointer but not yet what it points to sees 0 there, and asks
/// [`current`].
#[inline]
fn word() -> &'static AtomicU32 {
    // SAFETY: The pointer is that of a static, or of a page that was mapped for reading and writing
    // and is never unmapped. Both are aligned, and are only accessed atomically; the kernel writes
    // to the page only in a child that is not running yet.
    unsafe { &*WORD.load(Ordering::Relaxed) }
}

/// Points [`WORD`] at a page that the kernel empties in a child, or at [`REFUSED`]. Takes no lock:
/// its holder could be left behind in a fork.
fn set_up() {
    let page = map_wiped();
    let word = page.unwrap_or((&raw const REFUSED).cast_mut());
    let unset = (&raw const UNSET).cast_mut();
    let installed = WORD.compare_exchange(unset, word, Ordering::Relaxed, Ordering::Relaxed);
    if let (Err(_), Ok(page)) = (installed, page) {
        // Another thread was faster.
        // SAFETY: It was mapped here with this length, and nobody else has seen it.
        let _ = unsafe { munmap(page.cast(), PAGE_LEN) };
    }
}

/// A new page of zeros, that is one again in a child.
fn map_wiped() -> Result<*mut AtomicU32, Errno> {
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: The kernel chooses the address, so nothing that is mapped already is touched.
    let page = unsafe { mmap_anonymous(ptr::null_mut(), PAGE_LEN, access, MapFlags::PRIVATE) }?;
    // SAFETY: It is the mapping just made, of this length. The advice takes nothing from this
    // process, and nobody looks at the page yet.
    match unsafe { madvise(page, PAGE_LEN, Advice::LinuxWipeOnFork) } {
        Ok(()) => Ok(page.cast()),
        Err(errno) => {
            // SAFETY: As above.
            let _ = unsafe { munmap(page, PAGE_LEN) };
            Err(errno)
        }
    }
}

fn next() -> u32 {
    loop {
        let number = LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if number != 0 {
            return number;
        }
    }
}

/// Without a page.
fn by_process() -> u32 {
    let process = rustix::process::getpid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs();
    // Its partner is the store below: whoever sees this process there sees its number, too.
    if PROCESS.load(Ordering::Acquire) != process {
        // Two threads may both do that: the first then sees one change too many, and no thread
        // sees the number of the parent.
        next();
        PROCESS.store(process, Ordering::Release);
    }
    LAST.load(Ordering::Relaxed)
}
