// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sysgenid_sys::Errno;

use crate::Generation;

/// The result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call of this crate failed.
///
/// The type is opaque: ask it with the `is_…` predicates. Its message says what failed, on which
/// path, and what to do about it.
///
/// ```
/// let error = sysgenid::Probe::open_at("/nonexistent/sysgenid").unwrap_err();
/// assert!(error.is_absent());
/// assert!(error.to_string().contains("/nonexistent/sysgenid"));
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    path: Option<PathBuf>,
    errno: Option<Errno>,
}

/// The message of each is a whole clause; the path goes before it and the errno after it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Kind {
    #[error(
        "not found; load the kernel driver (`modprobe sysgenid`), or start the userspace driver \
         (`sysgenid serve`), or name a source in SYSGENID_SOURCE"
    )]
    Absent,
    #[error("{0}")]
    Denied(&'static str),
    #[error("{0}")]
    Foreign(&'static str),
    #[error("{0}")]
    Broken(&'static str),
    #[error("{0}")]
    Unsupported(&'static str),
    #[error(
        "generation {acknowledged} is not the current one, which is {current}: rebuild for that \
         one and acknowledge it"
    )]
    Stale {
        acknowledged: Generation,
        current: Generation,
    },
    #[error("{0}")]
    TimedOut(&'static str),
    #[error(
        "the generation changed and this watcher has not acknowledged it: rebuild, acknowledge, \
         then wait for the others again"
    )]
    Outdated,
    #[error("{0}")]
    Lost(&'static str),
    #[error(
        "this is the watcher or observer of the process that this one was forked from, and would \
         acknowledge for it; open one of this process's own with `reopen`, or drop it"
    )]
    Forked,
    #[error(
        "the generation changed during each of {0} attempts; try again once the system has settled"
    )]
    Unsettled(u32),
    #[error("rebuilding for the new generation failed: {0}")]
    Rebuild(Arc<dyn StdError + Send + Sync>),
    #[error(
        "the guard is in use by its own caller: a value cannot be used while it is being built or \
         changed"
    )]
    Reentrant,
    #[cfg_attr(
        not(feature = "rand_core"),
        expect(dead_code, reason = "who asks need not know the features")
    )]
    #[error(
        "the kernel gave no random bytes; if a sandbox forbids the system call getrandom, allow it"
    )]
    Entropy,
    #[error("{0}")]
    Runtime(&'static str),
    #[error("a signal ended the wait")]
    Interrupted,
    #[error("{0} failed")]
    Call(&'static str),
}

impl Error {
    pub(crate) fn new(kind: Kind) -> Self {
        Self(Box::new(Inner {
            kind,
            path: None,
            errno: None,
        }))
    }

    pub(crate) fn rebuild(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(Kind::Rebuild(source.into().into()))
    }

    /// What a rebuild failed with, for others who waited for it.
    pub(crate) fn rebuild_source(&self) -> Option<Arc<dyn StdError + Send + Sync>> {
        match &self.0.kind {
            Kind::Rebuild(source) => Some(Arc::clone(source)),
            _ => None,
        }
    }

    /// A failed system call. Permissions have a message of their own.
    pub(crate) fn call(call: &'static str, errno: Errno) -> Self {
        let kind = match errno {
            Errno::ACCESS | Errno::PERM => Kind::Denied(
                "permission denied; ask its owner for access, or run with the rights of the owner",
            ),
            _ => Kind::Call(call),
        };
        Self::new(kind).errno(errno)
    }

    /// A failed system call that the standard library or memmap2 made.
    pub(crate) fn io(call: &'static str, error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(errno) => Self::call(call, errno),
            None => Self::new(Kind::Call(call)),
        }
    }

    pub(crate) fn errno(mut self, errno: Errno) -> Self {
        self.0.errno = Some(errno);
        self
    }

    pub(crate) fn at(mut self, path: impl AsRef<Path>) -> Self {
        self.0.path.get_or_insert_with(|| path.as_ref().to_owned());
        self
    }

    /// Nothing is there: no device, no broker, no file.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self.0.kind, Kind::Absent)
    }

    /// The caller may not do this (`EACCES`, `EPERM`).
    #[must_use]
    pub fn is_permission(&self) -> bool {
        matches!(self.0.kind, Kind::Denied(_))
    }

    /// What is there is something else: a directory without a page, a FIFO, another device.
    #[must_use]
    pub fn is_wrong_kind(&self) -> bool {
        matches!(self.0.kind, Kind::Foreign(_))
    }

    /// What is there does not work: an empty file, a page that was replaced, a device or broker
    /// that answers nonsense.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        matches!(self.0.kind, Kind::Broken(_))
    }

    /// The source cannot do this, though it works.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self.0.kind, Kind::Unsupported(_))
    }

    /// The acknowledged generation is not the current one. [`Error::current`] tells which is.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        matches!(self.0.kind, Kind::Stale { .. })
    }

    /// The deadline passed (`ETIME`).
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.0.kind, Kind::TimedOut(_))
    }

    /// The caller's own watcher is outdated (`EINTR` of the device's wait; never a signal).
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        matches!(self.0.kind, Kind::Outdated)
    }

    /// The broker is gone or does not read: [`Watcher::reconnect`](crate::Watcher::reconnect).
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self.0.kind, Kind::Lost(_))
    }

    /// The watcher or observer is the parent's, in a forked child:
    /// [`Watcher::reopen`](crate::Watcher::reopen), [`Observer::reopen`](crate::Observer::reopen).
    #[must_use]
    pub fn is_forked(&self) -> bool {
        matches!(self.0.kind, Kind::Forked)
    }

    /// The generation kept changing, more often than the call retries.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        matches!(self.0.kind, Kind::Unsettled(_))
    }

    /// The caller's own rebuild failed; [`source`](StdError::source) is its error.
    #[must_use]
    pub fn is_rebuild(&self) -> bool {
        matches!(self.0.kind, Kind::Rebuild(_))
    }

    /// The kernel gave no random bytes for a new seed.
    #[must_use]
    pub fn is_entropy(&self) -> bool {
        matches!(self.0.kind, Kind::Entropy)
    }

    /// Nothing can wait here: there is no asynchronous runtime, or it is shutting down. Only crates
    /// that bring the SDK to a runtime report it.
    #[must_use]
    pub fn is_runtime(&self) -> bool {
        matches!(self.0.kind, Kind::Runtime(_))
    }

    /// A signal came, and who made the call wanted to be
    /// [told](crate::adapter::interruptible) and ended it. No other call ever reports it.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        matches!(self.0.kind, Kind::Interrupted)
    }

    /// A guard was used within its own build, or a [`ThreadGuarded`](crate::ThreadGuarded) within
    /// its own use.
    #[must_use]
    pub fn is_reentrant(&self) -> bool {
        matches!(self.0.kind, Kind::Reentrant)
    }

    /// The current generation at the time of an [`is_stale`](Self::is_stale) error.
    #[must_use]
    pub fn current(&self) -> Option<Generation> {
        match self.0.kind {
            Kind::Stale { current, .. } => Some(current),
            _ => None,
        }
    }

    /// The path of the source or file that the error is about.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The kernel's error number, if a system call failed.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        self.0.errno.map(Errno::raw_os_error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.0.path {
            write!(f, "{}: ", path.display())?;
        }
        self.0.kind.fmt(f)?;
        if let Some(errno) = self.0.errno {
            write!(f, " ({errno})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    /// The same message: it is what a `main` that returns this error shows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Error")
            .field(&format_args!("{self}"))
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0.kind {
            // The caller's own, and not what it is shared by: it may be downcast.
            Kind::Rebuild(source) => Some(source.as_ref()),
            _ => None,
        }
    }
}

impl From<Error> for io::Error {
    /// Keeps the whole error inside; the kind is the nearest that [`io::ErrorKind`] has.
    fn from(error: Error) -> Self {
        let kind = match error.0.kind {
            Kind::Absent => io::ErrorKind::NotFound,
            Kind::Denied(_) => io::ErrorKind::PermissionDenied,
            Kind::Foreign(_) => io::ErrorKind::InvalidInput,
            Kind::Broken(_) => io::ErrorKind::InvalidData,
            Kind::Unsupported(_) => io::ErrorKind::Unsupported,
            Kind::TimedOut(_) => io::ErrorKind::TimedOut,
            Kind::Lost(_) => io::ErrorKind::ConnectionReset,
            Kind::Interrupted => io::ErrorKind::Interrupted,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
