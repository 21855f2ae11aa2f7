// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Python packages for a guest, unpacked in folders that the interpreter there looks into.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::root::Root;
use crate::command;
use crate::error::{Context, Result};
use crate::python::Python;
use crate::vm::Vm;

/// What the tests import, with all that this needs. Its versions are those of the package's
/// `requirements-dev.txt`.
const TOOLS: [&str; 12] = [
    "attrs",
    "idna",
    "iniconfig",
    "outcome",
    "packaging",
    "pluggy",
    "Pygments",
    "pytest",
    "sniffio",
    "sortedcontainers",
    "trio",
    "uvloop",
];

/// The file that says what was installed, so that it is done again when that changes.
const INSTALLED: &str = "installed.txt";

/// The package itself, built as its users get it.
pub(super) fn package(vm: &Vm, root: &Root) -> Result<PathBuf> {
    let python = Python::open(&vm.workspace)?;
    let folder = vm.dir.join("python-package");
    let wheel = python.wheel(&python.interpreters.main)?;
    command::run(pip(&python, &folder)?.arg("--no-index").arg(wheel))?;
    root.compile(&folder)?;
    Ok(folder)
}

/// What its tests are run with, fetched if it is not there.
pub(super) fn tools(vm: &Vm, root: &Root) -> Result<PathBuf> {
    let requirements = vm.workspace.root.join("sysgenid-py/requirements-dev.txt");
    let wanted = std::fs::read_to_string(&requirements)
        .context(|| format!("cannot read {}", requirements.display()))?;
    let folder = vm.dir.join("python-tools");
    let note = folder.join(INSTALLED);
    if !vm.refresh && std::fs::read_to_string(&note).is_ok_and(|installed| installed == wanted) {
        return Ok(folder);
    }
    let python = Python::open(&vm.workspace)?;
    let mut pip = pip(&python, &folder)?;
    // For the guest's Python, and not for the one that installs.
    pip.args(["--python-version", "3.11", "--only-binary=:all:"]);
    pip.arg("--constraint").arg(&requirements);
    command::run(pip.args(TOOLS))?;
    root.compile(&folder)?;
    // Last, so that what was left half-way is not taken for whole.
    std::fs::write(&note, wanted).context(|| format!("cannot write {}", note.display()))?;
    Ok(folder)
}

/// An installation into a folder that is made anew, of what is named and nothing else.
fn pip(python: &Python<'_>, folder: &Path) -> Result<Command> {
    command::fresh_dir(folder)?;
    let mut pip = python.tools(&python.interpreters.main)?.python();
    pip.args(["-I", "-m", "pip", "--quiet", "--disable-pip-version-check"]);
    pip.args(["install", "--no-deps", "--no-compile", "--target"]);
    pip.arg(folder);
    Ok(pip)
}
