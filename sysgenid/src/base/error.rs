// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sysgenid_sys::Errno;
use sysgenid_sys::wire::{Reason, Refusal, VERSION};

use crate::base::{Generation, Printable};

/// The result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call of this crate failed.
///
/// The type is opaque: ask it with the `is_…` predicates. Its message says what failed, on which
/// path, and what to do about it. The cause of a failed rebuild is its
/// [`source`](std::error::Error::source) and not part of the message; [`Debug`](std::fmt::Debug), which
/// is what a `main` that returns the error prints, shows both.
///
/// ```
/// let error = sysgenid::Probe::open_at("/nonexistent/sysgenid").unwrap_err();
/// assert!(error.is_absent());
/// assert!(error.to_string().contains("/nonexistent/sysgenid"));
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: Kind,
    path: Option<PathBuf>,
    errno: Option<Errno>,
}

/// The message of each is a whole clause; the path goes before it and the errno after it.
#[derive(Clone, Debug, thiserror::Error)]
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
    #[error(
        "the system was restored or the process forked, and what was made before that must not be used; \
         make it anew, or try again when the change has been handled"
    )]
    Outlived,
    #[error(
        "the phase was ended, or begun anew, by another orchestrator or with another broker: programs no \
         longer stay at rest; discard a snapshot that was taken, and begin again"
    )]
    PhaseEnded,
    #[error("{0}")]
    TimedOut(&'static str),
    #[error(
        "the generation changed and this watcher has not acknowledged it: rebuild, acknowledge, \
         then wait for the others again"
    )]
    Outdated,
    #[error("{0}")]
    Lost(&'static str),
    #[error("{}", refusal_text(.0))]
    Refused(Refusal),
    #[error(
        "the broker speaks {} of its protocol and this program version {VERSION}; use a broker and a \
         program of the same release",
        versions(*.oldest, *.newest)
    )]
    OtherVersion { oldest: u16, newest: u16 },
    #[error(
        "{found} tracked watchers have acknowledged, and {required} are required; the others are not \
         running, or have not connected yet"
    )]
    Missing { found: u32, required: u32 },
    #[error(
        "this is the watcher or observer of the process that this one was forked from, and would \
         acknowledge for it; open one of this process's own with `reopen`, or drop it"
    )]
    Forked,
    #[error(
        "the generation changed during each of {0} attempts; try again once the system has settled"
    )]
    Unsettled(u32),
    // The cause is the source, which whoever prints a chain of errors prints next.
    #[error("rebuilding for the new generation failed")]
    Rebuild(Arc<dyn StdError + Send + Sync>),
    #[error(
        "the guard is in use by its own caller: a value cannot be used while it is being built or \
         changed"
    )]
    Reentrant,
    #[error(
        "the kernel gave no random bytes; if a sandbox forbids the system call getrandom, allow it"
    )]
    Entropy,
    #[error("{0}")]
    Runtime(&'static str),
    #[error("the wait was ended by a signal or by another thread")]
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

    /// The broker has closed the connection and said why.
    pub(crate) fn refused(refusal: Refusal) -> Self {
        Self::new(match refusal.reason {
            Reason::Version => Kind::OtherVersion {
                oldest: refusal.oldest,
                newest: refusal.newest,
            },
            _ => Kind::Refused(refusal),
        })
    }

    /// Whether a broker has answered that it has no room for one more connection.
    pub(crate) fn is_out_of_room(&self) -> bool {
        matches!(&self.0.kind, Kind::Refused(refusal) if is_for_want_of_room(refusal))
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

    /// What is there is something else: a FIFO, another device, or a file that does not look like a
    /// [page](crate::SourceKind::PageFile). A directory without a page [is absent](Self::is_absent).
    #[must_use]
    pub fn is_wrong_kind(&self) -> bool {
        matches!(self.0.kind, Kind::Foreign(_))
    }

    /// What is there does not work: a file shorter than a page, a page that was replaced, a device or broker
    /// that answers nonsense.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        match &self.0.kind {
            Kind::Broken(_) => true,
            Kind::Refused(refusal) => is_unexpected(refusal),
            _ => false,
        }
    }

    /// The source cannot do this, though it works; or a broker speaks another version of its
    /// protocol.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(
            self.0.kind,
            Kind::Unsupported(_) | Kind::OtherVersion { .. }
        )
    }

    /// What the call was about is of before a change: the acknowledged generation is not the current
    /// one, which [`Error::current`] tells; or a value is [`Stale`](crate::Stale); or the programs that were
    /// asked to come [to rest](crate::Orchestrator::quiesce) no longer are.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        matches!(
            self.0.kind,
            Kind::Stale { .. } | Kind::Outlived | Kind::PhaseEnded
        )
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

    /// The broker is gone or does not read, or has no room for this client at the moment:
    /// [`Watcher::reconnect`](crate::Watcher::reconnect).
    #[must_use]
    pub fn is_lost(&self) -> bool {
        match &self.0.kind {
            Kind::Lost(_) => true,
            Kind::Refused(refusal) => !is_unexpected(refusal),
            _ => false,
        }
    }

    /// Fewer tracked watchers have acknowledged than the orchestrator
    /// [requires](crate::OrchestratorOptions::require_watchers).
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self.0.kind, Kind::Missing { .. })
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

    /// The wait was ended from outside: a [`ChangesWaker`](crate::ChangesWaker) ended a wait for
    /// changes, or a signal came and the caller wanted to be
    /// [told](crate::adapter::interruptible). No other call ever reports it.
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

    /// The current generation at the time that an acknowledgement [was stale](Self::is_stale).
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
            write!(f, "{}: ", Printable::new(path))?;
        }
        self.0.kind.fmt(f)?;
        if let Some(errno) = self.0.errno {
            write!(f, " ({errno})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    /// The same message, and what caused it: it is what a `main` that returns this error shows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text += &format!(": {error}");
            cause = error.source();
        }
        f.debug_tuple("Error")
            .field(&format_args!("{text}"))
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
    /// Keeps the whole error inside ([`io::Error::get_ref`]); the kind is the nearest that
    /// [`io::ErrorKind`] has:
    ///
    /// | error | kind |
    /// |---|---|
    /// | [`is_absent`](Error::is_absent) | `NotFound` |
    /// | [`is_permission`](Error::is_permission) | `PermissionDenied` |
    /// | [`is_wrong_kind`](Error::is_wrong_kind), a stale acknowledgement or phase | `InvalidInput` |
    /// | a [`Stale`](crate::Stale) value | `ConnectionAborted` |
    /// | [`is_broken`](Error::is_broken) | `InvalidData` |
    /// | [`is_unsupported`](Error::is_unsupported) | `Unsupported` |
    /// | [`is_timeout`](Error::is_timeout), [`is_missing`](Error::is_missing) | `TimedOut` |
    /// | [`is_lost`](Error::is_lost) | `ConnectionReset` |
    /// | [`is_forked`](Error::is_forked), [`is_runtime`](Error::is_runtime) | `NotConnected` |
    /// | [`is_unsettled`](Error::is_unsettled) | `ResourceBusy` |
    /// | [`is_reentrant`](Error::is_reentrant) | `Deadlock` |
    /// | [`is_interrupted`](Error::is_interrupted) | `Interrupted` |
    /// | [`is_rebuild`](Error::is_rebuild) | that of the cause, if it is an [`io::Error`] or an [`Error`]; else `Other` |
    /// | a failed system call | that of its error number |
    /// | any other | `Other` |
    ///
    /// `WouldBlock` is never one of them, whatever the kernel's number is: an event loop would take it
    /// for a wait that has only begun. `Interrupted` is not either, but for `is_interrupted`: callers
    /// repeat such a call without end.
    fn from(error: Error) -> Self {
        let kind = error.io_kind();
        Self::new(kind, error)
    }
}

