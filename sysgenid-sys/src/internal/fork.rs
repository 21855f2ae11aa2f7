// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The *fork generation*: a number that changes in a forked child.
//!
//! `fork` copies what must be unique, as a restore does. The number lies in a page that the kernel
//! empties in the child (`MADV_WIPEONFORK`), so it costs one load to look, and no way of forking
//! gets round it: `fork`, a bare `clone`, whatever library makes the call. A child that *shares* its
//! parent's memory (`vfork`, `CLONE_VM`, a thread) has copied nothing, and sees no change.
//!
//! # Where the advice is lost
//!
//! Nothing rests on the page alone, because checkpoint and restore in userspace may bring the page
//! back without the advice: CRIU before 4.2 does. Two more things reveal a fork:
//!
//! - The C library's fork handlers. One renews the advice before each `fork`, and another empties
//!   the page in the child.
//! - The process id. [`current`] and [`process`] compare it with that of the process that the page
//!   was filled in, which costs a system call; [`glance`] does not.
//!
//! [`renew`] gives the kernel the advice again, and the SDK calls it whenever it has seen a change.
//! One gap remains. In a process that CRIU has restored and that has not seen a change since, a child
//! that was made by a bare system call *glances* at its parent's number. It gets another number as
//! soon as it calls [`current`] or [`process`], unless it has its parent's id.
//!
//! The first use in a process registers the handlers. It must not be in a fork handler of another
//! library: the C library may hold the lock of its list there, as glibc before 2.36 does.
//!
//! # Without a page
//!
//! Where the kernel or a sandbox refuses the advice, or an emulator only says that it follows it,
//! the process id is compared at each look, and the fork handlers are counted. That costs a system
//! call at each look and sees less:
//!
//! - not a child that a bare system call made and that has its parent's id, which takes another pid
//!   namespace;
//! - not a descendant that bare system calls made and that is given the id of an ancestor who has
//!   ended;
//! - and a child that shares its parent's memory is taken for a fork, in the child.
//!
//! # Children that share memory
//!
//! With a page, a child that shares its parent's memory is known by `kcmp` when it asks for
//! [`current`] or [`process`]. Where a sandbox refuses that call as well, it is taken for a fork, and
//! the parent after it: watchers that the parent has open then fail as those of a forked child.

use std::ptr;

#[cfg(not(sysgenid_loom))]
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::Errno;
#[cfg(not(sysgenid_loom))]
use crate::abi::PAGE_LEN;
use crate::internal::counters::PROCESS;
use crate::internal::sync::{AtomicPtr, AtomicU32, AtomicU64, Ordering, constant, shared};

/// The number, in one look; or 0 if [`current`] must be asked.
///
/// A copy of the process never sees the number of the original here, unless the kernel has lost the
/// advice: see the module. Whoever sees the number that an [`advance`] gave sees what was done
/// before it, too.
#[inline]
#[must_use]
pub fn glance() -> u32 {
    // Acquire: its partner is the release store of `advance`.
    PROCESS.forks.words().generation.load(Ordering::Acquire)
}

/// The number. It is never 0. Ordered as [`glance`]. Makes a system call.
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
/// than that of each process that this one is a copy of. Makes a system call.
#[must_use]
pub fn process() -> u32 {
    PROCESS.forks.process()
}

/// Whether the kernel empties a page in each child. If not, the process id tells forks: see the module.
/// Sets the process up if nobody has asked for a number yet.
#[must_use]
pub fn has_page() -> bool {
    PROCESS.forks.own().is_some()
}

/// Has the kernel empty the page in children from now on, if it has forgotten that it should. A
/// process that was restored by CRIU needs it.
pub fn renew() {
    PROCESS.forks.advise();
}

/// The same, but only if `seen`, a number that changes with each restore, is not that of the call
/// before.
pub fn renew_for(seen: u64) {
    PROCESS.forks.renew_for(seen);
}

shared! {
    static UNSET: Words = Words {
        generation: AtomicU32::new(0),
        process: AtomicU64::new(0),
    };
    static REFUSED: Words = Words {
        generation: AtomicU32::new(0),
        process: AtomicU64::new(0),
    };
}

/// What the kernel empties. 0 is no number yet.
// The generation first, where the page begins: it is what a glance loads.
#[repr(C)]
pub(crate) struct Words {
    generation: AtomicU32,
    /// The process's number, and above it the id of the process that it was given in. They are one
    /// word, so that of several threads that find another's id here one gives a number, and the
    /// others take it.
    process: AtomicU64,
}

/// A process's number and its id, as one word.
#[derive(Clone, Copy)]
struct Owner(u64);

impl Owner {
    fn new(pid: u32, number: u32) -> Self {
        Self(u64::from(pid) << 32 | u64::from(number))
    }

