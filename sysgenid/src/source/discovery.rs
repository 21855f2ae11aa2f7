// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Finding a source where the program names none.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use sysgenid_sys::abi;

use super::{Source, SourceKind, clock_number};
use crate::error::{Error, Kind, Result};

/// The environment variable that names a source and so replaces discovery.
pub const SOURCE_VARIABLE: &str = "SYSGENID_SOURCE";

/// Where device nodes are.
const DEVICES: &str = "/dev";

impl Source {
    /// Looks for a source that can be watched, in the order above.
    ///
    /// # Errors
    ///
    /// [`is_absent`](Error::is_absent) if none of them exists; else as [`Source::at`].
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
        let candidates = [
            Some(abi::DEVICE_PATH.into()),
            Some(PathBuf::from("/run/sysgenid")),
            user_folder,
        ];
        for path in candidates.into_iter().flatten() {
            match Self::at(path) {
                Err(error) if error.is_absent() => {}
                found => return found,
            }
        }
        Err(Error::new(Kind::Absent).at(abi::DEVICE_PATH))
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
    /// let probe = Probe::on(Source::discover_for_probe()?)?;
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
        let path = env::var_os(SOURCE_VARIABLE).filter(|path| !path.is_empty())?;
        Some(Self::at(path))
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

/// Where a user's own broker is.
pub(crate) fn user_folder() -> Option<PathBuf> {
    env::var_os("XDG_RUNTIME_DIR").map(|folder| Path::new(&folder).join("sysgenid"))
}

/// The first of the hypervisor's counters that can be mapped. Whatever else has the name of one is
/// passed over.
pub(super) fn first_usable(mut candidates: impl Iterator<Item = Source>) -> Option<Source> {
    candidates.find(|source| {
        matches!(source.kind, SourceKind::Vmclock | SourceKind::Vmgenid)
            && source.map_page().is_ok()
    })
}

/// The nodes of vmclocks in a folder, by their number.
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
