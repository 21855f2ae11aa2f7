// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The files that a start has created, so that a failed start can remove them.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{self, AtFlags, CWD};

use super::Identity;

/// Records the files that a start has created, and perhaps their directory. On drop they are removed,
/// the newest first. A name that another file has by now is left.
///
/// Starts that fail at the same time may leave an empty directory or a lock file, because each leaves
/// them to the other.
#[derive(Debug)]
pub(super) struct Made {
    path: PathBuf,
    fd: Arc<OwnedFd>,
    directory: Option<Identity>,
    files: Vec<(&'static str, Identity)>,
}

impl Made {
    pub(super) fn new(path: &Path, fd: Arc<OwnedFd>) -> Self {
        Self {
            path: path.into(),
            fd,
            directory: None,
            files: Vec::new(),
        }
    }

    pub(super) fn add_directory(&mut self, identity: Identity) {
        self.directory = Some(identity);
    }

    pub(super) fn add(&mut self, name: &'static str, identity: Identity) {
        self.files.push((name, identity));
    }

    pub(super) fn files(&self) -> &[(&'static str, Identity)] {
        &self.files
    }

    /// Forgets everything except for these files, so that it stays.
    pub(super) fn keep(&mut self, except: &[&str]) {
        self.directory = None;
        self.files.retain(|(name, _)| except.contains(name));
    }

    /// Removes these files now.
    pub(super) fn remove(&mut self, names: &[&str]) {
        let fd = &self.fd;
        while let Some(at) = self.files.iter().rposition(|(it, _)| names.contains(it)) {
            let (name, identity) = self.files.remove(at);
            if identity.is_at(fd, name) {
                let _ = fs::unlinkat(fd, name, AtFlags::empty());
            }
        }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let names: Vec<_> = self.files.iter().map(|(name, _)| *name).collect();
        self.remove(&names);
        if self
            .directory
            .is_some_and(|directory| directory.is_at(CWD, &self.path))
        {
            // It fails if another broker has begun to use the directory, which then keeps it.
            let _ = fs::rmdir(&self.path);
        }
    }
}
