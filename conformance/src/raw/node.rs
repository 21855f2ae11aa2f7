// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The node, and the open files of it.

use std::ffi::c_void;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, major, minor, open, stat};
use rustix::io::Errno;
use rustix::ioctl::Opcode;
use sysgenid_sys::abi::{self, Dialect};
use sysgenid_sys::device;
use sysgenid_sys::page::CounterPage;

use super::ioctls;

/// The device node under test, and the dialect that it is to speak.
#[derive(Clone, Debug)]
pub struct Node {
    path: PathBuf,
    dialect: Dialect,
}

impl Node {
    /// The node at `path`.
    #[must_use]
    pub fn new(path: PathBuf, dialect: Dialect) -> Self {
        Self { path, dialect }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The device's folder in sysfs.
    pub(crate) fn sysfs(&self) -> PathBuf {
        let device = stat(&self.path).expect("the node is there").st_rdev;
        let link = format!("/sys/dev/char/{}:{}", major(device), minor(device));
        fs::canonicalize(&link).unwrap_or_else(|error| panic!("{link}: {error}"))
    }

    /// An open file for reading and writing that does not block.
    pub(crate) fn open(&self) -> OpenFile {
        self.open_with(OFlags::RDWR | OFlags::NONBLOCK)
    }

    /// An open file for reading and writing that blocks.
    pub(crate) fn open_blocking(&self) -> OpenFile {
        self.open_with(OFlags::RDWR)
    }

    /// An open file for reading.
    pub(crate) fn open_read_only(&self) -> OpenFile {
        self.open_with(OFlags::RDONLY | OFlags::NONBLOCK)
    }

    /// A watcher that is tracked and outdated: whoever waits, waits for it.
    pub(crate) fn open_straggler(&self) -> OpenFile {
        let watcher = self.open();
        watcher.ensure_tracked();
        self.bump();
        watcher
    }

    pub(crate) fn open_with(&self, flags: OFlags) -> OpenFile {
        let file = open(&self.path, flags | OFlags::CLOEXEC, Mode::empty());
        OpenFile {
            file: file.unwrap_or_else(|errno| panic!("open {}: {errno}", self.path.display())),
            dialect: self.dialect,
        }
    }

    /// Changes the generation, and returns the new one.
    pub(crate) fn bump(&self) -> u32 {
        self.bump_to(0)
    }

    /// Changes the generation to at least `min`, and returns the new one.
    pub(crate) fn bump_to(&self, min: u32) -> u32 {
        let trigger = self.open();
        trigger.trigger(min).expect("root may trigger");
        trigger
            .read()
            .expect("a trigger outdates the file it is made on")
    }

    /// The current generation.
    pub(crate) fn generation(&self) -> u32 {
        let file = self.open_read_only();
        let page = CounterPage::map(&file).expect("the page can be mapped");
        u32::try_from(page.load()).expect("the counter has 32 bits")
    }
}

/// An open file of the node.
pub(crate) struct OpenFile {
    file: OwnedFd,
    dialect: Dialect,
}

impl OpenFile {
    pub(crate) fn read(&self) -> Result<u32, Errno> {
        device::read_generation(&self.file)
    }

    pub(crate) fn read_bytes(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        rustix::io::read(&self.file, buffer)
    }

    pub(crate) fn acknowledge(&self, generation: u32) -> Result<(), Errno> {
        device::acknowledge(&self.file, generation)
    }

    pub(crate) fn write_bytes(&self, bytes: &[u8]) -> Result<usize, Errno> {
        rustix::io::write(&self.file, bytes)
    }

    /// Reads four bytes to memory that is not there.
    pub(crate) fn read_to_nowhere(&self) -> Result<usize, Errno> {
        // SAFETY: Nothing is mapped at the first page, so the kernel refuses to write there.
        let read = unsafe { libc::read(self.file.as_raw_fd(), NOWHERE, abi::COUNTER_LEN) };
        usize::try_from(read).map_err(|_| last_errno())
    }

    /// Writes four bytes from memory that is not there.
    pub(crate) fn write_from_nowhere(&self) -> Result<usize, Errno> {
        // SAFETY: As above; the kernel refuses to read there.
        let written = unsafe { libc::write(self.file.as_raw_fd(), NOWHERE, abi::COUNTER_LEN) };
        usize::try_from(written).map_err(|_| last_errno())
    }

    /// Acknowledges what it reads.
    pub(crate) fn catch_up(&self) {
        let generation = self.read().expect("it is outdated");
        self.acknowledge(generation)
            .expect("what was read is current");
    }

    pub(crate) fn is_outdated(&self) -> bool {
        device::is_outdated(&self.file).expect("it can be polled")
    }

    /// What `poll` reports at once, of all there is.
    pub(crate) fn events(&self) -> PollFlags {
        let all = PollFlags::IN
            | PollFlags::PRI
            | PollFlags::OUT
            | PollFlags::RDNORM
            | PollFlags::RDBAND
            | PollFlags::WRNORM
            | PollFlags::WRBAND
            | PollFlags::RDHUP;
        let mut fds = [PollFd::new(&self.file, all)];
        poll(
            &mut fds,
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            }),
        )
        .expect("it can be polled");
        fds[0].revents()
    }

    /// Makes it one that is waited for. In v5 every open file is.
    pub(crate) fn ensure_tracked(&self) {
        if self.dialect == Dialect::V6 {
            self.track(true);
        }
    }

    /// For cases of dialects in which it can be set.
    pub(crate) fn track(&self, tracked: bool) {
        ioctls::set_watcher_tracking(&self.file, self.dialect, tracked)
            .expect("tracking can be set");
    }

    /// Waits for the watchers; 0 ms is for ever.
    pub(crate) fn wait(&self, ms: u32) -> Result<(), Errno> {
        ioctls::wait_watchers(&self.file, self.dialect, ms)
    }

    pub(crate) fn trigger(&self, min: u32) -> Result<(), Errno> {
        ioctls::trigger_gen_update(&self.file, self.dialect, min)
    }

    /// An ioctl with a number as its argument, and any number as its code.
    pub(crate) fn ioctl<const OPCODE: Opcode>(&self, argument: usize) -> Result<(), Errno> {
        ioctls::by_value::<OPCODE>(&self.file, argument)
    }

    /// Triggers with an argument that is wider than the generation of [`OpenFile::trigger`].
    pub(crate) fn trigger_wide(&self, min: usize) -> Result<(), Errno> {
        match self.dialect {
            Dialect::V5 => self.ioctl::<{ abi::V5_FORCE_GEN_UPDATE }>(min),
            _ => self.ioctl::<{ abi::TRIGGER_GEN_UPDATE }>(min),
        }
    }

    /// Waits with an argument that is wider than the milliseconds of [`OpenFile::wait`].
    pub(crate) fn wait_wide(&self, ms: usize) -> Result<(), Errno> {
        match self.dialect {
            Dialect::V5 => self.ioctl::<{ abi::V5_WAIT_WATCHERS }>(ms),
            _ => self.ioctl::<{ abi::WAIT_WATCHERS }>(ms),
        }
    }

    /// Another descriptor of the same open file.
    pub(crate) fn duplicate(&self) -> Self {
        Self {
            file: self
                .file
                .try_clone()
                .expect("a descriptor can be duplicated"),
            dialect: self.dialect,
        }
    }
}

const NOWHERE: *mut c_void = std::ptr::without_provenance_mut(8);

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).expect("a call has just failed")
}

impl AsFd for OpenFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl From<OpenFile> for OwnedFd {
    fn from(file: OpenFile) -> Self {
        file.file
    }
}
