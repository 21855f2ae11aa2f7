// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The mapped counter.
//!
//! A page is memory that another process or the kernel changes at any time, so it never becomes a
//! slice or a reference to a plain integer here: each access is one atomic operation on the `u32`
//! at its start.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU32, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FileType, fstat};

use crate::abi;

/// A read-only mapping of a counter page: of the device, or of a page file.
pub struct CounterPage {
    map: MmapRaw,
}

impl CounterPage {
    /// Maps the counter of `file`, which may be closed afterwards.
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
    pub fn map(file: impl AsFd) -> io::Result<Self> {
        let file = file.as_fd();
        check_length(file)?;
        let map = MmapOptions::new()
            .len(abi::COUNTER_LEN)
            .map_raw_read_only(file.as_raw_fd())?;
        Ok(Self { map })
    }

    /// The counter: one relaxed load.
    ///
    /// Relaxed, because a counter alone orders nothing, and because nothing stronger is promised
    /// on read-only memory. A check *after* use puts an acquire fence before this load.
    #[inline]
    #[must_use]
    pub fn load(&self) -> u32 {
        // SAFETY: The mapping lives as long as `self`, starts on a page boundary and holds at
        // least the four bytes of the counter (`map` checked a regular file's length; a device
        // maps whole pages). It is only ever accessed atomically, here and by the writer.
        let counter = unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().cast()) };
        counter.load(Ordering::Relaxed)
    }

    /// Where the counter is, as long as the mapping lives.
    pub(crate) fn as_ptr(&self) -> *const AtomicU32 {
        self.map.as_ptr().cast()
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
        check_length(file)?;
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
        // SAFETY: As in `CounterPage::load`; the mapping is writable, and the reference does not
        // outlive `self`.
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

fn check_length(file: impl AsFd) -> io::Result<()> {
    let stat = fstat(file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => Ok(()),
        FileType::RegularFile => match u64::try_from(stat.st_size) {
            Ok(length) if length >= abi::COUNTER_LEN as u64 => Ok(()),
            _ => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "too short to hold a generation counter of 4 bytes",
            )),
        },
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "neither a regular file nor a character device",
        )),
    }
}
