// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The mapped counter.
//!
//! A page is memory that another process, the kernel or the hypervisor changes at any time, so it
//! never becomes a slice or a reference to a plain integer here: each access is one atomic operation
//! on the counter.
//!
//! Counters have 32 bits, at the start of their page, and a vmclock's has 64, inside of it. One load
//! of 64 bits serves both, so that the hot path asks for no width and does nothing else: a counter
//! of 32 bits is followed by zeros in the page of every driver.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU32, Ordering};

#[cfg(all(target_pointer_width = "64", target_endian = "little"))]
pub(crate) use std::sync::atomic::AtomicU64 as AtomicWord;

#[cfg(not(all(target_pointer_width = "64", target_endian = "little")))]
pub(crate) use std::sync::atomic::AtomicU32 as AtomicWord;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FileType, fstat};

use crate::abi;

/// What is loaded at once: 64 bits, where they can be loaded atomically from memory that may only
/// be read, and where the first 32 are the low half. Else the counter of 32 bits.
#[cfg(all(target_pointer_width = "64", target_endian = "little"))]
pub(crate) type Word = u64;

/// See above.
#[cfg(not(all(target_pointer_width = "64", target_endian = "little")))]
pub(crate) type Word = u32;

/// A read-only mapping of a counter: of a device's, or of a page file's.
pub struct CounterPage {
    /// Where the counter is, so that to load it is one step.
    counter: *mut Word,
    /// What `counter` points into.
    _map: MmapRaw,
}

// SAFETY: `counter` points into the mapping, which `self` owns wherever it is moved to, and which
// any thread may unmap.
unsafe impl Send for CounterPage {}
// SAFETY: All that can be done through a shared reference is an atomic load.
unsafe impl Sync for CounterPage {}

impl CounterPage {
    /// Maps the counter of 32 bits at the start of `file`, which may be closed afterwards.
    ///
    /// A mapping is a reference to the open file: on the device it keeps the watcher alive.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::UnexpectedEof`] if a regular file is too short to hold a counter, so that
    /// reading it would raise `SIGBUS`. [`io::ErrorKind::InvalidInput`] if it is neither a regular
    /// file nor a character device. Else the error of `fstat` or `mmap`, such as `EACCES` for a
    /// write-only descriptor or `ENODEV` for a device that cannot be mapped.
    ///
    /// # Not guaranteed
    ///
    /// A regular file that is made shorter *after* it was mapped raises `SIGBUS` on the next load.
    /// The userspace driver never does that.
    ///
    /// If somebody else's page has other bytes than zeros after its counter, up to the eighth, they
    /// are part of the number: no change is missed by that, but a change of theirs is one, too.
    pub fn map(file: impl AsFd) -> io::Result<Self> {
        let file = file.as_fd();
        check_length(file, abi::COUNTER_LEN)?;
        // The file may end with the counter: memory is mapped by pages, and what is beyond the end
        // of the file, in its last page, reads as zero.
        let map = MmapOptions::new()
            .len(size_of::<Word>())
            .map_raw_read_only(file.as_raw_fd())?;
        Ok(Self {
            counter: map.as_mut_ptr().cast(),
            _map: map,
        })
    }

    /// The counter of 64 bits at `offset` of a mapped page; `None` where words are shorter.
    pub(crate) fn wide(map: MmapRaw, offset: usize) -> Option<Self> {
        const COUNTER: usize = size_of::<u64>();

        let within = offset % COUNTER == 0 && offset.checked_add(COUNTER)? <= map.len();
        (within && size_of::<Word>() == COUNTER).then(|| Self {
            counter: map.as_mut_ptr().wrapping_add(offset).cast(),
            _map: map,
        })
    }

