// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The counter of a `/dev/vmgenid`, which the hypervisor writes before the machine resumes. It
//! notifies of nothing, so it is looked at from time to time.

use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use sysgenid_sys::page::CounterPage;

const PATH: &str = "/dev/vmgenid";

pub(super) struct Counter {
    page: CounterPage,
}

impl Counter {
    pub(super) fn open() -> Result<Self, String> {
        Self::open_as(Path::new(PATH), FileType::CharacterDevice)
    }

    /// The counter in a file of another name and kind.
    pub(super) fn open_at(path: &Path) -> Result<Self, String> {
        Self::open_as(path, FileType::RegularFile)
    }

    fn open_as(path: &Path, kind: FileType) -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = open(path, flags, Mode::empty()).map_err(|error| failed(&error))?;
        let found = fstat(&file).map_err(|error| failed(&error))?;
        if FileType::from_raw_mode(found.st_mode) != kind {
            return Err(failed(&"not the device"));
        }
        let page = CounterPage::map(&file).map_err(|error| failed(&error))?;
        Ok(Self { page })
    }

    pub(super) fn load(&self) -> u64 {
        self.page.load_low().into()
    }
}
