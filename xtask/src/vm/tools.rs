// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The programs that all kernels share: QEMU, busybox for the guest, sparse for the driver.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::apt::{self, Apt};
use super::debian::{Folder, Selection, invocation};
use crate::command;
use crate::error::Result;

const RECIPE: &str = "2";
const NEWER_RECIPE: &str = "1";

/// The programs that are started through the C library they come with.
const PROGRAMS: [&str; 6] = [
    "qemu-system-x86",
    "acpica-tools",
    "patchelf",
    "xz-utils",
    "zstd",
    "lz4",
];

/// The programs that need nothing, or no more than any machine has.
const PLAIN: [&str; 2] = ["busybox-static", "sparse"];

pub(crate) struct Tools {
    root: PathBuf,
}

impl Tools {
    pub(crate) fn open(dir: &Path, refresh: bool) -> Result<Self> {
        let folder = Folder {
            path: dir.join("tools"),
            recipe: RECIPE,
            apt: Apt::new(dir, &apt::MACHINE)?,
        };
        let select = |apt: &Apt| {
            let mut packages = apt.all_dependencies(&PROGRAMS)?;
            packages.extend(PLAIN.map(String::from));
            Ok(Selection {
                version: "QEMU".into(),
                packages,
            })
        };
        folder.open(refresh, select, |_, _| Ok(()))?;
        Ok(Self { root: folder.path })
    }

    /// A QEMU with devices that Debian 12's does not have, and no other program.
    pub(crate) fn newer_qemu(dir: &Path, refresh: bool) -> Result<Self> {
        let folder = Folder {
            path: dir.join("newer-qemu"),
            recipe: NEWER_RECIPE,
            apt: Apt::new(dir, &apt::TRIXIE)?,
        };
        let select = |apt: &Apt| {
            Ok(Selection {
                version: "QEMU".into(),
                packages: apt.all_dependencies(&["qemu-system-x86"])?,
            })
        };
        folder.open(refresh, select, |_, _| Ok(()))?;
        Ok(Self { root: folder.path })
    }

    /// QEMU, as the last words of a command that launches it.
    pub(crate) fn qemu(&self, mut launcher: Command) -> Result<Command> {
        launcher.env(
            "QEMU_MODULE_DIR",
            self.root.join("usr/lib/x86_64-linux-gnu/qemu"),
        );
        launcher.args(invocation(&self.root, "usr/bin/qemu-system-x86_64")?);
        for folder in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
            launcher.arg("-L").arg(self.root.join(folder));
        }
        Ok(launcher)
    }

    pub(crate) fn sparse(&self) -> PathBuf {
        self.root.join("usr/bin/sparse")
    }

    pub(crate) fn busybox(&self) -> PathBuf {
        self.root.join("bin/busybox")
    }

    /// A small program that is run on the host, by name.
    pub(crate) fn program(&self, name: &str) -> Result<Command> {
        program(&self.root, name)
    }
}

/// What looks at programs: valgrind and objdump. The machine's own if it has both.
pub(crate) struct Instruments {
    unpacked: Option<PathBuf>,
}

impl Instruments {
    pub(crate) fn open(target: &Path) -> Result<Self> {
        if ["valgrind", "objdump"].into_iter().all(has) {
            return Ok(Self { unpacked: None });
        }
        Self::unpack(target)
    }

    fn unpack(target: &Path) -> Result<Self> {
        let folder = Folder {
            path: target.join("instruments"),
            recipe: "1",
            apt: Apt::new(target, &apt::MACHINE)?,
        };
        let select = |apt: &Apt| {
            Ok(Selection {
                version: "valgrind".into(),
                packages: apt.all_dependencies(&["valgrind", "binutils"])?,
            })
        };
        folder.open(false, select, |_, _| Ok(()))?;
        Ok(Self {
            unpacked: Some(folder.path),
        })
    }

    pub(crate) fn valgrind(&self) -> Result<Command> {
        let Some(root) = &self.unpacked else {
            return Ok(Command::new("valgrind"));
        };
        // Its own name is that of a script that starts this.
        let mut command = program(root, "valgrind.bin")?;
        command.env("VALGRIND_LIB", root.join("usr/libexec/valgrind"));
        Ok(command)
    }

    pub(crate) fn objdump(&self) -> Result<Command> {
        match &self.unpacked {
            Some(root) => program(root, "objdump"),
            None => Ok(Command::new("objdump")),
        }
    }
}

fn has(program: &str) -> bool {
    command::find(program).is_some()
}

/// A program of a root, started through the C library there.
fn program(root: &Path, name: &str) -> Result<Command> {
    let [loader, words @ ..] = invocation(root, &format!("usr/bin/{name}"))?;
    let mut command = Command::new(loader);
    command.args(words);
    Ok(command)
}
