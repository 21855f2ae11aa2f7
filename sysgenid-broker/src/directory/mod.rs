// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The broker's directory: its owner, its lock, and the files in it.
//!
//! Nothing here follows a symbolic link at the end of a path or changes another user's file, so that
//! a user who puts a link in the way of root's broker gains nothing by it. The directory is opened
//! once, and every name in it is looked up from there. A file's mode is changed through its file
//! descriptor, after the file has proved to be this user's.
//!
//! Nothing here protects a broker from root, from processes of its own user, or from a user that can
//! write a parent of the directory: that user can take it out of the clients' sight.

mod made;
mod page;
mod usual;
mod watch;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{self, AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::net::{self, SocketAddrUnix};
use rustix::process::geteuid;
use sysgenid_sys::wire::{CONTROL_SOCKET, PAGE_FILE, WATCH_SOCKET};

use self::made::Made;
use self::page::NEW_PAGE_FILE;
pub(crate) use self::page::Page;
pub use self::usual::usual_directory;
pub use self::watch::Incident;
pub(crate) use self::watch::Watch;
use crate::Error;

/// Holds the lock. Not the page itself: a user that may read a file may lock it, and every user may
/// read the page.
const LOCK_FILE: &str = "lock";
/// What a broker has seen of its followers, for the next one.
const FOLLOWED_FILE: &str = "followed";
/// What a new directory can have in it.
const EXPECTED: [&str; 8] = [
    FOLLOWED_FILE,
    ".",
    "..",
    LOCK_FILE,
    NEW_PAGE_FILE,
    PAGE_FILE,
    WATCH_SOCKET,
    CONTROL_SOCKET,
];
/// Group and others.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// How often a start begins again because another start has removed the lock file.
const ATTEMPTS: usize = 100;

/// A directory that this process alone serves, until it is dropped.
///
/// If it is dropped before [`keep`](Self::keep), everything that it has created is removed.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    fd: Arc<OwnedFd>,
    identity: Identity,
    page: Option<Identity>,
    // Dropped in this order: what is removed is removed under the lock.
    made: Made,
    lock: Lock,
}

impl Directory {
    /// Creates the directory if only it is missing, and locks it.
    pub(crate) fn lock(path: &Path) -> Result<Self, Error> {
        // A slash at the end would have the kernel follow a link.
        let path: PathBuf = path.components().collect();
        for name in [WATCH_SOCKET, CONTROL_SOCKET] {
            address(&path.join(name))?;
        }
        for _ in 0..ATTEMPTS {
            let (fd, stat, mut made) = open(&path)?;
            let Some(lock) = Lock::take(&path, &fd, &mut made)? else {
                continue;
            };
            for name in [WATCH_SOCKET, CONTROL_SOCKET] {
                check_socket(&fd, name, &path.join(name))?;
            }
            return Ok(Self {
                path,
                fd,
                identity: Identity::of(&stat),
                page: None,
                made,
                lock,
            });
        }
        Err(Error::unfit(
            &path,
            "other brokers start here and fail, again and again; stop them, or choose another \
             directory",
        ))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The counter page, created if it is missing.
    pub(crate) fn page(&mut self) -> Result<Page, Error> {
        let page = Page::open(&self.path, &self.fd, &mut self.made)?;
        self.page = Some(page.identity());
        Ok(page)
    }

    /// The file in which a broker leaves for the next one what it has seen of its followers, created
    /// if it is missing.
    pub(crate) fn followed(&self) -> Result<OwnedFd, Error> {
        let path = self.path.join(FOLLOWED_FILE);
        if let Some((file, _)) = open_own(&self.fd, FOLLOWED_FILE, &path)? {
            return Ok(file);
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        fs::openat(&self.fd, FOLLOWED_FILE, flags, mode)
            .map_err(|error| Error::path(&path, "create the file", error))
    }

    /// Binds a socket to a name in the directory, with this mode. A socket that an earlier broker
    /// has left there is removed.
    pub(crate) fn bind_socket(
        &mut self,
        socket: impl AsFd,
        name: &'static str,
        mode: u32,
    ) -> Result<(), Error> {
        let path = self.path.join(name);
        check_socket(&self.fd, name, &path)?;
        remove(&self.fd, name, &path)?;
        let failed = |error| Error::path(&path, "bind the socket", error);
        // The file gets the socket's mode, less the umask, so it is never wider than wanted.
        fs::fchmod(&socket, Mode::from_raw_mode(mode)).map_err(failed)?;
        net::bind(&socket, &address(&path)?).map_err(failed)?;

        // bind(2) takes a path and no directory, so check that this is where the socket is.
        let stat = match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if is(&stat, FileType::Socket) && is_own(&stat) => stat,
            Ok(_) | Err(Errno::NOENT) => return Err(replaced(&path)),
            Err(error) => return Err(failed(error)),
        };
        let identity = Identity::of(&stat);
        self.made.add(name, identity);
        if stat.st_mode & 0o7777 == mode {
            return Ok(());
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let bound = fs::openat(&self.fd, name, flags, Mode::empty()).map_err(failed)?;
        if Identity::of(&fs::fstat(&bound).map_err(failed)?) != identity {
            return Err(replaced(&path));
        }
        set_mode(&bound, mode, &path)
    }

    /// Ends the start with success: what it has created stays, except for the sockets.
    pub(crate) fn keep(&mut self) {
        self.made.keep(&[WATCH_SOCKET, CONTROL_SOCKET]);
    }

    /// Removes the sockets, so that clients find no broker. A socket's name is left if it names
    /// another file by now.
    pub(crate) fn remove_sockets(&mut self) {
        self.made.remove(&[WATCH_SOCKET, CONTROL_SOCKET]);
    }

    /// Starts to watch the directory and its files. To be called when all of them exist.
    pub(crate) fn watch(&self) -> Result<Watch, Error> {
        Watch::new(self)
    }
}

/// The lock of a directory, which is released on drop.
#[derive(Debug)]
struct Lock {
    file: OwnedFd,
    identity: Identity,
}

impl Lock {
    /// Takes the lock. `None` if another start has removed the lock file meanwhile: try again.
    fn take(directory: &Path, fd: impl AsFd, made: &mut Made) -> Result<Option<Self>, Error> {
        let path = directory.join(LOCK_FILE);
        let failed = |error| Error::path(&path, "open the lock file", error);
        let (file, is_new) = match open_own(&fd, LOCK_FILE, &path)? {
            Some((file, _)) => (file, false),
            None => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
                match fs::openat(&fd, LOCK_FILE, flags, Mode::from_raw_mode(0o600)) {
                    Ok(file) => (file, true),
                    // Another start was quicker, or has removed the directory that it had made.
                    Err(Errno::EXIST | Errno::NOENT) => return Ok(None),
                    Err(error) => return Err(failed(error)),
                }
            }
        };
        let identity = fs::fstat(&file).map(|stat| Identity::of(&stat));
        let identity = identity.map_err(failed)?;
        match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            // If the file is new, another start has locked it first, and it is that one's now.
            Err(Errno::WOULDBLOCK) => return Err(Error::in_use(directory)),
            Err(error) => {
                if is_new {
                    made.add(LOCK_FILE, identity);
                }
                return Err(Error::path(&path, "lock the file", error));
            }
        }
        let lock = Self { file, identity };
        // A start that fails removes its lock file while it holds the lock. If this start had
        // opened that file, it has locked a file without a name, which keeps no other broker out.
        if !identity.is_at(&fd, LOCK_FILE) {
            return Ok(None);
        }
        if is_new {
            made.add(LOCK_FILE, identity);
        }
        fs::fchmod(&lock.file, Mode::from_raw_mode(0o600)).map_err(failed)?;
        Ok(Some(lock))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing would leave it to a child that another thread has forked, until that one execs.
        let _ = fs::flock(&self.file, FlockOperation::Unlock);
    }
}

