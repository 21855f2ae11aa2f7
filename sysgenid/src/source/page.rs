// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Opening the file that holds a source's counter, mapping it, and telling whether it is still that
//! file.

use std::io;
use std::path::PathBuf;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, open, stat};
use sysgenid_sys::abi::{self, Dialect};
use sysgenid_sys::device::{Device, Undetected};
use sysgenid_sys::page::CounterPage;
use sysgenid_sys::vmclock::{ClockError, ClockPage};
use sysgenid_sys::{Errno, wire};

use super::shape::{self, Named, too_short};
use super::trust::{open_directory, open_page_in};
use super::{Source, SourceKind, kind_of_device, stat_failed};
use crate::base::error::{Error, Kind, Result};
use crate::check::Probe;
use crate::source::attributes::Attributes;

impl Source {
    /// The file that holds the counter.
    fn page_path(&self) -> PathBuf {
        match self.kind {
            SourceKind::Broker => self.path.join(wire::PAGE_FILE),
            SourceKind::Device
            | SourceKind::PageFile
            | SourceKind::Vmgenid
            | SourceKind::Vmclock => self.path.clone(),
        }
    }

    /// Opens and maps the counter for a probe, without leaving a watcher that someone waits for.
    pub(crate) fn map_page(&self) -> Result<(CounterPage, FileIdentity)> {
        let path = self.page_path();
        let map = || {
            let (file, dialect) = self.open_page()?;
            match dialect {
                Some(Dialect::V5) => {
                    return Err(Error::new(Kind::Unsupported(
                        "this driver (v5 dialect) waits for every open file, so a mapping that \
                         nobody acknowledges would stall it; use `Watcher::probe` instead",
                    )));
                }
                Some(Dialect::V4) => return Err(Error::new(Kind::Unsupported(V4_REFUSED))),
                _ => {}
            }
            let identity = FileIdentity::of(&fstat(&file).map_err(stat_failed)?);
            Ok((self.map_open(&file)?, identity))
        };
        map().map_err(|error: Error| error.at(&path))
    }

    /// Maps the counter of its file, which is open.
    pub(super) fn map_open(&self, file: &OwnedFd) -> Result<CounterPage> {
        if self.kind != SourceKind::Vmclock {
            return map_counter(file);
        }
        let counter = ClockPage::map(file).and_then(ClockPage::into_counter);
        counter.map_err(|error| clock_refused(&error))
    }

    /// Opens a clock for whoever waits for its notifications: its file, its page, and a probe of its
    /// counter.
    pub(crate) fn open_clock(&self) -> Result<(OwnedFd, ClockPage, Probe)> {
        let (file, _) = self.open_page()?;
        let identity = FileIdentity::of(&fstat(&file).map_err(stat_failed)?);
        let page = ClockPage::map(&file).map_err(|error| clock_refused(&error))?;
        let probe = Probe::of(self.map_open(&file)?, identity, Some(self.clone()));
        Ok((file, page, probe))
    }

    /// Opens the counter's file, and says which dialect it speaks if it is a device and tells.
    pub(super) fn open_page(&self) -> Result<(OwnedFd, Option<Dialect>)> {
        if self.kind == SourceKind::Broker {
            let (directory, status) = open_directory(&self.path, self.found)?;
            let file = open_page_in(&directory, wire::PAGE_FILE)?;
            shape::check(&file, Named::InDirectory(&directory, status.st_uid))?;
            return Ok((file, None));
        }
        // Non-blocking, so that a FIFO that took the file's place cannot hang the open.
        let read = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        if self.kind == SourceKind::Device {
            // Only a writable descriptor tells the dialect of any driver. Without one, ours says it
            // in sysfs, and with others what all dialects share has to do.
            let write = read | OFlags::RDWR;
            match open(&self.path, write, Mode::empty()) {
                Ok(file) => {
                    let device = detect(file).map_err(|(_, error)| error)?;
                    let dialect = device.dialect();
                    return Ok((device.into(), Some(dialect)));
                }
                Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => {}
                Err(errno) => return Err(open_failed(errno)),
            }
        }
        let file = open(&self.path, read, Mode::empty()).map_err(open_failed)?;
        let status = fstat(&file).map_err(stat_failed)?;
        // The path may name another file by now.
        if FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
            && kind_of_device(&status)? != self.kind
        {
            return Err(Error::new(Kind::Foreign(ANOTHER_DEVICE)));
        }
        let dialect = match self.kind {
            SourceKind::Device => Attributes::of(&status).dialect(),
            SourceKind::PageFile => {
                shape::check(&file, Named::Itself(&self.path))?;
                None
            }
            SourceKind::Broker | SourceKind::Vmgenid | SourceKind::Vmclock => None,
        };
        Ok((file, dialect))
    }