impl Error {
    fn io_kind(&self) -> io::ErrorKind {
        match &self.0.kind {
            Kind::Absent => io::ErrorKind::NotFound,
            Kind::Denied(_) => io::ErrorKind::PermissionDenied,
            Kind::Foreign(_) | Kind::Stale { .. } | Kind::PhaseEnded => io::ErrorKind::InvalidInput,
            Kind::Outlived => io::ErrorKind::ConnectionAborted,
            Kind::Broken(_) => io::ErrorKind::InvalidData,
            Kind::Unsupported(_) | Kind::OtherVersion { .. } => io::ErrorKind::Unsupported,
            Kind::TimedOut(_) | Kind::Missing { .. } => io::ErrorKind::TimedOut,
            Kind::Refused(refusal) if is_unexpected(refusal) => io::ErrorKind::InvalidData,
            Kind::Lost(_) | Kind::Refused(_) => io::ErrorKind::ConnectionReset,
            Kind::Forked | Kind::Runtime(_) => io::ErrorKind::NotConnected,
            Kind::Unsettled(_) => io::ErrorKind::ResourceBusy,
            Kind::Reentrant => io::ErrorKind::Deadlock,
            Kind::Interrupted => io::ErrorKind::Interrupted,
            Kind::Rebuild(source) => patient(kind_of_cause(source.as_ref())),
            Kind::Call(_) => self.0.errno.map_or(io::ErrorKind::Other, |errno| {
                patient(io::Error::from(errno).kind())
            }),
            Kind::Outdated | Kind::Entropy => io::ErrorKind::Other,
        }
    }
}

