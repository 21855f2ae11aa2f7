// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The counter page: a file that every client maps.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FallocateFlags, Mode, OFlags};
use rustix::io::{Errno, pread, pwrite, retry_on_intr};
use rustix::process::{Resource, getrlimit};
use sysgenid_sys::page::CounterPageMut;
use sysgenid_sys::wire::PAGE_FILE;

use super::made::Made;
use super::{Identity, open_own, remove, replaced};
use crate::Error;

/// Mappings are whole pages, and so is the file.
const PAGE_LEN: u64 = 4096;
const COUNTER_LEN: u64 = 4;
/// The page while it is prepared. A broker that died meanwhile leaves it.
pub(super) const NEW_PAGE_FILE: &str = "page.new";

/// The page with its generation. The broker remembers the generation itself, so that the counter
/// does not go back when the file is changed.
///
/// The file's owner, which is the broker's own user, and root can make it shorter at any time. A
/// store beyond its end would end the broker with `SIGBUS`, so the length is checked before, and
/// put back with the generation. This does **not** protect from an owner that makes the page shorter
/// between the check and the store. Clients have no such check: a load from a mapped page that is too
/// short ends them with `SIGBUS`.
#[derive(Debug)]
pub(crate) struct Page {
    path: PathBuf,
    file: OwnedFd,
    /// To be sent to clients.
    reader: OwnedFd,
    map: CounterPageMut,
    identity: Identity,
    /// Nobody can have mapped it before.
    is_new: bool,
    generation: u32,
    /// Repaired by [`store`](Self::store), and not reported yet.
    repaired: Option<Damage>,
    /// The length at which a repair failed.
    failed_at: Option<u64>,
}

/// How the page was damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// To this length.
    Shortened(u64),
    /// With this generation.
    Overwritten(u32),
}

impl Page {
    /// Opens the page of a directory that is locked, or creates it.
    pub(super) fn open(directory: &Path, fd: &OwnedFd, made: &mut Made) -> Result<Self, Error> {
        let path = directory.join(PAGE_FILE);
        // Even if the page exists: a broker that was killed may have left it with both names.
        remove(fd, NEW_PAGE_FILE, &directory.join(NEW_PAGE_FILE))?;
        let mut is_new = false;
        let opened = match open_own(fd, PAGE_FILE, &path)? {
            None => {
                is_new = true;
                create(directory, fd, made)?;
                open_own(fd, PAGE_FILE, &path)?
            }
            opened => opened,
        };
        let (file, stat) = opened.ok_or_else(|| replaced(&path))?;
        let identity = Identity::of(&stat);

        // Even if the page is long enough: it may have holes, which a full disk cannot fill.
        reserve(&file, &path)?;
        fs::fchmod(&file, Mode::from_raw_mode(0o644))
            .map_err(|error| Error::path(&path, "open the page to readers", error))?;
        let failed = |error| Error::path(&path, "open the page for reading", error);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let reader = fs::openat(fd, PAGE_FILE, flags, Mode::empty()).map_err(failed)?;
        if Identity::of(&fs::fstat(&reader).map_err(failed)?) != identity {
            return Err(replaced(&path));
        }
        let map = CounterPageMut::map(&file)
            .map_err(|error| Error::path(&path, "map the page", error))?;
        Ok(Self {
            generation: read_counter(&file, &path)?,
            path,
            file,
            reader,
            map,
            identity,
            is_new,
            repaired: None,
            failed_at: None,
        })
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether this broker has made it.
    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }

