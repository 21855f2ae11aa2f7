// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Noticing what happens to the directory and its files while they are served.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{self, AtFlags, CWD, FileType, Stat, inotify};
use rustix::io::{Errno, read};
use sysgenid_sys::wire::{CONTROL_SOCKET, Followers, PAGE_FILE, WATCH_SOCKET};

use super::page::Damage;
use super::{Directory, Identity, LOCK_FILE, Page, WRITABLE_BY_OTHERS, is, is_own};
use crate::Error;
use crate::error::Shown;

/// What happened to a broker's directory, to a file in it, or to a follower, while it was served.
///
/// It prints what happened, on which path, and what to do. The broker goes on: clients that are
/// connected lose nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum Incident {
    /// A file or the directory is not at its path any more.
    Removed {
        /// Where it was.
        path: PathBuf,
        /// What that means, and what to do.
        consequence: &'static str,
    },
    /// Other users can write a file or the directory, or own it.
    Exposed {
        /// What they can write.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
        /// The permissions.
        mode: u32,
    },
    /// A file has got another name.
    Linked {
        /// Its name in the directory.
        path: PathBuf,
    },
    /// The page was made shorter. The broker has put the length and the generation back.
    Shortened {
        /// The page.
        path: PathBuf,
        /// How long it was then, in bytes.
        len: u64,
    },
    /// The generation in the page was overwritten. The broker has put its own back.
    Overwritten {
        /// The page.
        path: PathBuf,
        /// The generation that was found.
        found: u32,
    },
    /// The page is damaged and cannot be repaired. Each change tries again.
    Damaged(Error),
    /// The broker cannot watch its directory. It serves all the same, and does not notice any of
    /// the others.
    Unwatched(Error),
    /// The entropy barrier has failed. The generation changes all the same.
    BarrierFailed {
        /// Why.
        why: String,
    },
    /// A follower has failed: it announces no restore any more.
    FollowerFailed {
        /// Which one.
        follower: Followers,
        /// What happened to it.
        why: String,
        /// Those that are left.
        left: Followers,
    },
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removed { path, consequence } => {
                write!(f, "{} was removed or replaced: {consequence}", Shown(path))
            }
            Self::Exposed { path, uid, mode } => write!(
                f,
                "{} belongs to user {uid} and has mode {mode:04o}: another user can mislead the \
                 clients; take that permission away (chown, chmod go-w) and restart the broker",
                Shown(path)
            ),
            Self::Linked { path } => write!(
                f,
                "{} has another name (a hard link): the next broker will refuse it; remove the \
                 other name",
                Shown(path)
            ),
            Self::Shortened { path, len } => write!(
                f,
                "{} was made shorter, to {len} bytes, and the broker has put it back: a program \
                 that read it meanwhile was ended by SIGBUS; leave the file to the broker",
                Shown(path)
            ),
            Self::Overwritten { path, found } => write!(
                f,
                "{} was overwritten, with generation {found}, and the broker has put its own back: \
                 a program that read it meanwhile was misled; leave the file to the broker",
                Shown(path)
            ),
            Self::Damaged(error) => write!(
                f,
                "{error}: a program that reads the page is ended by SIGBUS, and changes fail"
            ),
            Self::Unwatched(error) => write!(
                f,
                "{error}: the broker serves, but does not notice when a file is removed, replaced \
                 or made shorter"
            ),
            Self::BarrierFailed { why } => write!(
                f,
                "the kernel's entropy could not be renewed after a restore: {why}; secrets that were \
                 rebuilt since may be those of another clone: run `sysgenid trigger --reseed`"
            ),
            Self::FollowerFailed {
                follower,
                why,
                left,
            } => {
                write!(
                    f,
                    "the follower {follower} has failed: {why}; restart the broker to follow it again"
                )?;
                if left.is_empty() {
                    f.write_str(
                        "; nothing announces restores to the broker now: whoever restores must run \
                         `sysgenid trigger`",
                    )?;
                }
                Ok(())
            }
        }
    }
}