fn kind_of_cause(cause: &(dyn StdError + Send + Sync + 'static)) -> io::ErrorKind {
    if let Some(error) = cause.downcast_ref::<io::Error>() {
        return error.kind();
    }
    let own = cause.downcast_ref::<Error>();
    own.map_or(io::ErrorKind::Other, Error::io_kind)
}

/// No kind that has its reader try the same again at once, or wait for what does not come.
fn patient(kind: io::ErrorKind) -> io::ErrorKind {
    match kind {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => io::ErrorKind::Other,
        kind => kind,
    }
}

/// A refusal of a broker that works and has no more room for this client.
fn is_for_want_of_room(refusal: &Refusal) -> bool {
    matches!(
        refusal.reason,
        Reason::UserLimit | Reason::Full | Reason::Unread | Reason::Exhausted
    )
}

/// A refusal that a client of this version never gets from a broker that works.
fn is_unexpected(refusal: &Refusal) -> bool {
    matches!(refusal.reason, Reason::Malformed | Reason::Descriptors)
}

fn refusal_text(refusal: &Refusal) -> String {
    let limit = refusal.limit;
    match refusal.reason {
        Reason::UserLimit => format!(
            "the broker takes at most {limit} connections of one user at the moment, and this user \
             has that many; close some, or raise the broker's limit of open files (`ulimit -n`)"
        ),
        Reason::Full => format!(
            "the broker has all {limit} connections that fit into its limits; raise its limit of \
             open files (`ulimit -n`) and start it again"
        ),
        Reason::Unread => "watchers of this user have not read what the broker sent them when they \
                           were opened, and it sends no more before; look for a process of this user \
                           that hangs"
            .into(),
        Reason::Idle => format!(
            "the broker closed the connection after {limit} seconds in which nothing was asked"
        ),
        Reason::Exhausted => {
            "the broker has no memory or no file descriptor left for another client; raise its \
             limits, or look at what the machine has left"
                .into()
        }
        Reason::NotReading => {
            "the broker closed the connection because this program did not read its answers".into()
        }
        Reason::Version | Reason::Malformed | Reason::Descriptors => {
            "the broker refused a valid request; use a broker and a client of the same release".into()
        }
        Reason::Other(number) => format!(
            "the broker closed the connection for a reason that this release does not know (number \
             {number}); use a broker and a client of the same release"
        ),
    }
}

fn versions(oldest: u16, newest: u16) -> String {
    if oldest == newest {
        format!("version {newest}")
    } else {
        format!("versions {oldest} to {newest}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

    use super::*;

    fn kind_of(error: Error) -> io::ErrorKind {
        let message = error.to_string();
        let converted = io::Error::from(error);
        assert_eq!(converted.to_string(), message);
        let inner = converted.get_ref().unwrap();
        assert!(inner.downcast_ref::<Error>().is_some(), "it is kept whole");
        converted.kind()
    }

    #[test]
    fn a_chain_of_errors_names_each_cause_once() {
        let inner = io::Error::other("no entropy today");
        let error = Error::rebuild(inner).at("/dev/sysgenid");
        assert!(!error.to_string().contains("no entropy"), "{error}");
        assert_eq!(error.source().unwrap().to_string(), "no entropy today");
        let shown = format!("{error:?}");
        assert_eq!(shown.matches("no entropy today").count(), 1, "{shown}");

        let outer = Error::rebuild(error);
        let shown = format!("{outer:?}");
        assert_eq!(shown.matches("no entropy today").count(), 1, "{shown}");
        assert_eq!(shown.matches("rebuilding").count(), 2, "{shown}");
    }

    #[test]
    fn an_io_error_keeps_the_kind() {
        use io::ErrorKind as Io;

        let generation = Generation::new(1);
        let stale = Kind::Stale {
            acknowledged: generation,
            current: generation,
        };
        let missing = Kind::Missing {
            found: 0,
            required: 1,
        };
        for (kind, expected) in [
            (Kind::Absent, Io::NotFound),
            (Kind::Denied(""), Io::PermissionDenied),
            (Kind::Foreign(""), Io::InvalidInput),
            (Kind::Broken(""), Io::InvalidData),
            (Kind::Unsupported(""), Io::Unsupported),
            (stale, Io::InvalidInput),
            (Kind::PhaseEnded, Io::InvalidInput),
            (Kind::Outlived, Io::ConnectionAborted),
            (Kind::TimedOut(""), Io::TimedOut),
            (missing, Io::TimedOut),
            (Kind::Outdated, Io::Other),
            (Kind::Lost(""), Io::ConnectionReset),
            (Kind::Forked, Io::NotConnected),
            (Kind::Runtime(""), Io::NotConnected),
            (Kind::Unsettled(4), Io::ResourceBusy),
            (Kind::Reentrant, Io::Deadlock),
            (Kind::Interrupted, Io::Interrupted),
        ] {
            assert_eq!(kind_of(Error::new(kind)), expected);
        }
        // What the kernel said, whatever the error is about; an outdated caller is no signal.
        let outdated = Error::new(Kind::Outdated).errno(Errno::INTR);
        assert_eq!(kind_of(outdated), Io::Other);
        for (errno, expected) in [
            (Errno::NOMEM, Io::OutOfMemory),
            (Errno::NOSPC, Io::StorageFull),
            (Errno::ACCESS, Io::PermissionDenied),
            (Errno::AGAIN, Io::Other),
            (Errno::INTR, Io::Other),
        ] {
            assert_eq!(kind_of(Error::call("mmap", errno)), expected, "{errno}");
        }
    }

    #[test]
    fn a_failed_rebuild_has_the_kind_of_its_cause() {
        let missing = io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(kind_of(Error::rebuild(missing)), io::ErrorKind::NotFound);
        let absent = Error::rebuild(Error::new(Kind::Absent));
        assert_eq!(kind_of(absent), io::ErrorKind::NotFound);
        let other = Error::rebuild("anything else");
        assert_eq!(kind_of(other), io::ErrorKind::Other);
        let again = io::Error::from(io::ErrorKind::WouldBlock);
        assert_eq!(kind_of(Error::rebuild(again)), io::ErrorKind::Other);
    }
}
