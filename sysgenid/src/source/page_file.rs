// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A page file, from the side of whoever writes it.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fd::OwnedFd;
use rustix::fs::{
    CWD, FileType, Mode, OFlags, RenameFlags, fchmod, fstat, lstat, open, renameat_with, unlink,
};
use rustix::io::{pwrite, retry_on_intr};
use sysgenid_sys::Errno;
use sysgenid_sys::page::CounterPageMut;

use super::shape::{self, Named, PAGE, too_short};
use super::{open_failed, stat_failed};
use crate::base::Generation;
use crate::base::error::{Error, Kind, Result};

/// Writes a page file: a host that restores containers, or a test.
///
/// A page file is a counter that processes map, and nothing else: see
/// [`SourceKind::PageFile`](crate::SourceKind::PageFile). The userspace driver (`sysgenid serve`) has
/// such a page, and watchers and acknowledgements as well; a `PageFile` is for a host that wants no
/// process beside it. Nothing is notified of a change, so readers look at the page when they use what
/// it guards, or from time to time.
///
/// Writing the file in any other way is a mistake that is easily made: `std::fs::write` truncates it
/// first, and a process that reads its mapping at that moment is ended by `SIGBUS`.
///
/// ```
/// use sysgenid::{PageFile, Probe};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("page");
/// let mut page = PageFile::open(&path)?;
///
/// let probe = Probe::open_at(&path)?;
/// let before = probe.generation();
/// let changed = page.change()?;
/// assert_eq!(probe.generation(), changed);
/// assert_ne!(changed, before);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What is not guaranteed
///
/// **One writer.** Nothing keeps two processes from changing the same page. Two changes at once may
/// then be one.
///
/// **The length.** Its owner and root can make the file shorter at any time. A change looks at the
/// length first and fails, but one that is made shorter between the look and the store ends this
/// process with `SIGBUS`, as it ends readers.
pub struct PageFile {
    path: PathBuf,
    file: OwnedFd,
    page: CounterPageMut,
}

impl PageFile {
    /// Opens the page at `path`, or creates it with generation 0 and mode 0644. A page that is there
    /// keeps its generation and its mode.
    ///
    /// Readers never see a page that is half made: a new one gets its name when it is complete.
    ///
    /// # Errors
    ///
    /// [`is_absent`](Error::is_absent) if the directory is not there;
    /// [`is_permission`](Error::is_permission) if the page may not be written or created;
    /// [`is_wrong_kind`](Error::is_wrong_kind) if another file is there, a symbolic link included, or a
    /// page that belongs to a user other than root and the caller;
    /// [`is_broken`](Error::is_broken) if it is too short to be a page; else the error of the system
    /// call, such as `ENOSPC`.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        match Self::open_or_create(&path) {
            Ok((file, page)) => Ok(Self { path, file, page }),
            Err(error) => Err(error.at(path)),
        }
    }

    fn open_or_create(path: &Path) -> Result<(OwnedFd, CounterPageMut)> {
        // Before it is opened: to open a device is to use it.
        match lstat(path) {
            Ok(found) if !FileType::from_raw_mode(found.st_mode).is_file() => {
                return Err(Error::new(Kind::Foreign(NO_PAGE)));
            }
            _ => {}
        }
        let flags =
            OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let opened = match open(path, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                create(path)?;
                open(path, flags, Mode::empty())
            }
            opened => opened,
        };
        let file = opened.map_err(|errno| match errno {
            Errno::LOOP | Errno::ISDIR => Error::new(Kind::Foreign(NO_PAGE)),
            errno => open_failed(errno),
        })?;
        shape::check(&file, Named::Itself(path))?;
        let page = CounterPageMut::map(&file).map_err(|error| Error::io("mmap", &error))?;
        Ok((file, page))
    }

    /// The path that it was opened at.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The generation in the page.
    #[must_use]
    pub fn generation(&self) -> Generation {
        Generation::from(self.page.load())
    }

    /// Changes the generation to the next one, which is 0 after the largest number of 32 bits, and
    /// returns it. A process that sees it also sees what this one wrote before.
    ///
    /// # Errors
    ///
    /// [`is_broken`](Error::is_broken) if the file has become too short. Nothing is changed then.
    pub fn change(&mut self) -> Result<Generation> {
        let next = self.page.load().wrapping_add(1);
        let status = fstat(&self.file).map_err(|errno| stat_failed(errno).at(&self.path))?;
        if usize::try_from(status.st_size).unwrap_or_default() < PAGE {
            return Err(too_short().at(&self.path));
        }
        self.page.store(next);
        Ok(Generation::from(next))
    }
}

