// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The one error of this crate.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use sysgenid_sys::wire::Followers;

/// Why a broker could not start or go on.
///
/// It prints what failed, on which path, and what to do next. Control characters, bidirectional
/// overrides and bytes that are no text are escaped in the path, so that a terminal shows them and
/// does not obey them.
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
    #[error("{}: another broker serves this directory; stop it, or choose another directory", Shown(.0))]
    InUse(PathBuf),
    #[error("{}: {what}", Shown(.path))]
    Unfit {
        path: PathBuf,
        what: Cow<'static, str>,
    },
    #[error("{}: cannot {action}: {source}{}", Shown(.path), hint(.source))]
    Path {
        path: PathBuf,
        action: &'static str,
        source: io::Error,
    },
    #[error("cannot follow {follower}: {why}")]
    Follower { follower: Followers, why: String },
    #[error("cannot {action}: {source}{}", hint(.source))]
    System {
        action: &'static str,
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn in_use(directory: &Path) -> Self {
        Self(Box::new(Kind::InUse(directory.into())))
    }

    pub(crate) fn unfit(path: &Path, what: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Kind::Unfit {
            path: path.into(),
            what: what.into(),
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

    pub(crate) fn follower(follower: Followers, why: String) -> Self {
        Self(Box::new(Kind::Follower { follower, why }))
    }

    /// Whether another broker serves the directory.
    ///
    /// ```
    /// let directory = tempfile::tempdir()?;
    /// let first = sysgenid_broker::Server::bind(directory.path())?;
    /// let second = sysgenid_broker::Server::bind(directory.path());
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

    /// Whether the directory's parent does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.is(&[Errno::NOENT])
    }

    /// Whether the process or the system has no file descriptor left.
    #[must_use]
    pub fn is_out_of_descriptors(&self) -> bool {
        self.is(&[Errno::MFILE, Errno::NFILE])
    }

    /// Whether the directory, something in it, or its name cannot be used: a directory that other
    /// users can write, a page that is not a regular file, a path that is too long for a socket.
    #[must_use]
    pub fn is_unfit(&self) -> bool {
        matches!(*self.0, Kind::Unfit { .. })
    }

    /// Whether a follower was named that cannot work here.
    #[must_use]
    pub fn is_no_follower(&self) -> bool {
        matches!(*self.0, Kind::Follower { .. })
    }

    fn is(&self, errors: &[Errno]) -> bool {
        match &*self.0 {
            Kind::Path { source, .. } | Kind::System { source, .. } => source
                .raw_os_error()
                .is_some_and(|code| errors.contains(&Errno::from_raw_os_error(code))),
            Kind::InUse(_) | Kind::Unfit { .. } | Kind::Follower { .. } => false,
        }
    }
}

/// What to do about it, where that is known.
fn hint(source: &io::Error) -> &'static str {
    match source.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC | Errno::DQUOT) => "; free at least 4096 bytes there",
        Some(Errno::FBIG) => "; raise the file size limit (ulimit -f) to 4096 bytes",
        Some(Errno::ACCESS | Errno::PERM) => "; choose a directory that this user can write",
        Some(Errno::ROFS) => "; choose a directory on a writable file system, such as under /run",
        Some(Errno::NOENT) => "; create its parent directory first",
        Some(Errno::MFILE) => "; raise the limit of open files (ulimit -n)",
        Some(Errno::NFILE) => "; raise fs.file-max",
        _ => "",
    }
}

/// A path as an error shows it: printable text as it is, in any script, and everything else escaped.
pub(crate) struct Shown<'a>(pub(crate) &'a Path);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `escape_debug` escapes these, too, which are printable.
        const PRINTABLE: [char; 3] = ['"', '\'', '\\'];

        for chunk in self.0.as_os_str().as_bytes().utf8_chunks() {
            for part in chunk.valid().split_inclusive(PRINTABLE) {
                let text = part.trim_end_matches(PRINTABLE);
                write!(f, "{}", text.escape_debug())?;
                part.chars()
                    .skip(text.chars().count())
                    .try_for_each(|quote| f.write_char(quote))?;
            }
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn shown(bytes: &[u8]) -> String {
        Shown(Path::new(OsStr::from_bytes(bytes))).to_string()
    }

    #[test]
    fn printable_paths_are_shown_as_they_are() {
        for path in [
            "/run/sysgenid",
            "/tmp/it's \"a\" b\\c''",
            "/srv/größe/目录/каталог/e\u{301}",
            "",
        ] {
            assert_eq!(shown(path.as_bytes()), path);
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(shown(b"/a\n\x1b[2J\x7f"), r"/a\n\u{1b}[2J\u{7f}");
        assert_eq!(shown("/\u{9b}2J".as_bytes()), r"/\u{9b}2J");
        assert_eq!(shown("/a\u{202e}b".as_bytes()), r"/a\u{202e}b");
        assert_eq!(
            shown("/a\u{2066}b\u{200b}".as_bytes()),
            r"/a\u{2066}b\u{200b}"
        );
        assert_eq!(shown(b"/a\xff\xc3/b\xe2\x80"), r"/a\xff\xc3/b\xe2\x80");
    }

    #[test]
    fn errors_escape_their_path() {
        let path = Path::new("/a\n\x1b");
        for error in [
            Error::in_use(path),
            Error::unfit(path, "unfit"),
            Error::path(path, "open the page", Errno::NOENT),
        ] {
            let said = error.to_string();
            assert!(said.starts_with(r"/a\n\u{1b}: "), "{said:?}");
        }
    }
}