/// Identifies a file, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    #[allow(clippy::useless_conversion, reason = "other machines need it")]
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev.into(),
            inode: stat.st_ino.into(),
        }
    }

    /// Returns whether the name is this file's.
    fn is_at(self, directory: impl AsFd, name: impl rustix::path::Arg) -> bool {
        fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| Self::of(&stat) == self)
    }
}

/// Opens the directory, which is created if only it is missing, once it has proved to be this
/// user's alone.
fn open(path: &Path) -> Result<(Arc<OwnedFd>, Stat, Made), Error> {
    let failed = |error| Error::path(path, "open the directory", error);
    let is_new = match fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(Error::path(path, "create the directory", error)),
    };
    // Not O_DIRECTORY: that would make one error of a link and a file.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = fs::open(path, flags, Mode::empty())
        .and_then(|fd| fs::fstat(&fd).map(|stat| (Arc::new(fd), stat)));
    let (fd, stat) = opened.map_err(|error| {
        if is_new {
            // This removes nothing but an empty directory.
            let _ = fs::rmdir(path);
        }
        failed(error)
    })?;
    let mut made = Made::new(path, Arc::clone(&fd));
    check_directory(&stat, path)?;
    if is_new {
        made.add_directory(Identity::of(&stat));
        // The umask must not hide the page from those it is for.
        open_to_readers(&fd, path)?;
    }
    Ok((fd, stat, made))
}

/// Sets the mode of a directory that is new.
fn open_to_readers(fd: impl AsFd, path: &Path) -> Result<(), Error> {
    let failed = |error| Error::path(path, "open the directory to readers", error);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = fs::openat(fd, ".", flags, Mode::empty()).map_err(failed)?;
    // A user that can write the parent may have put another directory of this user there. The
    // files in such a directory must not be opened to all.
    for entry in Dir::read_from(&directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        // Another start may have begun to use it.
        if !EXPECTED.iter().any(|expected| expected.as_bytes() == name) {
            return Err(replaced(path));
        }
    }
    fs::fchmod(&directory, Mode::from_raw_mode(0o755)).map_err(failed)
}

