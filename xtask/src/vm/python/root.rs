// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Debian's Python for a guest, without what nobody there imports.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;
use crate::error::{Context, Result};
use crate::vm::Vm;
use crate::vm::apt::{self, Apt};
use crate::vm::debian::{Folder, Selection, invocation};
use crate::vm::initramfs::Initramfs;

const RECIPE: &str = "2";

/// The interpreter, its library, and what both are linked with. By name: with all that they depend
/// on, the guest's memory would hold SQLite, Berkeley DB and ncurses as well.
const PACKAGES: [&str; 10] = [
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libc6",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "libssl3",
    "libuuid1",
    "zlib1g",
];

/// What of them nobody needs in the guest. The modules whose libraries are not there cannot be
/// imported, and Python does without them.
const LEFT_OUT: [&str; 3] = [
    "usr/lib/python3.11/pydoc_data",
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/share",
];

/// The folders of the root that matter.
const FOLDERS: [&str; 3] = ["lib", "lib64", "usr"];

/// The root of a system that consists of Python.
pub(super) struct Root {
    root: PathBuf,
}

impl Root {
    /// Fetches it if it is not there.
    pub(super) fn open(vm: &Vm) -> Result<Self> {
        let folder = Folder {
            path: vm.dir.join("python"),
            recipe: RECIPE,
            apt: Apt::new(&vm.dir, &apt::MACHINE)?,
        };
        let select = |_: &Apt| {
            Ok(Selection {
                version: "Python 3.11".into(),
                packages: PACKAGES.map(String::from).into(),
            })
        };
        folder.open(vm.refresh, select, |root, _| {
            for name in LEFT_OUT {
                let path = root.join(name);
                std::fs::remove_dir_all(&path)
                    .context(|| format!("cannot remove {}", path.display()))?;
            }
            compile(root, &root.join("usr/lib/python3.11"))
        })?;
        Ok(Self { root: folder.path })
    }

    /// Adds the interpreter to an image, as `/usr/bin/python3.11`.
    pub(super) fn add_to(&self, image: &mut Initramfs) -> Result<()> {
        FOLDERS
            .into_iter()
            .try_for_each(|name| image.add_folder(&format!("{name}/"), &self.root.join(name)))
    }

    /// Compiles modules that the interpreter is to import.
    pub(super) fn compile(&self, folder: &Path) -> Result<()> {
        compile(&self.root, folder)
    }
}

/// Compiles what is below a folder, because the guest would take minutes. The result is good for
/// ever, whatever the source's time is: in an image all have the same.
fn compile(root: &Path, folder: &Path) -> Result<()> {
    let [loader, words @ ..] = invocation(root, "usr/bin/python3.11")?;
    let mut python = Command::new(loader);
    python.args(words).env("PYTHONHOME", root.join("usr"));
    python.args(["-m", "compileall", "-q", "-f"]);
    python.args(["--invalidation-mode", "unchecked-hash"]);
    // Tracebacks name the file that the guest finds.
    command::run(python.arg(folder))
}