    /// The counter: one relaxed load.
    ///
    /// Relaxed, because a counter alone orders nothing, and because nothing stronger is promised
    /// on read-only memory. A check *after* use puts an acquire fence before this load.
    #[inline]
    #[must_use]
    pub fn load(&self) -> u64 {
        // SAFETY: `counter` points to a whole word of the mapping and is aligned for it: a mapping
        // starts on a page boundary, and `wide` checked the offset. The mapping lives as long as
        // `self`, and its file has a page there (whoever mapped it has checked a regular file's
        // length; a device maps whole pages). The memory is initialised, whatever is in it: any
        // bits are an integer.
        //
        // The cast is dereferenced because `from_ptr` asks for memory that can be written. A
        // reference to an atomic does not ask for that: what lies behind it may change, so nothing
        // is assumed of its contents, and a relaxed load of a word is allowed on read-only memory
        // (see the documentation of `std::sync::atomic`). It never becomes another operation, as
        // the reference does not leave this function. The writer has another mapping, so to this
        // program the memory changes by itself. The machine does not tear the counter: the word is
        // aligned, and the counter is written at once.
        let counter = unsafe { &*self.counter.cast::<AtomicWord>() };
        // Relaxed: there is no partner. Who needs one puts a fence before.
        #[allow(clippy::useless_conversion, reason = "other machines need it")]
        u64::from(counter.load(Ordering::Relaxed))
    }

    /// The low 32 bits of the counter: all of it if it has no more, whatever follows it.
    #[inline]
    #[must_use]
    pub fn load_low(&self) -> u32 {
        // SAFETY: As in `load`; the low half of a word comes first where it has two.
        let counter = unsafe { &*self.counter.cast::<AtomicU32>() };
        counter.load(Ordering::Relaxed)
    }

    /// Where the counter is, as long as the mapping lives. It may only be read, and changes at any
    /// time: whoever reads it there sees to it that this is one load.
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.counter.cast_const().cast()
    }

    #[cfg(not(sysgenid_loom))]
    pub(crate) fn word(&self) -> *mut Word {
        self.counter
    }
}

impl fmt::Debug for CounterPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CounterPage")
            .field("counter", &self.load())
            .finish()
    }
}

/// A writable mapping of a page file: the userspace driver's side.
pub struct CounterPageMut {
    map: MmapRaw,
}

impl CounterPageMut {
    /// Maps the counter of `file`, which must be open for reading and writing and may be closed
    /// afterwards.
    ///
    /// # Errors
    ///
    /// As [`CounterPage::map`].
    pub fn map(file: impl AsFd) -> io::Result<Self> {
        let file = file.as_fd();
        check_length(file, abi::COUNTER_LEN)?;
        let map = MmapOptions::new()
            .len(abi::COUNTER_LEN)
            .map_raw(file.as_raw_fd())?;
        Ok(Self { map })
    }

    /// The counter.
    #[inline]
    #[must_use]
    pub fn load(&self) -> u32 {
        self.counter().load(Ordering::Relaxed)
    }

    /// Stores a new counter, with release order: whoever sees it sees what was written before.
    /// Its partner is the acquire fence after a client's relaxed load.
    #[inline]
    pub fn store(&self, generation: u32) {
        self.counter().store(generation, Ordering::Release);
    }

    fn counter(&self) -> &AtomicU32 {
        // SAFETY: The mapping is writable, lives as long as `self`, which the reference does not
        // outlive, starts on a page boundary and holds at least the counter.
        unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().cast()) }
    }
}

impl fmt::Debug for CounterPageMut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CounterPageMut")
            .field("counter", &self.load())
            .finish()
    }
}

/// Checks that what is mapped of `file` holds `least` bytes, so that loading them raises no signal.
pub(crate) fn check_length(file: impl AsFd, least: usize) -> io::Result<()> {
    let stat = fstat(file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => Ok(()),
        FileType::RegularFile => match usize::try_from(stat.st_size) {
            Ok(length) if length >= least => Ok(()),
            _ => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "too short to hold a generation counter",
            )),
        },
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "neither a regular file nor a character device",
        )),
    }
}
