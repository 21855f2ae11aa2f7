// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where a generation comes from: finding a source, trusting it, and its first answers. What is read from
//! it again and again belongs to the layers above.

pub(crate) mod attributes;
mod broker_status;
pub(crate) mod connection;
mod discovery;
mod page;
mod page_file;
mod shape;
mod trust;
// A vmclock is a source on such machines only.
#[cfg(all(test, target_pointer_width = "64", target_endian = "little"))]
mod tests;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fd::AsFd;
use rustix::fs::{Stat, stat};
use sysgenid_sys::abi::{self, Dialect};
use sysgenid_sys::device::misc_name;
use sysgenid_sys::wire::{Op, Request};
use sysgenid_sys::{Errno, wire};

pub use attributes::Backend;
pub use broker_status::BrokerStatus;
pub use discovery::SOURCE_VARIABLE;
pub(crate) use discovery::{named_path, user_folder};
pub(crate) use page::{FileIdentity, V4_REFUSED, clock_refused, detect, map_counter, open_failed};
pub use page_file::PageFile;

use self::attributes::Attributes;
use self::connection::{Connection, LOOK_TIME};
use self::page::{ANOTHER_DEVICE, UNPROVEN_DEVICE};
use self::trust::Found;
use crate::base::error::{Error, Kind, Result};
use crate::base::{Deadline, Generation};

/// How long a broker may take to answer whoever checks that it is there.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// What kind of thing a generation is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SourceKind {
    /// The kernel driver's node, `/dev/sysgenid`: all operations.
    Device,
    /// The userspace driver's directory: all operations. Its page must look like a
    /// [`PageFile`](Self::PageFile); it may belong to another user if the directory does, and if
    /// root alone can write the directory above.
    Broker,
    /// A file whose first four bytes are the counter: it can be probed, and nothing else.
    ///
    /// It must look like a page, or opening it fails with
    /// [`is_wrong_kind`](crate::Error::is_wrong_kind): a regular file whose size is a multiple of
    /// 4096, with zeros after the counter in the first 4096 bytes, and an owner who is root or the
    /// caller's effective user. Another user's page is accepted only as a bind mount in a directory
    /// that only root can write. The shape is checked once: if the second four bytes are written
    /// later, a probe reads them as a part of the number.
    PageFile,
    /// The counter that the hypervisor keeps beside its VM generation id, `/dev/vmgenid`: it can be
    /// probed, and nothing else. As with a page file, a probe takes the four bytes after it for a
    /// part of the number.
    Vmgenid,
    /// Mainline's vmclock, `/dev/vmclockN`, where the hypervisor keeps a generation counter: it can
    /// be probed, and observed if the hypervisor notifies of changes.
    Vmclock,
}

impl SourceKind {
    /// Its name, as in messages to programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Broker => "broker",
            Self::PageFile => "page-file",
            Self::Vmgenid => "vmgenid",
            Self::Vmclock => "vmclock",
        }
    }
}

/// Where a generation comes from.
///
/// A source is a path and what was found there. Naming one opens nothing; a [`Probe`](crate::Probe),
/// a [`Watcher`](crate::Watcher) or an [`Orchestrator`](crate::Orchestrator) does that.
///
/// # Discovery for watchers and orchestrators
///
/// [`Source::discover`] takes the first of these that exists, whether or not it then works:
///
/// 1. the path in the environment variable `SYSGENID_SOURCE`;
/// 2. `/dev/sysgenid`, the kernel driver (or a page file that is mounted there);
/// 3. `/run/sysgenid`, the directory of a system-wide userspace driver;
/// 4. `$XDG_RUNTIME_DIR/sysgenid`, the directory of the user's own.
///
/// A source that exists but cannot be used is an error, not a reason to take the next: another
/// source would not tell of the same restores.
///
/// A directory must belong to root or to the process's effective user, and no other user may be
/// able to write in it; one in `/run` may belong to another user, because only root can have put it there.
/// The broker that answers in it must run as one of these users. Otherwise the error is
/// [`is_wrong_kind`](Error::is_wrong_kind). A source that the program or `SYSGENID_SOURCE` names is
/// the caller's own choice: only the owner of a [page](SourceKind::PageFile) is looked at there.
///
/// Where the page of a broker is mounted over `/dev/sysgenid`, for clients that know no other path,
/// the broker is taken whose page it is, if that is in one of the directories above.
///
/// Both variables are ignored in programs that run with more rights than the process that started
/// them: see [`SOURCE_VARIABLE`](crate::SOURCE_VARIABLE). `XDG_RUNTIME_DIR` is ignored, too, unless
/// it is an absolute path.
///
/// # Discovery for probes
///
/// [`Source::discover_for_probe`] takes the same, and where none of them exists a counter that the
/// hypervisor writes:
///
/// 5. the first `/dev/vmclockN` that may be read and has a generation counter;
/// 6. `/dev/vmgenid`, if it may be read.
///
/// The hypervisor's counter is right at the first instruction after a restore, while a driver learns
/// of it a moment later. It comes last all the same:
///
/// - **The kernel has not reseeded yet** when it has changed. What is drawn from the kernel at once
///   may be drawn by every clone alike, and this counter changes no second time. This project's
///   driver changes its own when the kernel has reseeded.
/// - **The hypervisor knows nothing of a trigger**, nor of a restored container.
///
/// The [witness of the whole process](crate::ProcessWide) looks at both, and so misses neither. A
/// driver whose [backend](crate::Backend) is `Trigger` sees no restore by itself: there, too, a probe
/// is not enough.
///
/// **Numbers of different sources have nothing to do with each other.** A watcher's generation is
/// not to be compared with that of a probe that was discovered: take [`Watcher::probe`] for that.
///
/// [`Watcher::probe`]: crate::Watcher::probe
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    kind: SourceKind,
    path: PathBuf,
    found: Found,
}

