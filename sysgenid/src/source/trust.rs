// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whom a process believes if it was not told whom to believe.
//!
//! A broker and the owner of a page can tell any number, and end a process that reads the page with
//! `SIGBUS`. The caller has chosen a source that it names. What discovery finds must belong to root or
//! to the caller, or root must have put it there.
//!
//! Owners are asked of what is open, so that nothing can be exchanged after the look.

use std::path::Path;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, Stat, fstat, open, openat};
use rustix::process::geteuid;
use sysgenid_sys::Errno;
use sysgenid_sys::internal::socket::peer;

use super::{open_failed, stat_failed};
use crate::base::error::{Error, Kind, Result};

/// How a source came to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Found {
    /// The caller named it.
    Named,
    /// Discovery found it where only root gives names: in `/dev` or `/run`.
    ByRoot,
    /// Discovery found it in the directory that `XDG_RUNTIME_DIR` names.
    ByUser,
}

const NOT_TRUSTED: &str = "belongs to a user other than root and the caller, who could mislead this process or end it; \
     if that user is to be believed, name the directory in SYSGENID_SOURCE";

/// Opens a broker's directory, and checks whose it is if discovery found it.
pub(super) fn open_directory(path: &Path, found: Found) -> Result<(OwnedFd, Stat)> {
    let mut flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if found == Found::ByUser {
        flags |= OFlags::NOFOLLOW;
    }
    let directory = open(path, flags, Mode::empty()).map_err(|errno| match (errno, found) {
        // It was a directory a moment ago, where a link leads to.
        (Errno::NOTDIR, Found::ByUser) => Error::new(Kind::Foreign(
            "a symbolic link in the place of a broker's directory; name what it leads to in \
             SYSGENID_SOURCE",
        )),
        (errno, _) => open_failed(errno),
    })?;
    let status = fstat(&directory).map_err(stat_failed)?;
    match found {
        Found::Named => Ok((directory, status)),
        _ if is_writable_by_others(&status) => Err(Error::new(Kind::Foreign(
            "a directory in which users other than its owner can write, so anyone may have put a \
             page there; take that right from them, or name the directory in SYSGENID_SOURCE",
        ))),
        _ if is_own(status.st_uid) => Ok((directory, status)),
        Found::ByRoot if is_put_by_root(&directory) => Ok((directory, status)),
        _ => Err(Error::new(Kind::Foreign(NOT_TRUSTED))),
    }
}

/// Checks that the process which listens at the other end of a socket may be believed, if discovery
/// found its directory.
pub(super) fn check_broker(socket: impl AsFd, path: &Path, found: Found) -> Result<()> {
    if found == Found::Named {
        return Ok(());
    }
    let (_, directory) = open_directory(path, found)?;
    let broker = peer(socket).map_err(|errno| Error::call("getsockopt", errno))?;
    // The owner of the directory is one who may be believed, or it would not have been opened.
    if is_own(broker.uid) || broker.uid == directory.st_uid {
        return Ok(());
    }
    Err(Error::new(Kind::Foreign(
        "the broker that answers there runs as a user other than root, the caller and the owner of \
         the directory",
    )))
}

/// Whether a user is root or the process's own.
pub(super) fn is_own(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

/// Whether a directory that is open lies in one in which only root can give names.
pub(super) fn is_put_by_root(directory: &OwnedFd) -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let above = openat(directory, "..", flags, Mode::empty());
    above
        .and_then(fstat)
        .is_ok_and(|above| is_roots_alone(&above))
}

/// Whether only root can give names in this directory.
pub(super) fn is_roots(directory: &Path) -> bool {
    // A relative path of one component has an empty parent.
    let directory = match directory.as_os_str() {
        empty if empty.is_empty() => Path::new("."),
        _ => directory,
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = open(directory, flags, Mode::empty());
    opened
        .and_then(fstat)
        .is_ok_and(|found| is_roots_alone(&found))
}

fn is_roots_alone(directory: &Stat) -> bool {
    directory.st_uid == 0 && !is_writable_by_others(directory)
}

fn is_writable_by_others(file: &Stat) -> bool {
    Mode::from_raw_mode(file.st_mode).intersects(Mode::WGRP | Mode::WOTH)
}

/// Opens the page in a broker's directory that is open. A link there is no page: the broker makes
/// none, and another user could have it lead anywhere.
pub(super) fn open_page_in(directory: &OwnedFd, name: &str) -> Result<OwnedFd> {
    // Non-blocking, so that a FIFO that took the file's place cannot hang the open.
    let flags =
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NOFOLLOW;
    openat(directory, name, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::LOOP => Error::new(Kind::Foreign("a symbolic link in the place of a page")),
        errno => open_failed(errno),
    })
}
