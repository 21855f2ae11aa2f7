// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Folders of unpacked Debian packages: nothing is installed, and the machine's own libraries do
//! not matter.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::apt::Apt;
use crate::command;
use crate::error::{Context, Error, Result};

/// Where a root has its libraries.
const LIBRARIES: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];

/// A folder of unpacked packages.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    /// Changes when the contents of the folder do, so that an older one is not taken for it.
    pub(crate) recipe: &'static str,
    pub(crate) apt: Apt,
}

/// What a folder is filled with.
pub(crate) struct Selection {
    /// The version of what matters most: a kernel's release.
    pub(crate) version: String,
    pub(crate) packages: Vec<String>,
}

impl Folder {
    /// Fills the folder if it is not there, or if it is to be `refresh`ed, and returns its version.
    ///
    /// `finish` gets the folder while it is not in its place yet, and the version.
    pub(crate) fn open(
        &self,
        refresh: bool,
        select: impl Fn(&Apt) -> Result<Selection>,
        finish: impl FnOnce(&Path, &str) -> Result<()>,
    ) -> Result<String> {
        // With its place, because programs in it know where their libraries are.
        let recipe = format!("{} {}", self.recipe, self.path.display());
        let stamp = std::fs::read_to_string(self.path.join("stamp")).unwrap_or_default();
        if let Some((found, version)) = stamp.trim().split_once('\n')
            && found == recipe
            && !refresh
        {
            return Ok(version.to_owned());
        }
        // Beside its place and moved there whole: an interrupted fetch leaves nothing that looks
        // finished.
        let mut partial = self.path.clone().into_os_string();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let version = self.fetch(&partial, refresh, select)?;
        finish(&partial, &version)?;
        write(&partial.join("stamp"), &format!("{recipe}\n{version}\n"))?;
        if self.path.exists() {
            remove(&self.path)?;
        }
        std::fs::rename(&partial, &self.path)
            .context(|| format!("cannot move {} to its place", partial.display()))?;
        Ok(version)
    }

    /// Downloads and unpacks.
    fn fetch(
        &self,
        into: &Path,
        refresh: bool,
        select: impl Fn(&Apt) -> Result<Selection>,
    ) -> Result<String> {
        check_tools()?;
        let debs = into.join("debs");
        let download = || {
            let mut selection = select(&self.apt)?;
            selection.packages.sort();
            selection.packages.dedup();
            eprintln!(
                "xtask: fetching {} in {} packages",
                selection.version,
                selection.packages.len()
            );
            command::fresh_dir(&debs)?;
            self.apt.download(&selection.packages, &debs)?;
            Ok(selection.version)
        };
        command::fresh_dir(into)?;
        if refresh {
            self.apt.update();
        }
        let version = match download() {
            // The lists are missing, or they are older than the archive and name packages that it
            // has dropped since.
            Err(error) if !refresh => {
                eprintln!("xtask: {error}; updating the package lists");
                self.apt.update();
                download()
            }
            result => result,
        }?;
        for deb in list(&debs)? {
            command::run(Command::new("dpkg").arg("-x").arg(&deb).arg(into))?;
        }
        remove(&debs)?;
        Ok(version)
    }
}

/// The words that start an unpacked program: through the C library it came with, and without
/// LD_LIBRARY_PATH, which the programs that it starts in turn would inherit.
pub(crate) fn invocation(root: &Path, program: &str) -> Result<[OsString; 4]> {
    Ok([
        loader(root)?.into(),
        "--library-path".into(),
        libraries(root),
        root.join(program).into(),
    ])
}

/// The folders of a root's libraries, as a search path.
pub(crate) fn libraries(root: &Path) -> OsString {
    LIBRARIES
        .map(|folder| root.join(folder).into_os_string())
        .join(OsStr::new(":"))
}

/// The program loader of a root's C library.
pub(crate) fn loader(root: &Path) -> Result<PathBuf> {
    LIBRARIES
        .map(|folder| root.join(folder).join("ld-linux-x86-64.so.2"))
        .into_iter()
        .find(|path| path.is_file())
        .context(|| format!("{} has no C library", root.display()))
}

fn check_tools() -> Result<()> {
    let needed = ["apt-get", "apt-cache", "dpkg"];
    let missing: Vec<_> = needed
        .into_iter()
        .filter(|t| command::find(t).is_none())
        .collect();
    if !missing.is_empty() {
        return Err(Error::new(format!(
            "the VM is unpacked from Debian packages, and this machine has no {}. Run it on \
             Debian 12 (a container will do; KVM and root are not needed), or leave the VM out \
             with `cargo xtask test --no-vm`. What it would unpack: QEMU, busybox, patchelf, \
             sparse, xz, zstd, lz4, Python, and the image, headers and kbuild of each kernel",
            missing.join(", ")
        )));
    }
    let architecture = command::output(Command::new("dpkg").arg("--print-architecture"))?;
    if architecture.trim() == "amd64" {
        return Ok(());
    }
    Err(Error::new(format!(
        "the VM is for amd64, and this machine is {}",
        architecture.trim()
    )))
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = folder
        .read_dir()
        .context(|| format!("cannot list {}", folder.display()))?;
    entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()
        .context(|| format!("cannot list {}", folder.display()))
}

fn remove(folder: &Path) -> Result<()> {
    std::fs::remove_dir_all(folder).context(|| format!("cannot remove {}", folder.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).context(|| format!("cannot write {}", path.display()))
}
