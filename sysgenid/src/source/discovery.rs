// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Finding a source where the program names none.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::stat;
use sysgenid_sys::internal::environment;
use sysgenid_sys::{abi, wire};

use super::trust::Found;
use super::{FileIdentity, Source, SourceKind, clock_number};
use crate::base::error::{Error, Kind, Result};

/// The environment variable that names a source and so replaces discovery.
///
/// A program that runs with more rights than the process that started it (set-user-ID,
/// set-group-ID, file capabilities) ignores it, and `XDG_RUNTIME_DIR` as well: that process would
/// choose what such a program opens.
pub const SOURCE_VARIABLE: &str = "SYSGENID_SOURCE";

/// Where a system-wide broker is.
const SYSTEM_DIRECTORY: &str = "/run/sysgenid";

/// Where device nodes are.
const DEVICES: &str = "/dev";

impl Source {
    /// Looks for a source that can be watched, in the order above.
    ///
    /// # Errors
    ///
    /// [`is_absent`](Error::is_absent) if none of them exists;
    /// [`is_wrong_kind`](Error::is_wrong_kind) if a directory was found that belongs to another user
    /// or that others can write; else as [`Source::at`].
    ///
    /// ```no_run
    /// let source = sysgenid::Source::discover()?;
    /// println!("{} ({:?})", source.path().display(), source.kind());
    /// # Ok::<(), sysgenid::Error>(())
    /// ```
    pub fn discover() -> Result<Self> {
        match Self::named() {
            Some(named) => named,
            None => Self::driver(user_folder()),
        }
    }

    /// The source that can be watched, where the environment names none.
    pub(crate) fn driver(user_folder: Option<PathBuf>) -> Result<Self> {
        let directories = || {
            let user = user_folder.clone().map(|path| (path, Found::ByUser));
            [(PathBuf::from(SYSTEM_DIRECTORY), Found::ByRoot)]
                .into_iter()
                .chain(user)
        };
        let device = (PathBuf::from(abi::DEVICE_PATH), Found::ByRoot);
        for (path, found) in [device].into_iter().chain(directories()) {
            match Self::found_at(path, found) {
                Err(error) if error.is_absent() => {}
                Ok(page) if page.kind == SourceKind::PageFile => {
                    let broker = directories().find_map(|(path, found)| page.broker(path, found));
                    return Ok(broker.unwrap_or(page));
                }
                found => return found,
            }
        }
        Err(Error::new(Kind::Absent).at(abi::DEVICE_PATH))
    }

    /// The broker in `directory`, if the page in it is this very page: it was mounted over the
    /// device's path for clients that know no other.
    fn broker(&self, directory: PathBuf, found: Found) -> Option<Self> {
        let broker = Self::found_at(directory, found).ok()?;
        let same = [&self.path, &broker.path.join(wire::PAGE_FILE)]
            .map(|path| Some(FileIdentity::of(&stat(path).ok()?)));
        let is_same = same[0].is_some() && same[0] == same[1];
        (broker.kind == SourceKind::Broker && is_same).then_some(broker)
    }

    /// Looks for a source that can be probed, in the order above: what can be watched, else a
    /// counter that the hypervisor writes.
    ///
    /// It opens the hypervisor's devices to see whether they count, and keeps nothing open. One that
    /// may not be read or does not count is passed over.
    ///
    /// # Errors
    ///
    /// As [`Source::discover`].
    ///
    /// ```no_run
    /// use sysgenid::{Probe, Source};
    ///
    /// // What `Probe::open` does.
    /// let probe = Probe::open_on(Source::discover_for_probe()?)?;
    /// # Ok::<(), sysgenid::Error>(())
    /// ```
    pub fn discover_for_probe() -> Result<Self> {
        match Self::discover() {
            // Not if the absent one was named.
            Err(absent) if absent.is_absent() && Self::named().is_none() => {
                Self::hypervisor().ok_or(absent)
            }
            found => found,
        }
    }

    /// The source that the environment names.
    pub(crate) fn named() -> Option<Result<Self>> {
        named_path().map(Self::at)
    }

    /// A counter that the hypervisor writes, if there is one that can be used here.
    pub(crate) fn hypervisor() -> Option<Self> {
        let vmgenid = Self::at(Path::new(DEVICES).join("vmgenid"));
        first_usable(Self::clocks().chain(vmgenid.ok()))
    }

    /// The vmclocks of this machine, by their number.
    pub(crate) fn clocks() -> impl Iterator<Item = Self> {
        let clocks = clocks_in(Path::new(DEVICES)).into_iter();
        clocks.filter_map(|path| Self::at(path).ok())
    }
}

/// The path that the environment names, if it may be believed.
pub(crate) fn named_path() -> Option<PathBuf> {
    environment::variable(SOURCE_VARIABLE)
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
}

/// Where a user's own broker is. A path that is not absolute is none, as the XDG specification has
/// it: it would lead into whatever directory the program was started in.
pub(crate) fn user_folder() -> Option<PathBuf> {
    environment::variable("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join("sysgenid"))
}

/// The first of the hypervisor's counters that can be mapped. Whatever else has the name of one is
/// passed over.
pub(super) fn first_usable(mut candidates: impl Iterator<Item = Source>) -> Option<Source> {
    candidates.find(|source| {
        matches!(source.kind, SourceKind::Vmclock | SourceKind::Vmgenid)
            && source.map_page().is_ok()
    })
}

/// The nodes of vmclocks in a directory, by their number.
pub(super) fn clocks_in(folder: &Path) -> Vec<PathBuf> {
    let mut clocks: Vec<(u32, PathBuf)> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((clock_number(entry.file_name().to_str()?)?, entry.path())))
        .collect();
    clocks.sort();
    clocks.into_iter().map(|(_, path)| path).collect()
}
