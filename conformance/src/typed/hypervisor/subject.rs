// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat, stat};
use sysgenid::{Probe, Source, SourceKind};

use crate::host;

/// The node under test.
#[derive(Clone, Debug)]
pub struct Subject {
    path: PathBuf,
    kind: SourceKind,
}

impl Subject {
    /// The node at `path`, which is to be of this kind.
    #[must_use]
    pub fn new(path: PathBuf, kind: SourceKind) -> Self {
        Self { path, kind }
    }

    pub(super) fn kind(&self) -> SourceKind {
        self.kind
    }

    pub(super) fn source(&self) -> Source {
        Source::at(&self.path).expect("it is a source")
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn probe(&self) -> Probe {
        Probe::open_at(&self.path).expect("it can be probed")
    }

    /// The host stores a counter.
    pub(super) fn store(&self, counter: u64) {
        let word = match self.kind {
            SourceKind::Vmclock => "restore",
            _ => "counter",
        };
        host::ask(&format!("{word} {counter}"));
    }

    /// Makes another node for the same device.
    pub(super) fn make_node(&self, path: &Path) {
        let device = stat(&self.path).expect("it is there").st_rdev;
        let mode = Mode::from_raw_mode(0o600);
        mknodat(CWD, path, FileType::CharacterDevice, mode, device).expect("root may do so");
    }
}