impl fmt::Debug for PageFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageFile")
            .field("path", &self.path)
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}

const NO_PAGE: &str = "neither a page file nor free to become one; name another path";

/// Makes a page under another name and gives it its own when it is complete. One that was made there
/// meanwhile stays.
fn create(path: &Path) -> Result<()> {
    /// For threads that create pages of the same name at once.
    static NEXT: AtomicU32 = AtomicU32::new(0);

    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    // Relaxed: each call gets another number, and nothing else depends on it.
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    name.push(format!(".{}.{number}", process::id()));
    let new = path.with_file_name(name);

    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = open(&new, flags, Mode::from_raw_mode(0o600)).map_err(open_failed)?;
    let made = fill(&file).and_then(|()| {
        match renameat_with(CWD, &new, CWD, path, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(Error::call("naming the page", errno)),
        }
    });
    if !matches!(made, Ok(true)) {
        let _ = unlink(&new);
    }
    made.map(drop)
}

/// Written, not only made longer: a hole that a full disk cannot fill would be a `SIGBUS`.
fn fill(file: &OwnedFd) -> Result<()> {
    let zeros = [0; PAGE];
    let mut length = 0;
    while let Some(rest) = zeros.get(length..).filter(|rest| !rest.is_empty()) {
        length += retry_on_intr(|| pwrite(file, rest, length as u64))
            .map_err(|errno| Error::call("writing the page", errno))?;
    }
    // Whatever the umask is.
    fchmod(file, Mode::from_raw_mode(0o644)).map_err(|errno| Error::call("fchmod", errno))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

    use std::fs;
    use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

    use super::*;
    use crate::check::Probe;
    use crate::source::{Source, SourceKind};

    #[test]
    fn a_new_page_is_complete_and_a_change_shows_in_what_was_mapped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page");
        let mut page = PageFile::open(&path).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.len(), metadata.mode() & 0o7777), (4096, 0o644));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(Source::at(&path).unwrap().kind(), SourceKind::PageFile);

        let probe = Probe::open_at(&path).unwrap();
        for number in 1..4 {
            assert_eq!(page.change().unwrap(), Generation::new(number));
            assert_eq!(probe.generation(), page.generation());
        }
        // The file is the same one, and as long as it was, for all who have mapped it.
        probe.verify().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), metadata.ino());

        // The next host goes on where this one ended.
        drop(page);
        let mut page = PageFile::open(&path).unwrap();
        assert_eq!(page.change().unwrap(), Generation::new(4));
        assert_eq!(probe.generation(), Generation::new(4));
    }

    #[test]
    fn after_the_largest_number_comes_zero() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page");
        let mut page = PageFile::open(&path).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&u32::MAX.to_ne_bytes(), 0).unwrap();
        let probe = Probe::open_at(&path).unwrap();
        assert_eq!(probe.generation(), Generation::from(u32::MAX));
        assert_eq!(page.change().unwrap(), Generation::new(0));
        // A carry into the next bytes would be seen: a probe loads eight.
        assert_eq!(probe.generation(), Generation::new(0));
    }

    #[test]
    fn a_page_that_was_made_shorter_is_an_error_and_no_signal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page");
        let mut page = PageFile::open(&path).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(4).unwrap();
        assert!(page.change().unwrap_err().is_broken());
        assert!(PageFile::open(&path).unwrap_err().is_broken());
    }

    #[test]
    fn another_file_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page");
        let text = "precious".repeat(1024);
        fs::write(&path, &text).unwrap();
        assert!(PageFile::open(&path).unwrap_err().is_wrong_kind());
        assert_eq!(fs::read_to_string(&path).unwrap(), text);

        let link = folder.path().join("link");
        symlink("nowhere", &link).unwrap();
        assert!(PageFile::open(&link).unwrap_err().is_wrong_kind());
        assert!(PageFile::open(folder.path()).unwrap_err().is_wrong_kind());
        let error = PageFile::open(folder.path().join("no/page")).unwrap_err();
        assert!(error.is_absent(), "{error:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn hosts_that_create_a_page_at_once_share_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page");
        let mut pages: Vec<_> = std::thread::scope(|scope| {
            let open = || PageFile::open(&path).unwrap();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        let changed = pages.pop().unwrap().change().unwrap();
        assert!(pages.iter().all(|page| page.generation() == changed));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        PageFile::open(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().mode() & 0o777,
            0o600,
            "it stays"
        );
    }
}