    /// The page as a client gets it: open for reading.
    pub(crate) fn reader(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a new generation into the page, with release order.
    ///
    /// If that fails the page is too short, and there is no room to make it longer. The generation
    /// is remembered, and put there by the next store or repair that succeeds.
    pub(crate) fn store(&mut self, generation: u32) -> Result<(), Error> {
        let damage = self.damage();
        self.generation = generation;
        if let Some(damage) = damage? {
            self.restore()?;
            self.repaired = Some(damage);
        }
        self.map.store(generation);
        Ok(())
    }

    /// Checks length and generation, puts them back if another process has changed them, and
    /// returns the damage that was found.
    pub(crate) fn repair(&mut self) -> Result<Option<Damage>, Error> {
        let Some(damage) = self.damage()? else {
            return Ok(self.repaired.take());
        };
        // A further attempt may change the file, and so cause the event that leads to the next.
        if self.failed_at == Some(self.len()?) {
            return Ok(None);
        }
        self.restore()?;
        self.map.store(self.generation);
        self.repaired = None;
        Ok(Some(damage))
    }

    /// Whether a repair has failed, and none has succeeded since.
    pub(super) fn is_damaged(&self) -> bool {
        self.failed_at.is_some()
    }

    /// Returns the damage, without a load from the mapping.
    fn damage(&self) -> Result<Option<Damage>, Error> {
        let len = self.len()?;
        if len < PAGE_LEN {
            return Ok(Some(Damage::Shortened(len)));
        }
        let found = read_counter(&self.file, &self.path)?;
        Ok((found != self.generation).then_some(Damage::Overwritten(found)))
    }

    /// Makes the file long enough for a store.
    fn restore(&mut self) -> Result<(), Error> {
        let restored = self.try_restore();
        self.failed_at = match &restored {
            Ok(()) => None,
            Err(_) => self.len().ok(),
        };
        restored
    }

    fn try_restore(&self) -> Result<(), Error> {
        if self.len()? < COUNTER_LEN {
            let failed = |error| Error::path(&self.path, "put the generation back", error);
            check_size_limit().map_err(failed)?;
            // Together with the length: a client must not find zeros, which may be a generation
            // that it has handled.
            let bytes = self.generation.to_ne_bytes();
            retry_on_intr(|| pwrite(&self.file, &bytes, 0)).map_err(failed)?;
        }
        reserve(&self.file, &self.path)
    }

    fn len(&self) -> Result<u64, Error> {
        let stat = fs::fstat(&self.file)
            .map_err(|error| Error::path(&self.path, "inspect the page", error))?;
        Ok(stat.st_size.try_into().unwrap_or(0))
    }
}

/// Reads the counter from the file. What is beyond its end is zero.
fn read_counter(file: impl AsFd, path: &Path) -> Result<u32, Error> {
    let mut bytes = [0; 4];
    retry_on_intr(|| pread(&file, &mut bytes, 0))
        .map_err(|error| Error::path(path, "read the page", error))?;
    Ok(u32::from_ne_bytes(bytes))
}

/// Puts a whole page in place at once, so that nobody maps an empty one.
fn create(directory: &Path, fd: &OwnedFd, made: &mut Made) -> Result<(), Error> {
    let path = directory.join(NEW_PAGE_FILE);
    let failed = |error| Error::path(&path, "create the page", error);
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    let file = fs::openat(fd, NEW_PAGE_FILE, flags, Mode::from_raw_mode(0o600)).map_err(failed)?;
    let linked = reserve(&file, &path).and_then(|()| {
        fs::fchmod(&file, Mode::from_raw_mode(0o644)).map_err(failed)?;
        let stat = fs::fstat(&file).map_err(failed)?;
        fs::linkat(fd, NEW_PAGE_FILE, fd, PAGE_FILE, AtFlags::empty()).map_err(failed)?;
        // A failed start removes it. A program that has mapped it by then must be restarted.
        made.add(PAGE_FILE, Identity::of(&stat));
        Ok(())
    });
    let removed = remove(fd, NEW_PAGE_FILE, &path);
    linked.and(removed)
}

/// Reserves the page's blocks, so that a full disk is an error here and not a `SIGBUS` later.
/// Never makes the file shorter, never changes what it holds.
fn reserve(file: impl AsFd, path: &Path) -> Result<(), Error> {
    let failed = |error| Error::path(path, "reserve 4096 bytes for the page", error);
    check_size_limit().map_err(failed)?;
    match retry_on_intr(|| fs::fallocate(&file, FallocateFlags::empty(), 0, PAGE_LEN)) {
        Err(Errno::OPNOTSUPP) => {}
        result => return result.map_err(failed),
    }
    // A file system without fallocate: writing the bytes that are there has the same effect.
    let mut bytes = [0; 4096];
    retry_on_intr(|| pread(&file, &mut bytes, 0)).map_err(failed)?;
    match retry_on_intr(|| pwrite(&file, &bytes, 0)).map_err(failed)? {
        4096 => Ok(()),
        _ => Err(failed(Errno::NOSPC)),
    }
}

/// Beyond its limit the kernel would end this process with `SIGXFSZ`, which says nothing.
fn check_size_limit() -> Result<(), Errno> {
    match getrlimit(Resource::Fsize).current {
        Some(limit) if limit < PAGE_LEN => Err(Errno::FBIG),
        _ => Ok(()),
    }
}