impl Source {
    /// The source at `path`: a device node, a broker's directory, or a page file.
    ///
    /// # Errors
    ///
    /// [`is_absent`](Error::is_absent) if nothing is there, or a directory in which no broker ever
    /// ran; [`is_permission`](Error::is_permission) if the path may not be searched;
    /// [`is_wrong_kind`](Error::is_wrong_kind) for a FIFO, a socket or another device.
    ///
    /// ```
    /// use sysgenid::{Source, SourceKind};
    ///
    /// let broker = sysgenid_broker::testing::Broker::start()?;
    /// assert_eq!(Source::at(broker.path())?.kind(), SourceKind::Broker);
    /// assert_eq!(Source::at(broker.path().join("page"))?.kind(), SourceKind::PageFile);
    /// assert!(Source::at("/dev/null").unwrap_err().is_wrong_kind());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn at(path: impl Into<PathBuf>) -> Result<Self> {
        Self::found_at(path.into(), Found::Named)
    }

    /// The source at `path`, and how the path came to be looked at.
    fn found_at(path: PathBuf, found: Found) -> Result<Self> {
        match Self::kind_at(&path, found) {
            Ok(kind) => Ok(Self { kind, path, found }),
            Err(error) => Err(error.at(path)),
        }
    }

    /// A file that is to stand for another kind of source.
    #[cfg(test)]
    pub(crate) fn set_kind(&mut self, kind: SourceKind) {
        self.kind = kind;
    }

    /// What kind of source it is.
    #[must_use]
    pub fn kind(&self) -> SourceKind {
        self.kind
    }

    /// The path it was found at.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The current generation and, where the source can tell, how many watchers it has.
    ///
    /// Asks once and keeps nothing open; on the broker's socket it does not become a watcher. This
    /// project's kernel driver tells everybody, in sysfs, also who may not open the node; the
    /// numbers are read one after another there, so they may be of different moments.
    ///
    /// # Errors
    ///
    /// As [`Probe::open_at`](crate::Probe::open_at), but for the v5 dialect, which is no error
    /// here; [`is_lost`](Error::is_lost) if the broker has
    /// ended, [`is_timeout`](Error::is_timeout) if it does not answer before the deadline.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let broker = sysgenid_broker::testing::Broker::start()?;
    /// let source = sysgenid::Source::at(broker.path())?;
    /// let status = source.status(Duration::from_secs(5))?;
    /// assert_eq!(status.generation.get(), 0);
    /// assert_eq!(status.watchers.unwrap().total, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn status(&self, deadline: impl Into<Deadline>) -> Result<Status> {
        if self.kind == SourceKind::Broker {
            let deadline = deadline.into().at_least(LOOK_TIME);
            let connection = Connection::connect(self, wire::WATCH_SOCKET, deadline)?;
            let reply = connection
                .ask(&Request::new(Op::Status, 0), deadline)
                .map_err(|error| error.at(&self.path))?;
            return Ok(Status {
                generation: Generation::from(reply.generation),
                watchers: Some(WatcherCounts {
                    total: reply.watchers,
                    tracked: reply.tracked,
                    outdated: reply.outdated,
                }),
                dialect: None,
                backend: None,
                broker: Some(BrokerStatus::of(&reply)),
            });
        }
        self.look().map_err(|error| error.at(&self.path))
    }

    /// Checks that a broker is there to change its page, and answers. Nothing else has to be.
    ///
    /// The page of a broker that has ended stays, and looks like one that nothing has happened to.
    pub(crate) fn verify_served(&self) -> Result<()> {
        match self.kind {
            SourceKind::Broker => match self.status(ANSWER_TIME) {
                // It has answered, so it is there.
                Err(error) if error.is_out_of_room() => Ok(()),
                answered => answered.map(drop),
            },
            SourceKind::Device
            | SourceKind::PageFile
            | SourceKind::Vmgenid
            | SourceKind::Vmclock => Ok(()),
        }
    }

    /// A connection to the socket of the broker's owner. One for each call: they are rare.
    pub(crate) fn control(&self, deadline: Deadline) -> Result<Connection> {
        Connection::connect(self, wire::CONTROL_SOCKET, deadline)
    }

    /// Checks that what listens at the other end of a socket of this source may be believed.
    pub(crate) fn check_broker(&self, socket: impl AsFd) -> Result<()> {
        trust::check_broker(socket, &self.path, self.found)
    }

    /// The status of a source that is a file.
    fn look(&self) -> Result<Status> {
        if self.kind == SourceKind::Device {
            let node = stat(&self.path).map_err(stat_failed)?;
            if let Some(status) = Attributes::of(&node).status() {
                return Ok(status);
            }
        }
        let (file, dialect) = self.open_page()?;
        if dialect == Some(Dialect::V4) {
            return Err(Error::new(Kind::Unsupported(V4_REFUSED)));
        }
        // In v5 this is a watcher for a moment, and then no more.
        let page = self.map_open(&file)?;
        Ok(Status {
            generation: match self.kind {
                SourceKind::Vmclock => Generation::new(page.load()),
                _ => Generation::from(page.load_low()),
            },
            watchers: None,
            dialect,
            backend: None,
            broker: None,
        })
    }

    fn kind_at(path: &Path, found: Found) -> Result<SourceKind> {
        let metadata = fs::metadata(path).map_err(|error| absent_or("stat", &error))?;
        let file_type = metadata.file_type();
        if file_type.is_char_device() {
            return kind_of_device(&stat(path).map_err(stat_failed)?);
        }
        if file_type.is_dir() {
            // Its page stays when the broker ends, so this is where a broker runs or ran.
            fs::symlink_metadata(path.join(wire::PAGE_FILE))
                .map_err(|error| absent_or("stat", &error))?;
            trust::open_directory(path, found)?;
            return Ok(SourceKind::Broker);
        }
        if file_type.is_file() {
            return Ok(SourceKind::PageFile);
        }
        if file_type.is_socket() {
            return Err(Error::new(Kind::Foreign(
                "a socket; name the broker's directory instead",
            )));
        }
        Err(Error::new(Kind::Foreign(
            "neither a generation device, nor a broker's directory, nor a page file",
        )))
    }
}

