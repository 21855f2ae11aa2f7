// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The one error of this crate.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Why a broker could not start or go on.
///
/// It prints what failed, on which path, and what to do next.
///
/// ```
/// let missing = sysgenid_broker::Server::bind("/nonexistent/parent/sysgenid").unwrap_err();
/// assert!(missing.is_not_found());
/// assert!(missing.to_string().contains("/nonexistent/parent/sysgenid"));
/// ```
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Kind>);

#[derive(Debug, thiserror::Error)]
enum Kind {
    #[error("{}: another broker serves this folder; stop it, or choose another folder", .0.display())]
    InUse(PathBuf),
    #[error("{}: {what}", .path.display())]
    Unfit { path: PathBuf, what: &'static str },
    #[error("{}: cannot {action}: {source}{}", .path.display(), hint(.source))]
    Path {
        path: PathBuf,
        action: &'static str,
        source: io::Error,
    },
    #[error("cannot {action}: {source}{}", hint(.source))]
    System {
        action: &'static str,
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn in_use(folder: &Path) -> Self {
        Self(Box::new(Kind::InUse(folder.into())))
    }

    pub(crate) fn unfit(path: &Path, what: &'static str) -> Self {
        Self(Box::new(Kind::Unfit {
            path: path.into(),
            what,
        }))
    }

    pub(crate) fn path(path: &Path, action: &'static str, source: impl Into<io::Error>) -> Self {
        Self(Box::new(Kind::Path {
            path: path.into(),
            action,
            source: source.into(),
        }))
    }

    pub(crate) fn system(action: &'static str, source: impl Into<io::Error>) -> Self {
        Self(Box::new(Kind::System {
            action,
            source: source.into(),
        }))
    }

    /// Whether another broker serves the folder.
    ///
    /// ```
    /// let folder = tempfile::tempdir()?;
    /// let first = sysgenid_broker::Server::bind(folder.path())?;
    /// let second = sysgenid_broker::Server::bind(folder.path());
    /// assert!(second.unwrap_err().is_in_use());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        matches!(*self.0, Kind::InUse(_))
    }

    /// Whether there is no room for the page: a full disk, a quota, a limit of the file size.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        self.is(&[Errno::NOSPC, Errno::DQUOT, Errno::FBIG])
    }

    /// Whether a permission is missing, or the file system can only be read.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        self.is(&[Errno::ACCESS, Errno::PERM, Errno::ROFS])
    }

    /// Whether the folder's parent does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.is(&[Errno::NOENT])
    }

    /// Whether the process or the system has no file descriptor left.
    #[must_use]
    pub fn is_out_of_descriptors(&self) -> bool {
        self.is(&[Errno::MFILE, Errno::NFILE])
    }

    /// Whether something in the folder, or its name, cannot be used: a page that is no regular
    /// file, a path that is too long for a socket.
    #[must_use]
    pub fn is_unfit(&self) -> bool {
        matches!(*self.0, Kind::Unfit { .. })
    }

    fn is(&self, errors: &[Errno]) -> bool {
        match &*self.0 {
            Kind::Path { source, .. } | Kind::System { source, .. } => source
                .raw_os_error()
                .is_some_and(|code| errors.contains(&Errno::from_raw_os_error(code))),
            Kind::InUse(_) | Kind::Unfit { .. } => false,
        }
    }
}

/// What to do about it, where that is known.
fn hint(source: &io::Error) -> &'static str {
    match source.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC | Errno::DQUOT) => "; free at least 4096 bytes there",
        Some(Errno::FBIG) => "; raise the file size limit (ulimit -f) to 4096 bytes",
        Some(Errno::ACCESS | Errno::PERM) => "; choose a folder that this user can write",
        Some(Errno::ROFS) => "; choose a folder on a writable file system, such as under /run",
        Some(Errno::NOENT) => "; create its parent folder first",
        Some(Errno::MFILE) => "; raise the limit of open files (ulimit -n)",
        Some(Errno::NFILE) => "; raise fs.file-max",
        _ => "",
    }
}
