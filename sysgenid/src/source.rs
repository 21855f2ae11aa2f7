// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, Stat, fstat, open, stat};
use sysgenid_sys::abi::{self, Dialect};
use sysgenid_sys::page::CounterPage;
use sysgenid_sys::{Errno, device, wire};

use crate::attributes::{Attributes, Backend};
use crate::broker::Connection;
use crate::error::{Error, Kind, Result};
use crate::{Deadline, Generation};

/// The environment variable that names a source and so replaces discovery.
pub const SOURCE_VARIABLE: &str = "SYSGENID_SOURCE";

/// What kind of thing a generation is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SourceKind {
    /// The kernel driver's node, `/dev/sysgenid`: all operations.
    Device,
    /// The userspace driver's folder: all operations.
    Broker,
    /// A file whose first four bytes are the counter: it can be probed, and nothing else.
    PageFile,
}

/// Where a generation comes from.
///
/// A source is a path and what was found there. Naming one opens nothing; a [`Probe`](crate::Probe),
/// a [`Watcher`](crate::Watcher) or an [`Orchestrator`](crate::Orchestrator) does that.
///
/// # Discovery
///
/// [`Source::discover`] takes the first of these that exists, whether or not it then works:
///
/// 1. the path in the environment variable `SYSGENID_SOURCE`;
/// 2. `/dev/sysgenid`, the kernel driver (or a page file that is mounted there);
/// 3. `/run/sysgenid`, the folder of a system-wide userspace driver;
/// 4. `$XDG_RUNTIME_DIR/sysgenid`, the folder of the user's own.
///
/// A source that exists but cannot be used is an error, not a reason to take the next: another
/// source would not tell of the same restores.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    kind: SourceKind,
    path: PathBuf,
}

impl Source {
    /// Looks for a source in the order above.
    ///
    /// # Errors
    ///
    /// [`is_absent`](Error::is_absent) if none of them exists; else as [`Source::at`].
    ///
    /// ```no_run
    /// let source = sysgenid::Source::discover()?;
    /// println!("{} ({:?})", source.path().display(), source.kind());
    /// # Ok::<(), sysgenid::Error>(())
    /// ```
    pub fn discover() -> Result<Self> {
        if let Some(path) = env::var_os(SOURCE_VARIABLE).filter(|path| !path.is_empty()) {
            return Self::at(path);
        }
        let user = env::var_os("XDG_RUNTIME_DIR").map(|folder| Path::new(&folder).join("sysgenid"));
        let candidates = [
            Some(abi::DEVICE_PATH.into()),
            Some(PathBuf::from("/run/sysgenid")),
            user,
        ];
        for path in candidates.into_iter().flatten() {
            match Self::at(path) {
                Err(error) if error.is_absent() => {}
                found => return found,
            }
        }
        Err(Error::new(Kind::Absent).at(abi::DEVICE_PATH))
    }