/// What [`Source::status`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The current generation.
    pub generation: Generation,
    /// How many watchers there are; `None` where the source does not tell.
    pub watchers: Option<WatcherCounts>,
    /// The dialect of the kernel driver; `None` if it does not tell, and where there is none.
    pub dialect: Option<Dialect>,
    /// Who tells the kernel driver of restores; `None` if it does not say, and where there is none.
    pub backend: Option<Backend>,
    /// What the userspace driver tells besides; `None` on another source.
    pub broker: Option<BrokerStatus>,
}

/// How many watchers a source has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatcherCounts {
    /// All watchers.
    pub total: u32,
    /// Those that orchestrators wait for.
    pub tracked: u32,
    /// Tracked ones that have not acknowledged the current generation.
    pub outdated: u32,
}

fn stat_failed(errno: Errno) -> Error {
    match errno {
        Errno::NOENT | Errno::NOTDIR => Error::new(Kind::Absent).errno(errno),
        errno => Error::call("stat", errno),
    }
}

fn absent_or(call: &'static str, error: &io::Error) -> Error {
    match Errno::from_io_error(error) {
        Some(Errno::NOENT | Errno::NOTDIR) => Error::new(Kind::Absent),
        _ => Error::io(call, error),
    }
}

/// By what the kernel calls the device: see [`misc_name`]. The node's own name proves nothing.
fn kind_of_device(node: &Stat) -> Result<SourceKind> {
    match misc_name(node) {
        Ok(name) => kind_by_name(OsStr::from_bytes(name.as_bytes()))
            .ok_or_else(|| Error::new(Kind::Foreign(ANOTHER_DEVICE))),
        Err(Errno::NXIO) => Err(open_failed(Errno::NXIO)),
        Err(Errno::NODATA) => Err(Error::new(Kind::Foreign(UNPROVEN_DEVICE))),
        Err(_) => Err(Error::new(Kind::Foreign(ANOTHER_DEVICE))),
    }
}

fn kind_by_name(name: &OsStr) -> Option<SourceKind> {
    match name.to_str()? {
        abi::DEVICE_NAME => Some(SourceKind::Device),
        "vmgenid" => Some(SourceKind::Vmgenid),
        name => clock_number(name).map(|_| SourceKind::Vmclock),
    }
}

/// Which vmclock of the machine this is.
fn clock_number(name: &str) -> Option<u32> {
    let number = name.strip_prefix("vmclock")?;
    let is_plain = number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse().ok().filter(|_| is_plain)
}
