// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The broker's folder: who owns it, and the counter page.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FallocateFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, geteuid, getrlimit};
use sysgenid_sys::page::CounterPageMut;
use sysgenid_sys::wire::PAGE_FILE;

use crate::Error;

/// Mappings are whole pages, and so is the file.
const PAGE_LEN: u64 = 4096;
/// Holds the lock. Not the page itself: whoever may read a file may lock it, and everyone may read
/// the page.
const LOCK_FILE: &str = "lock";
/// The page while it is prepared. A broker that died meanwhile leaves it.
const NEW_PAGE_FILE: &str = "page.new";

/// A folder that this process alone serves, until it is dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    fd: OwnedFd,
    lock: OwnedFd,
}

impl Folder {
    /// Creates the folder if only it is missing, and locks it.
    pub(crate) fn lock(path: &Path) -> Result<Self, Error> {
        match fs::mkdir(path, Mode::from_raw_mode(0o755)) {
            // The umask must not hide the page from those it is for.
            Ok(()) => fs::chmod(path, Mode::from_raw_mode(0o755))
                .map_err(|error| Error::path(path, "open the folder to readers", error))?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(Error::path(path, "create the folder", error)),
        }
        let fd = fs::open(
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|error| match error {
            Errno::NOTDIR => Error::unfit(path, "not a folder; choose another path"),
            error => Error::path(path, "open the folder", error),
        })?;

        let lock_path = path.join(LOCK_FILE);
        let lock = fs::openat(
            &fd,
            LOCK_FILE,
            OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o600),
        )
        .map_err(|error| Error::path(&lock_path, "open the lock file", error))?;
        fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(
            |error| match error {
                Errno::WOULDBLOCK => Error::in_use(path),
                error => Error::path(&lock_path, "lock the file", error),
            },
        )?;
        Ok(Self {
            path: path.into(),
            fd,
            lock,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The counter page: mapped for writing, and open for reading, to be sent to clients.
    pub(crate) fn page(&self) -> Result<(CounterPageMut, OwnedFd), Error> {
        let path = self.path.join(PAGE_FILE);
        let open = |flags| {
            let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            fs::openat(&self.fd, PAGE_FILE, flags, Mode::empty())
        };
        let file = match open(OFlags::RDWR) {
            Err(Errno::NOENT) => {
                self.create_page()?;
                open(OFlags::RDWR)
            }
            opened => opened,
        }
        .map_err(|error| match error {
            Errno::LOOP | Errno::ISDIR | Errno::NXIO => not_a_file(&path),
            error => Error::path(&path, "open the page", error),
        })?;

        let stat =
            fs::fstat(&file).map_err(|error| Error::path(&path, "inspect the page", error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(not_a_file(&path));
        }
        // Another owner could make the file shorter later, and the next store would be a SIGBUS.
        if stat.st_uid != geteuid().as_raw() {
            return Err(Error::unfit(
                &path,
                "the page belongs to another user; start the broker as that user, \
                 or choose another folder",
            ));
        }
        // Also for a page that is long enough: it may have holes, which a full disk cannot fill.
        reserve(&file, &path)?;
        fs::fchmod(&file, Mode::from_raw_mode(0o644))
            .map_err(|error| Error::path(&path, "open the page to readers", error))?;

        let map = CounterPageMut::map(&file)
            .map_err(|error| Error::path(&path, "map the page", error))?;
        let read_only = open(OFlags::RDONLY)
            .map_err(|error| Error::path(&path, "open the page for reading", error))?;
        Ok((map, read_only))
    }

    /// Puts a whole page in place at once, so that nobody maps an empty one.
    fn create_page(&self) -> Result<(), Error> {
        let path = self.path.join(NEW_PAGE_FILE);
        let failed = |error| Error::path(&path, "create the page", error);
        self.remove(NEW_PAGE_FILE)?;
        let file = fs::openat(
            &self.fd,
            NEW_PAGE_FILE,
            OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o600),
        )
        .map_err(failed)?;
        let linked = reserve(&file, &path).and_then(|()| {
            fs::fchmod(&file, Mode::from_raw_mode(0o644)).map_err(failed)?;
            fs::linkat(
                &self.fd,
                NEW_PAGE_FILE,
                &self.fd,
                PAGE_FILE,
                AtFlags::empty(),
            )
            .map_err(failed)
        });
        let removed = self.remove(NEW_PAGE_FILE);
        linked.and(removed)
    }

    /// Removes a name that may be left of an earlier broker.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Error> {
        match fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(Error::path(
                &self.path.join(name),
                "remove the old file",
                error,
            )),
        }
    }

    /// Sets who may connect to a socket of this folder.
    pub(crate) fn set_mode(&self, name: &str, mode: u32) -> Result<(), Error> {
        fs::chmodat(&self.fd, name, Mode::from_raw_mode(mode), AtFlags::empty())
            .map_err(|error| Error::path(&self.path.join(name), "set the permissions", error))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Closing would leave it to a child that another thread has forked, until that one execs.
        let _ = fs::flock(&self.lock, FlockOperation::Unlock);
    }
}

/// Reserves the page's blocks, so that a full disk is an error here and not a `SIGBUS` later.
/// Never makes the file shorter, never changes what it holds.
fn reserve(file: impl AsFd, path: &Path) -> Result<(), Error> {
    let failed = |error| Error::path(path, "reserve 4096 bytes for the page", error);
    // The kernel would end this process with SIGXFSZ, which says nothing.
    if getrlimit(Resource::Fsize)
        .current
        .is_some_and(|limit| limit < PAGE_LEN)
    {
        return Err(failed(Errno::FBIG));
    }
    match fs::fallocate(&file, FallocateFlags::empty(), 0, PAGE_LEN) {
        Err(Errno::OPNOTSUPP) => {}
        result => return result.map_err(failed),
    }
    // A file system without fallocate: writing the bytes that are there has the same effect.
    let mut bytes = [0; 4096];
    rustix::io::pread(&file, &mut bytes, 0).map_err(failed)?;
    match rustix::io::pwrite(&file, &bytes, 0).map_err(failed)? {
        4096 => Ok(()),
        _ => Err(failed(Errno::NOSPC)),
    }
}

fn not_a_file(path: &Path) -> Error {
    Error::unfit(
        path,
        "not a regular file; move it away, or choose another folder",
    )
}