    fn pid(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low half is wanted")]
    fn number(self) -> u32 {
        self.0 as u32
    }
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
    /// How many forks the C library's handlers have seen, from the first process down to this one.
    handled: AtomicU32,
    /// What [`renew_for`] was called with last.
    renewed_for: AtomicU64,
    #[cfg(sysgenid_loom)]
    pages: Pages,
    /// The process id in a model.
    #[cfg(sysgenid_loom)]
    pid: std::sync::atomic::AtomicU32,
}

/// The kernel gives no greater ids than these bits have.
const PID_BITS: u32 = 22;

impl Forks {
    constant! {
        /// Those of this process: there is one of it.
        pub(crate) fn of_this_process() -> Self {
            Self {
                words: AtomicPtr::new(ptr::from_ref::<Words>(&UNSET).cast_mut()),
                unset: &UNSET,
                refused: &REFUSED,
                last: AtomicU32::new(0),
                handled: AtomicU32::new(0),
                renewed_for: AtomicU64::new(0),
                #[cfg(sysgenid_loom)]
                pages: Pages::default(),
                #[cfg(sysgenid_loom)]
                pid: std::sync::atomic::AtomicU32::new(1),
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
        let Some((words, _)) = self.own() else {
            return self.by_pid();
        };
        loop {
            // Acquire, as in `glance`.
            match words.generation.load(Ordering::Acquire) {
                // Of several threads of a child, one gives the number. Release: its partner is the
                // acquire load in `own`, which then sees whose number this is. What this thread had
                // seen before the fork, all threads of the child have seen.
                0 => drop(words.generation.compare_exchange(
                    0,
                    self.next(),
                    Ordering::Release,
                    Ordering::Relaxed,
                )),
                number => return number,
            }
        }
    }

    fn process(&self) -> u32 {
        match self.own() {
            Some((_, owner)) => owner.number(),
            // Acquire: its partner is the addition in `in_child`.
            None => self.pid() | self.handled.load(Ordering::Acquire) << PID_BITS,
        }
    }

    /// The page, and whose it is, once it is certain that this is not a process that this one is a
    /// copy of; `None` without a page.
    fn own(&self) -> Option<(&'static Words, Owner)> {
        loop {
            let words = self.words();
            if ptr::eq(words, self.unset) {
                self.set_up();
                continue;
            }
            if ptr::eq(words, self.refused) {
                return None;
            }
            // Before the owner, so that a number that another thread of this process has given is
            // not taken for a left one. Acquire: its partner is the release exchange in `current`.
            let generation = words.generation.load(Ordering::Acquire);
            // Acquire: its partner is the exchange below, before which the generation was emptied.
            let owner = Owner(words.process.load(Ordering::Acquire));
            let pid = self.pid();
            let is_left = owner.0 != 0 && owner.pid() != pid;
            if owner.0 != 0 && (!is_left || shares_memory_with(owner.pid())) {
                return Some((words, owner));
            }
            if is_left {
                // A copy that the kernel has not emptied. If this fails, another thread has done it.
                let _ = words.generation.compare_exchange(
                    generation,
                    0,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
            }
            // Of several threads one gives the number. Release: its partner is the load above.
            let own = Owner::new(pid, self.next());
            let _ = words.process.compare_exchange(
                owner.0,
                own.0,
                Ordering::Release,
                Ordering::Relaxed,
            );
        }
    }

    pub(crate) fn advance(&self) {
        let _ = self.current();
        let number = self.next();
        let words = self.words();
        if !ptr::eq(words, self.refused) {
            // Release: its partners are the acquire loads of `glance` and `current`. Two who advance
            // at a time may come in either order: neither number was there before.
            words.generation.store(number, Ordering::Release);
        }
    }

    /// Points `words` at a page that the kernel empties in a child, or at `refused`. Takes no lock
    /// that a fork could leave behind: only the C library's for its handlers, which is free in a
    /// child.
    fn set_up(&self) {
        #[cfg(not(sysgenid_loom))]
        let page = map_wiped();
        #[cfg(sysgenid_loom)]
        let page = self.pages.next();
        // The handlers before the page: a child that has the page has them, too. Several threads that
        // come here at once register several, which do the same thing twice.
        #[cfg(not(sysgenid_loom))]
        let page = match (page, register_handlers()) {
            (Ok(page), Err(errno)) => {
                unmap(page);
                Err(errno)
            }
            (page, _) => page,
        };
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

    /// What the kernel should have done already. In a child, which has one thread.
    fn in_child(&self) {
        // For the numbers without a page. Release: their partners are the loads there.
        self.last.fetch_add(1, Ordering::Release);
        self.handled.fetch_add(1, Ordering::Release);
        let words = self.words();
        if !ptr::eq(words, self.unset) && !ptr::eq(words, self.refused) {
            // Relaxed: there is no other thread, and those that come see what this one did.
            words.generation.store(0, Ordering::Relaxed);
            words.process.store(0, Ordering::Relaxed);
        }
    }

    fn advise(&self) {
        let words = self.words();
        if !ptr::eq(words, self.unset) && !ptr::eq(words, self.refused) {
            #[cfg(not(sysgenid_loom))]
            advise(ptr::from_ref(words).cast_mut());
        }
    }

    fn renew_for(&self, seen: u64) {
        // Relaxed, both: of two threads that come here at once, both may advise.
        if self.renewed_for.load(Ordering::Relaxed) != seen {
            self.renewed_for.store(seen, Ordering::Relaxed);
            self.advise();
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
        // The other bits count the calls of `advance` and the forks, and wrap after 1,024 of them.
        // Acquire: its partners are `next` there, and `in_child`.
        self.pid() | self.last.load(Ordering::Acquire) << PID_BITS
    }

    #[cfg(not(sysgenid_loom))]
    fn pid(&self) -> u32 {
        rustix::process::getpid()
            .as_raw_nonzero()
            .get()
            .unsigned_abs()
    }

    #[cfg(sysgenid_loom)]
    fn pid(&self) -> u32 {
        self.pid.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// Whether the process with this id has this very memory, so that neither is a copy. If the kernel
/// does not tell, it counts as a copy.
#[cfg(not(sysgenid_loom))]
fn shares_memory_with(pid: u32) -> bool {
    /// `KCMP_VM` of `linux/kcmp.h`.
    const VM: libc::c_int = 1;

    let (Ok(this), Ok(other)) = (
        libc::pid_t::try_from(PROCESS.forks.pid()),
        libc::pid_t::try_from(pid),
    ) else {
        return false;
    };
    // The second call tells that it is a process still, and not a thread of this one that was given
    // the id later.
    // SAFETY: The first call compares two tasks, and the second sends no signal, because 0 is none.
    // Neither takes a pointer.
    unsafe {
        libc::syscall(libc::SYS_kcmp, this, other, VM, 0, 0) == 0
            && libc::syscall(libc::SYS_tgkill, other, other, 0) == 0
    }
}

#[cfg(sysgenid_loom)]
fn shares_memory_with(_: u32) -> bool {
    false
}

/// Has the C library call the handlers below at each of its forks.
#[cfg(not(sysgenid_loom))]
fn register_handlers() -> Result<(), Errno> {
    // SAFETY: The handlers are functions of this program. They take no lock and allocate nothing, so
    // they may run in a child of a process with several threads.
    match unsafe { libc::pthread_atfork(Some(before_fork), None, Some(in_child)) } {
        0 => Ok(()),
        code => Err(Errno::from_raw_os_error(code)),
    }
}

/// So that the kernel empties the page before the child runs, and handlers of other libraries that
/// come first there see no number of the parent's.
#[cfg(not(sysgenid_loom))]
unsafe extern "C" fn before_fork() {
    PROCESS.forks.advise();
}

#[cfg(not(sysgenid_loom))]
unsafe extern "C" fn in_child() {
    PROCESS.forks.in_child();
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

/// Gives the advice once more. If the kernel refuses it now, the handlers and the process id are
/// left.
#[cfg(not(sysgenid_loom))]
fn advise(page: *mut Words) {
    // SAFETY: `map_with_advice` has made the mapping, with this length, and it is never unmapped. The
    // advice changes nothing in this process's memory.
    let _ = unsafe { madvise(page.cast(), PAGE_LEN, Advice::LinuxWipeOnFork) };
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
            process: AtomicU64::new(0),
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
                handled: AtomicU32::new(0),
                renewed_for: AtomicU64::new(0),
                pages: Pages(std::sync::Mutex::new(vec![leaked(), leaked()])),
                pid: std::sync::atomic::AtomicU32::new(1),
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

    /// As in a process that CRIU has restored: the kernel empties nothing.
    #[test]
    fn threads_of_a_child_whose_page_was_not_emptied_agree_on_numbers_that_the_parent_never_had() {
        loom::model(|| {
            let forks = Arc::new(Forks::new());
            let parent = [forks.current(), forks.process()];
            forks.pid.store(2, std::sync::atomic::Ordering::Relaxed);
            let (own, other) = both(&forks, |forks| (forks.current(), forks.process()));
            assert_eq!(own, other);
            assert!(!parent.contains(&own.0) && !parent.contains(&own.1));
            assert_eq!(forks.glance(), own.0);
        });
    }

    /// The handler comes in addition to what the kernel does.
    #[test]
    fn a_child_of_which_the_handler_is_told_has_new_numbers() {
        loom::model(|| {
            let forks = Forks::new();
            let parent = [forks.current(), forks.process()];
            forks.in_child();
            assert_eq!(forks.glance(), 0);
            assert!(!parent.contains(&forks.current()) && !parent.contains(&forks.process()));
        });
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