/// Watches a directory. The descriptor is readable when it is time to [`look`](Self::look).
///
/// It does **not** notice at once that a parent of the directory is renamed, or that another file
/// system is mounted over it, because the kernel reports neither. The next look notices.
#[derive(Debug)]
pub(crate) struct Watch {
    inotify: OwnedFd,
    directory: Arc<OwnedFd>,
    parts: Vec<Part>,
    /// Reported that the page cannot be repaired.
    damaged: bool,
    parent_is_watched: bool,
}

/// A file, or the directory, that is checked.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    place: Place,
    identity: Identity,
    consequence: &'static str,
    /// Reported already.
    told: Option<Trouble>,
}

#[derive(Debug)]
enum Place {
    Entry(&'static str),
    /// By its absolute path: the working directory may change.
    Directory(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Removed,
    Exposed { uid: u32, mode: u32 },
    Linked,
}

impl Watch {
    pub(super) fn new(directory: &Directory) -> Result<Self, Error> {
        let path = directory.path();
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        let inotify = inotify::init(flags).map_err(|error| unwatched(path, error))?;
        let add = |path: &Path, events| {
            // If the path names another file by now, the first look reports that.
            match inotify::add_watch(&inotify, path, events | inotify::WatchFlags::DONT_FOLLOW) {
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
                Err(error) => Err(unwatched(path, error)),
            }
        };
        add(
            path,
            inotify::WatchFlags::ATTRIB
                | inotify::WatchFlags::DELETE
                | inotify::WatchFlags::MOVE
                | inotify::WatchFlags::MOVE_SELF,
        )?;
        // The file itself, so that a change by another name is seen.
        add(
            &path.join(PAGE_FILE),
            inotify::WatchFlags::ATTRIB | inotify::WatchFlags::MODIFY,
        )?;

        let part = |place, path, identity, consequence| Part {
            path,
            place,
            identity,
            consequence,
            told: None,
        };
        let entry = |(name, identity): (&'static str, _)| {
            part(
                Place::Entry(name),
                path.join(name),
                identity,
                consequence(name),
            )
        };
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
        let sockets = directory.made.files().iter().copied();
        let sockets = sockets.filter(|(name, _)| [WATCH_SOCKET, CONTROL_SOCKET].contains(name));
        let parts = [part(
            Place::Directory(absolute),
            path.into(),
            directory.identity,
            "programs do not find this broker any more; restart it",
        )]
        .into_iter()
        .chain(directory.page.map(|identity| entry((PAGE_FILE, identity))))
        .chain(sockets.map(entry))
        .chain([entry((LOCK_FILE, directory.lock.identity))])
        .collect();
        Ok(Self {
            inotify,
            directory: Arc::clone(&directory.fd),
            parts,
            damaged: false,
            parent_is_watched: false,
        })
    }

    /// Checks everything, repairs the page, and returns the incidents that are new.
    ///
    /// The events are only a hint that it is time to check, so it does not matter if some are lost.
    pub(crate) fn look(&mut self, page: &mut Page) -> Vec<Incident> {
        self.drain();
        let mut incidents = Vec::new();
        match page.repair() {
            Ok(damage) => {
                incidents.extend(damage.map(|damage| repaired(page, damage)));
                self.damaged = self.damaged && page.is_damaged();
            }
            Err(error) => {
                if !std::mem::replace(&mut self.damaged, true) {
                    incidents.push(Incident::Damaged(error));
                }
            }
        }
        self.watch_parent();
        for part in &mut self.parts {
            let trouble = part.trouble(&self.directory);
            if trouble != part.told {
                incidents.extend(trouble.map(|trouble| part.incident(trouble)));
                part.told = trouble;
            }
        }
        incidents
    }

    /// Starts to watch the directory's parent once a file is missing.
    ///
    /// While the directory is open, as it is here, its removal is an event only in its parent. That
    /// has many events of other files, so it is not watched before the directory can be empty.
    fn watch_parent(&mut self) {
        let is_missing = |part: &Part| {
            matches!(part.place, Place::Entry(_))
                && part.trouble(&self.directory) == Some(Trouble::Removed)
        };
        if self.parent_is_watched || !self.parts.iter().any(is_missing) {
            return;
        }
        let parent = self.parts.iter().find_map(|part| match &part.place {
            Place::Directory(path) => path.parent(),
            Place::Entry(_) => None,
        });
        if let Some(parent) = parent {
            let events = inotify::WatchFlags::DELETE | inotify::WatchFlags::MOVED_FROM;
            // Without it, the removal is noticed at the next look. The files' is reported.
            let _ = inotify::add_watch(&self.inotify, parent, events);
        }
        self.parent_is_watched = true;
    }

    fn drain(&self) {
        let mut events = [0_u8; 4096];
        // Bounded, so that a process that goes on causing events does not hold up the clients.
        for _ in 0..16 {
            match read(&self.inotify, &mut events) {
                Ok(1..) | Err(Errno::INTR) => {}
                _ => return,
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

impl Part {
    fn trouble(&self, directory: &OwnedFd) -> Option<Trouble> {
        let found = match &self.place {
            Place::Entry(name) => fs::statat(directory, *name, AtFlags::SYMLINK_NOFOLLOW),
            Place::Directory(path) => fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW),
        };
        match found {
            Ok(stat) if Identity::of(&stat) == self.identity => exposed(&stat),
            // Any other error, too: clients do not find the file either.
            _ => Some(Trouble::Removed),
        }
    }

    fn incident(&self, trouble: Trouble) -> Incident {
        let path = self.path.clone();
        match trouble {
            Trouble::Removed => Incident::Removed {
                path,
                consequence: self.consequence,
            },
            Trouble::Exposed { uid, mode } => Incident::Exposed { path, uid, mode },
            Trouble::Linked => Incident::Linked { path },
        }
    }
}

/// Returns what a start would refuse. Every user may write a socket.
fn exposed(stat: &Stat) -> Option<Trouble> {
    let is_socket = is(stat, FileType::Socket);
    if !is_own(stat) || (stat.st_mode & WRITABLE_BY_OTHERS != 0 && !is_socket) {
        return Some(Trouble::Exposed {
            uid: stat.st_uid,
            mode: stat.st_mode & 0o7777,
        });
    }
    (is(stat, FileType::RegularFile) && stat.st_nlink > 1).then_some(Trouble::Linked)
}

fn repaired(page: &Page, damage: Damage) -> Incident {
    let path = page.path().into();
    match damage {
        Damage::Shortened(len) => Incident::Shortened { path, len },
        Damage::Overwritten(found) => Incident::Overwritten { path, found },
    }
}

fn consequence(name: &str) -> &'static str {
    match name {
        PAGE_FILE => {
            "programs that open it from now on do not see this broker's counter; restart the \
             broker, and then the programs that have the old page"
        }
        CONTROL_SOCKET => "no change can be triggered there; restart the broker",
        LOCK_FILE => "another broker could serve the same directory; restart this one",
        _ => "no program can become a watcher there; restart the broker",
    }
}

fn unwatched(path: &Path, error: Errno) -> Error {
    match error {
        Errno::MFILE => Error::unfit(
            path,
            "cannot be watched: this user's inotify instances or this process's file descriptors \
             are used up; raise fs.inotify.max_user_instances or the limit of open files \
             (ulimit -n)",
        ),
        Errno::NOSPC => Error::unfit(
            path,
            "cannot be watched: this user's inotify watches are used up; raise \
             fs.inotify.max_user_watches",
        ),
        error => Error::path(path, "watch the directory", error),
    }
}