fn check_directory(stat: &Stat, path: &Path) -> Result<(), Error> {
    let mode = stat.st_mode & 0o7777;
    if is(stat, FileType::Symlink) {
        return Err(Error::unfit(
            path,
            "a symbolic link; name the directory itself",
        ));
    }
    if !is(stat, FileType::Directory) {
        return Err(Error::unfit(path, "not a directory; choose another path"));
    }
    if mode & WRITABLE_BY_OTHERS != 0 && mode & 0o1000 != 0 {
        return Err(Error::unfit(
            path,
            format!("a directory that users share (mode {mode:04o}); name a new one inside it"),
        ));
    }
    if !is_own(stat) {
        return Err(Error::unfit(
            path,
            format!("the directory {}", belongs_to(stat)),
        ));
    }
    if mode & WRITABLE_BY_OTHERS != 0 {
        return Err(Error::unfit(
            path,
            format!(
                "other users can write the directory (mode {mode:04o}); take that from them \
                 (chmod go-w), or choose another directory"
            ),
        ));
    }
    Ok(())
}

/// Opens a file of the directory for reading and writing, if it is there. Another user's file is
/// refused, and so are links of both kinds, because a change would reach a file elsewhere.
fn open_own(
    directory: impl AsFd,
    name: &str,
    path: &Path,
) -> Result<Option<(OwnedFd, Stat)>, Error> {
    let failed = |error| Error::path(path, "open the file", error);
    // Before it is opened: opening a device or a FIFO does something to it.
    match fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => check_file(&stat, path)?,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(failed(error)),
    }
    let flags =
        OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match fs::openat(&directory, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let stat = fs::fstat(&file).map_err(failed)?;
    check_file(&stat, path)?;
    Ok(Some((file, stat)))
}

fn check_file(stat: &Stat, path: &Path) -> Result<(), Error> {
    if is(stat, FileType::Symlink) {
        return Err(Error::unfit(
            path,
            "a symbolic link; remove it, or choose another directory",
        ));
    }
    if !is(stat, FileType::RegularFile) {
        return Err(Error::unfit(
            path,
            "not a regular file; move it away, or choose another directory",
        ));
    }
    if !is_own(stat) {
        return Err(Error::unfit(path, format!("the file {}", belongs_to(stat))));
    }
    if stat.st_nlink > 1 {
        return Err(Error::unfit(
            path,
            format!(
                "the file has {} names (hard links); remove the others, or choose another directory",
                stat.st_nlink
            ),
        ));
    }
    Ok(())
}

/// Checks that a socket's name is free, or a socket that an earlier broker has left.
fn check_socket(directory: impl AsFd, name: &str, path: &Path) -> Result<(), Error> {
    match fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if is(&stat, FileType::Socket) => Ok(()),
        Ok(_) => Err(Error::unfit(
            path,
            "not a socket; move it away, or choose another directory",
        )),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(Error::path(path, "inspect the socket", error)),
    }
}

/// Removes a name that may be left of an earlier broker.
fn remove(directory: impl AsFd, name: &str, path: &Path) -> Result<(), Error> {
    match fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(Error::path(path, "remove the old file", error)),
    }
}

/// Sets the mode of a file that is open with `O_PATH`. Its name could be another file's by now.
fn set_mode(fd: impl AsFd, mode: u32, path: &Path) -> Result<(), Error> {
    let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    match fs::chmod(link, Mode::from_raw_mode(mode)) {
        Ok(()) => Ok(()),
        Err(Errno::NOENT | Errno::NOTDIR) => Err(Error::unfit(
            path,
            "the umask removes permissions that clients need, and /proc, through which the broker \
             adds them, is not mounted; mount it, or start the broker with umask 0111",
        )),
        Err(error) => Err(Error::path(path, "set the permissions", error)),
    }
}

fn address(path: &Path) -> Result<SocketAddrUnix, Error> {
    SocketAddrUnix::new(path).map_err(|error| match error {
        Errno::NAMETOOLONG => Error::unfit(
            path,
            "too long for a socket address (107 bytes); choose a shorter path",
        ),
        error => Error::path(path, "use the path", io::Error::from(error)),
    })
}

fn is(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

fn is_own(stat: &Stat) -> bool {
    stat.st_uid == geteuid().as_raw()
}

fn belongs_to(stat: &Stat) -> String {
    format!(
        "belongs to user {}, and this broker runs as user {}; start it as that user, or choose \
         another directory",
        stat.st_uid,
        geteuid().as_raw(),
    )
}

fn replaced(path: &Path) -> Error {
    Error::unfit(
        path,
        "was replaced while the broker started; choose a directory whose parent other users cannot \
         write",
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails panics")]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Each start fails, and so removes the lock file that others have opened.
    #[test]
    fn starts_that_fail_never_let_two_in() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("new");
        let inside = AtomicU32::new(0);
        let started = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let Ok(mut directory) = Directory::lock(&path) else {
                            continue;
                        };
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        let page = directory.page();
                        started.fetch_add(1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        page.unwrap();
                    }
                });
            }
        });
        assert!(started.into_inner() > 0);
    }
}
