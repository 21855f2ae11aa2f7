// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The mapped page of a vmclock.

use std::error::Error;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering, fence};
use std::thread::sleep;
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};

use super::{COUNTED_SIZE, FLAG_COUNTER_PRESENT, MAGIC, VERSION, offset};
use crate::abi::PAGE_LEN;
use crate::page::{CounterPage, check_length};

/// How often the fields are looked at again while the hypervisor changes them, and how long it is
/// left alone in between: 100 ms in all, which is what the kernel's own `read` waits.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// A read-only mapping of the page of `/dev/vmclockN`.
pub struct ClockPage {
    /// A whole page.
    map: MmapRaw,
}

/// What the page tells of restores, all of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fields {
    /// How many bytes of the page the hypervisor fills.
    pub size: u32,
    /// Even: nothing was being written.
    pub seq_count: u32,
    /// Changes when time was disrupted.
    pub disruption_marker: u64,
    /// What else there is.
    pub flags: u64,
}

impl ClockPage {
    /// Maps the clock of `file`, which may be closed afterwards.
    ///
    /// # Errors
    ///
    /// [`ClockError::Foreign`] and [`ClockError::Version`] if it is no clock that this crate knows,
    /// [`ClockError::Io`] if it cannot be mapped: as
    /// [`CounterPage::map`](crate::page::CounterPage::map).
    pub fn map(file: impl AsFd) -> Result<Self, ClockError> {
        let file = file.as_fd();
        check_length(file, COUNTED_SIZE as usize)?;
        let map = MmapOptions::new()
            .len(PAGE_LEN)
            .map_raw_read_only(file.as_raw_fd())?;
        let page = Self { map };
        // Neither ever changes, so neither needs the sequence.
        match (page.load_u32(offset::MAGIC), page.version()) {
            (MAGIC, VERSION) => Ok(page),
            (MAGIC, version) => Err(ClockError::Version(version)),
            (magic, _) => Err(ClockError::Foreign(magic)),
        }
    }

    /// The fields, all of one moment.
    ///
    /// # Errors
    ///
    /// [`ClockError::Unfinished`] if the hypervisor is changing them for 100 ms, which it does not
    /// unless it is broken or has been stopped.
    pub fn fields(&self) -> Result<Fields, ClockError> {
        for _ in 0..ATTEMPTS {
            if let Some(fields) = self.try_fields() {
                return Ok(fields);
            }
            sleep(PAUSE);
        }
        Err(ClockError::Unfinished)
    }

    /// The fields, unless the hypervisor is changing them or has meanwhile. Never waits.
    #[must_use]
    pub fn try_fields(&self) -> Option<Fields> {
        let before = self.load_u32(offset::SEQ_COUNT);
        if before % 2 != 0 {
            return None;
        }
        // The fields are loaded after the sequence. Its partner is the hypervisor's barrier between
        // making the sequence odd and writing them: who sees what it writes then sees it odd below.
        fence(Ordering::Acquire);
        let fields = Fields {
            size: self.load_u32(offset::SIZE),
            seq_count: before,
            disruption_marker: self.load_u64(offset::DISRUPTION_MARKER),
            flags: self.load_u64(offset::FLAGS),
        };
        // And before it is loaded again. Its partner is the barrier between writing them and making
        // it even.
        fence(Ordering::Acquire);
        (self.load_u32(offset::SEQ_COUNT) == before).then_some(fields)
    }

    /// The generation counter, if this clock has one. The mapping goes on as the counter's.
    ///
    /// # Errors
    ///
    /// [`ClockError::Size`] and [`ClockError::Uncounted`] if it has none;
    /// [`ClockError::Unfinished`] as [`ClockPage::fields`]; [`ClockError::Machine`] on a machine
    /// that does not load little-endian words of 64 bits at once.
    pub fn into_counter(self) -> Result<CounterPage, ClockError> {
        let fields = self.fields()?;
        if fields.size < COUNTED_SIZE {
            return Err(ClockError::Size(fields.size));
        }
        if fields.flags & FLAG_COUNTER_PRESENT == 0 {
            return Err(ClockError::Uncounted);
        }
        CounterPage::wide(self.map, offset::GENERATION_COUNTER).ok_or(ClockError::Machine)
    }

    fn version(&self) -> u16 {
        // SAFETY: As in `load_u32`.
        let version = unsafe { &*self.field::<AtomicU16>(offset::VERSION) };
        u16::from_le(version.load(Ordering::Relaxed))
    }

    /// A field of 64 bits, which not every machine loads at once from memory it may only read. It
    /// need not: the sequence tells whether the halves belong together.
    fn load_u64(&self, offset: usize) -> u64 {
        let [low, high] = [offset, offset + 4].map(|half| u64::from(self.load_u32(half)));
        high << 32 | low
    }

    fn load_u32(&self, offset: usize) -> u32 {
        // SAFETY: `field` points into the mapping, which lives as long as `self` and has a page of
        // the file behind it (`map` checked a regular file's length; a device maps whole pages),
        // and fields are aligned. Relaxed loads of 32 bits are allowed on read-only memory, and
        // nothing else is done with the reference (`CounterPage::load` says why it is not made by
        // `from_ptr`). The writer has another mapping.
        let field = unsafe { &*self.field::<AtomicU32>(offset) };
        // Relaxed: the fences of `try_fields` order it.
        u32::from_le(field.load(Ordering::Relaxed))
    }

    /// Where a field is. Its offset is one of [`offset`]'s, so it lies within the page.
    fn field<T>(&self, offset: usize) -> *const T {
        self.map.as_ptr().wrapping_add(offset).cast()
    }
}

impl fmt::Debug for ClockPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One attempt: showing it must not wait.
        f.debug_struct("ClockPage")
            .field("fields", &self.try_fields())
            .finish()
    }
}

/// Why a vmclock, or its counter, cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClockError {
    /// It cannot be mapped.
    Io(io::Error),
    /// It is no vmclock: this is where the magic number should be.
    Foreign(u32),
    /// It is a vmclock of this version, which this crate does not know.
    Version(u16),
    /// Its hypervisor fills only so many bytes of the page, and the counter is not among them.
    Size(u32),
    /// Its hypervisor says that it keeps no counter.
    Uncounted,
    /// Its hypervisor has begun to change the page and does not finish.
    Unfinished,
    /// This machine cannot load the counter at once.
    Machine,
}

impl fmt::Display for ClockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Foreign(magic) => write!(
                f,
                "no vmclock: its page begins with {magic:#010x} and not with {MAGIC:#010x}"
            ),
            Self::Version(version) => {
                write!(f, "a vmclock of version {version}, and not of {VERSION}")
            }
            Self::Size(size) => write!(
                f,
                "a vmclock of {size} bytes, which has no generation counter: that takes \
                 {COUNTED_SIZE}"
            ),
            Self::Uncounted => {
                f.write_str("a vmclock whose hypervisor keeps no generation counter")
            }
            Self::Unfinished => f.write_str(
                "a vmclock whose hypervisor has begun to change the page and does not finish",
            ),
            Self::Machine => {
                f.write_str("a vmclock, whose counter needs a little-endian machine of 64 bits")
            }
        }
    }
}

impl Error for ClockError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // Its message is shown as this one's.
            Self::Io(error) => error.source(),
            _ => None,
        }
    }
}

impl From<io::Error> for ClockError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
