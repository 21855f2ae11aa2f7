// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writes the guest's root file system: a cpio archive in the "newc" format.

use std::path::Path;

use crate::error::{Context, Result};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const SYMLINK: u32 = 0o120_777;
const CONSOLE: u32 = 0o020_600;

/// The archive as it grows.
#[derive(Default)]
pub(crate) struct Initramfs {
    bytes: Vec<u8>,
    entries: u32,
}

impl Initramfs {
    /// A root with busybox in it, and `script` as its first process.
    pub(crate) fn new(busybox: &Path, script: &Path) -> Result<Self> {
        let mut image = Self::default();
        for folder in ["bin", "dev", "proc", "sys", "tmp"] {
            image.entry(folder, DIRECTORY, (0, 0), &[]);
        }
        image.entry("bin/sh", SYMLINK, (0, 0), b"busybox");
        image.add_file("bin/busybox", busybox)?;
        image.start_with(script)?;
        Ok(image)
    }

    /// A root that is there already, as a folder.
    pub(crate) fn of_system(root: &Path, script: &Path) -> Result<Self> {
        let mut image = Self::default();
        image.add_folder("", root)?;
        image.start_with(script)?;
        Ok(image)
    }

    fn start_with(&mut self, script: &Path) -> Result<()> {
        // The kernel opens it for the first process before anything can be mounted.
        self.entry("dev/console", CONSOLE, (5, 1), &[]);
        self.add_file("init", script)
    }

    /// A folder with all that is in it; `name` is empty, or ends with a slash.
    pub(crate) fn add_folder(&mut self, name: &str, from: &Path) -> Result<()> {
        let cannot = || format!("cannot read {}", from.display());
        if !name.is_empty() {
            self.entry(name.trim_end_matches('/'), DIRECTORY, (0, 0), &[]);
        }
        for entry in from.read_dir().context(cannot)? {
            let entry = entry.context(cannot)?;
            let (path, kind) = (entry.path(), entry.file_type().context(cannot)?);
            let name = format!("{name}{}", entry.file_name().to_string_lossy());
            if kind.is_dir() {
                self.add_folder(&format!("{name}/"), &path)?;
            } else if kind.is_symlink() {
                let target = path.read_link().context(cannot)?;
                let target = target.as_os_str().as_encoded_bytes();
                self.entry(&name, SYMLINK, (0, 0), target);
            } else {
                self.add_file(&name, &path)?;
            }
        }
        Ok(())
    }

    /// A folder with nothing in it.
    pub(crate) fn make_folder(&mut self, name: &str) {
        self.entry(name, DIRECTORY, (0, 0), &[]);
    }

    pub(crate) fn add_file(&mut self, name: &str, from: &Path) -> Result<()> {
        let bytes = std::fs::read(from).context(|| format!("cannot read {}", from.display()))?;
        self.entry(name, PROGRAM, (0, 0), &bytes);
        Ok(())
    }

    /// A small file that tells the first process what to do.
    pub(crate) fn add_text(&mut self, name: &str, text: &str) {
        self.entry(name, PROGRAM, (0, 0), text.as_bytes());
    }

    pub(crate) fn write(mut self, path: &Path) -> Result<()> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        std::fs::write(path, &self.bytes).context(|| format!("cannot write {}", path.display()))
    }

    fn entry(&mut self, name: &str, mode: u32, (major, minor): (u32, u32), data: &[u8]) {
        self.entries += 1;
        let (links, owner, group, time, device, checksum) = (1, 0, 0, 0, 0, 0);
        // Nothing in the guest is near the 4 GiB that the format's eight digits can say.
        let length = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let fields = [
            self.entries,
            mode,
            owner,
            group,
            links,
            time,
            length(data.len()),
            device,
            device,
            major,
            minor,
            length(name.len() + 1),
            checksum,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        let length = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(length, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_padded_to_four_bytes() {
        let mut image = Initramfs::default();
        image.add_text("a", "hello");
        // A header of 110 bytes and "a\0" are 112; 5 bytes of data become 8.
        assert_eq!(image.bytes.len(), 120);
        assert!(image.bytes.starts_with(b"07070100000001000081ed"));
        assert_eq!(image.bytes.get(112..117), Some(&b"hello"[..]));
    }
}