    /// Whether the path still names the file that was mapped, and the file still holds a counter.
    pub(crate) fn verify_page(&self, mapped: FileIdentity) -> Result<()> {
        let path = self.page_path();
        let verify = || {
            let now = stat(&path).map_err(stat_failed)?;
            if FileIdentity::of(&now) != mapped {
                return Err(Error::new(Kind::Broken(
                    "was replaced after it was mapped, so the mapping no longer tells of changes; \
                     open it again",
                )));
            }
            let regular = FileType::from_raw_mode(now.st_mode).is_file();
            let least = match self.kind {
                SourceKind::Broker | SourceKind::PageFile => shape::PAGE,
                _ => abi::COUNTER_LEN,
            };
            if regular && usize::try_from(now.st_size).unwrap_or_default() < least {
                return Err(too_short());
            }
            if self.kind == SourceKind::Vmclock {
                // Machines move between hypervisors, and not every one keeps the counter. Who has
                // given up the right to open it again believes the mapping.
                return match self.map_page() {
                    Err(error) if !error.is_permission() => Err(error),
                    _ => Ok(()),
                };
            }
            Ok(())
        };
        verify().map_err(|error: Error| error.at(&path))
    }
}

/// Which file was mapped, to tell it from one that took its name later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileIdentity {
    device: u64,
    inode: u64,
    node: u64,
}

impl FileIdentity {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            node: stat.st_rdev,
        }
    }
}

pub(crate) const V4_REFUSED: &str =
    "this driver speaks the v4 dialect of January 2021, which is not supported; update the driver";

pub(super) const ANOTHER_DEVICE: &str = "another device, not sysgenid's";

pub(super) const UNPROVEN_DEVICE: &str = "neither /sys nor /proc/misc is there to tell which device this is, and a device that is not \
     sysgenid's must not even be opened; mount one of them, or name a broker's directory";

/// Proves that a file is the device; gives it back if it is not.
pub(crate) fn detect(file: OwnedFd) -> Result<Device, (OwnedFd, Error)> {
    Device::detect(file).map_err(|Undetected { watcher, errno }| {
        let error = match errno {
            Errno::NODEV => Error::new(Kind::Foreign(
                "another device than sysgenid's, or one that answers unlike a generation device",
            )),
            Errno::NODATA => Error::new(Kind::Foreign(UNPROVEN_DEVICE)),
            errno => Error::call("detecting the dialect", errno),
        };
        (watcher, error)
    })
}

pub(crate) fn map_counter(file: impl AsFd) -> Result<CounterPage> {
    CounterPage::map(file).map_err(|error| map_failed(&error))
}

fn map_failed(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => too_short(),
        io::ErrorKind::InvalidInput if error.raw_os_error().is_none() => {
            Error::new(Kind::Foreign("neither a page file nor a device"))
        }
        _ => Error::io("mmap", error),
    }
}

pub(crate) fn clock_refused(error: &ClockError) -> Error {
    Error::new(match error {
        ClockError::Io(error) => return map_failed(error),
        ClockError::Foreign(_) => {
            Kind::Foreign("has the name of a vmclock, and its page is not one's")
        }
        ClockError::Version(_) => Kind::Unsupported(
            "a vmclock of a version that this release does not know; update it, or name another \
             source, for example in SYSGENID_SOURCE",
        ),
        ClockError::Size(_) => Kind::Unsupported(
            "a vmclock whose page is too small for a generation counter; use the kernel driver \
             (`modprobe sysgenid`) or the userspace driver (`sysgenid serve`)",
        ),
        ClockError::Uncounted => Kind::Unsupported(
            "a vmclock whose hypervisor keeps no generation counter, as QEMU's does not; use the \
             kernel driver (`modprobe sysgenid`) or the userspace driver (`sysgenid serve`)",
        ),
        ClockError::Unfinished => Kind::Broken(
            "a vmclock whose hypervisor has begun to change it and does not finish; look at the \
             hypervisor, or name another source, for example in SYSGENID_SOURCE",
        ),
        _ => Kind::Unsupported(
            "a vmclock, which this release uses on little-endian machines of 64 bits only; use the \
             kernel driver (`modprobe sysgenid`) or the userspace driver (`sysgenid serve`)",
        ),
    })
}

pub(crate) fn open_failed(errno: Errno) -> Error {
    match errno {
        Errno::NOENT | Errno::NOTDIR => Error::new(Kind::Absent).errno(errno),
        // The node is there and the driver is not.
        Errno::NXIO | Errno::NODEV => Error::new(Kind::Broken(
            "the node has no driver behind it; load the kernel driver (`modprobe sysgenid`)",
        ))
        .errno(errno),
        errno => Error::call("open", errno),
    }
}