    /// The source at `path`: a device node, a broker's folder, or a page file.
    ///
    /// # Errors
    ///
    /// [`is_absent`](Error::is_absent) if nothing is there, or a folder in which no broker ever
    /// ran; [`is_permission`](Error::is_permission) if the path may not be searched;
    /// [`is_wrong_kind`](Error::is_wrong_kind) for a FIFO, a socket or another device.
    ///
    /// ```
    /// use sysgenid::{Source, SourceKind};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let _broker = sysgenid_broker::spawn(folder.path())?;
    /// assert_eq!(Source::at(folder.path())?.kind(), SourceKind::Broker);
    /// assert_eq!(Source::at(folder.path().join("page"))?.kind(), SourceKind::PageFile);
    /// assert!(Source::at("/dev/null").unwrap_err().is_wrong_kind());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn at(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        match Self::kind_at(&path) {
            Ok(kind) => Ok(Self { kind, path }),
            Err(error) => Err(error.at(path)),
        }
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
    /// let folder = tempfile::tempdir()?;
    /// let _broker = sysgenid_broker::spawn(folder.path())?;
    /// let source = sysgenid::Source::at(folder.path())?;
    /// let status = source.status(Duration::from_secs(5))?;
    /// assert_eq!(status.generation.get(), 0);
    /// assert_eq!(status.watchers.unwrap().total, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn status(&self, deadline: impl Into<Deadline>) -> Result<Status> {
        if self.kind == SourceKind::Broker {
            let connection = Connection::connect(&self.path.join(wire::WATCH_SOCKET))?;
            let reply = connection
                .call(wire::Op::Status, [0, 0], deadline.into())
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
            });
        }
        self.look().map_err(|error| error.at(&self.path))
    }

    /// The status of a source that is a file.
    fn look(&self) -> Result<Status> {
        if self.kind == SourceKind::Device {
            let node = stat(&self.path).map_err(stat_failed)?;
            if let Some(status) = Attributes::of(&node).status() {
                return Ok(status);
            }
        }
        let (file, dialect) = self.open_page(&self.path)?;
        if dialect == Some(Dialect::V4) {
            return Err(Error::new(Kind::Unsupported(V4_REFUSED)));
        }
        // In v5 this is a watcher for a moment, and then no more.
        let page = map_counter(&file)?;
        Ok(Status {
            generation: Generation::new(page.load()),
            watchers: None,
            dialect,
            backend: None,
        })
    }

    /// The file that holds the counter.
    fn page_path(&self) -> PathBuf {
        match self.kind {
            SourceKind::Broker => self.path.join(wire::PAGE_FILE),
            SourceKind::Device | SourceKind::PageFile => self.path.clone(),
        }
    }

    /// Opens and maps the counter for a probe, without leaving a watcher that someone waits for.
    pub(crate) fn map_page(&self) -> Result<(CounterPage, FileIdentity)> {
        let path = self.page_path();
        let map = || {
            let (file, dialect) = self.open_page(&path)?;
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
            Ok((map_counter(&file)?, identity))
        };
        map().map_err(|error: Error| error.at(&path))
    }

    /// Opens the counter's file, and says which dialect it speaks if it is a device and tells.
    fn open_page(&self, path: &Path) -> Result<(rustix::fd::OwnedFd, Option<Dialect>)> {
        // Non-blocking, so that a FIFO that took the file's place cannot hang the open.
        let read = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        if self.kind == SourceKind::Device {
            // Only a writable descriptor tells the dialect of any driver. Without one, ours says it
            // in sysfs, and with others what all dialects share has to do.
            let write = read | OFlags::RDWR;
            match open(path, write, Mode::empty()) {
                Ok(file) => {
                    let dialect = detect(&file)?;
                    return Ok((file, Some(dialect)));
                }
                Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => {}
                Err(errno) => return Err(open_failed(errno)),
            }
        }
        let file = open(path, read, Mode::empty()).map_err(open_failed)?;
        let dialect = match self.kind {
            SourceKind::Device => Attributes::of(&fstat(&file).map_err(stat_failed)?).dialect(),
            SourceKind::Broker | SourceKind::PageFile => None,
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
            let regular = rustix::fs::FileType::from_raw_mode(now.st_mode).is_file();
            if regular && now.st_size < i64::try_from(abi::COUNTER_LEN).unwrap_or(i64::MAX) {
                return Err(too_short());
            }
            Ok(())
        };
        verify().map_err(|error: Error| error.at(&path))
    }

    fn kind_at(path: &Path) -> Result<SourceKind> {
        let metadata = fs::metadata(path).map_err(|error| absent_or("stat", &error))?;
        let file_type = metadata.file_type();
        if file_type.is_char_device() {
            let found = stat(path).map_err(stat_failed)?;
            if !device::is_misc_device(&found) || !is_named_sysgenid(&found) {
                return Err(Error::new(Kind::Foreign("another device, not sysgenid's")));
            }
            return Ok(SourceKind::Device);
        }
        if file_type.is_dir() {
            // Its page stays when the broker ends, so this is where a broker runs or ran.
            return match fs::symlink_metadata(path.join(wire::PAGE_FILE)) {
                Ok(_) => Ok(SourceKind::Broker),
                Err(error) => Err(absent_or("stat", &error)),
            };
        }
        if file_type.is_file() {
            return Ok(SourceKind::PageFile);
        }
        if file_type.is_socket() {
            return Err(Error::new(Kind::Foreign(
                "a socket; name the broker's folder instead",
            )));
        }
        Err(Error::new(Kind::Foreign(
            "neither a generation device, nor a broker's folder, nor a page file",
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

pub(crate) fn detect(file: &rustix::fd::OwnedFd) -> Result<Dialect> {
    device::detect_dialect(file).map_err(|errno| match errno {
        Errno::NODEV => Error::new(Kind::Foreign("answers unlike a generation device")),
        errno => Error::call("detecting the dialect", errno),
    })
}

pub(crate) fn map_counter(file: &rustix::fd::OwnedFd) -> Result<CounterPage> {
    CounterPage::map(file).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => too_short(),
        io::ErrorKind::InvalidInput if error.raw_os_error().is_none() => {
            Error::new(Kind::Foreign("neither a page file nor a device"))
        }
        _ => Error::io("mmap", &error),
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

fn too_short() -> Error {
    Error::new(Kind::Broken(
        "too short to hold a generation counter of 4 bytes; a broker that is starting is done in a \
         moment, any other file is not a page",
    ))
}

/// What the kernel calls the device; a machine without sysfs cannot say and is believed.
fn is_named_sysgenid(stat: &Stat) -> bool {
    fs::read_link(Attributes::of(stat).folder()).map_or(true, |target| {
        target.file_name() == Some("sysgenid".as_ref())
    })
}
