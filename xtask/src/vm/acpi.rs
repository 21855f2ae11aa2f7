// SPDX-License-Identifier: Apache-2.0 OR MIT
//! ACPI tables for devices that QEMU does not have, from the sources in `xtask/acpi`.

use std::path::Path;

use super::Vm;
use crate::command;
use crate::error::Result;

/// Compiles a table into a folder, and returns what QEMU is told of it there.
pub(crate) fn table(vm: &Vm, name: &str, dir: &Path) -> Result<String> {
    let source = vm.workspace.root.join("xtask/acpi").join(name);
    let mut iasl = vm.tools.program("iasl")?;
    // Quiet, with warnings as errors.
    iasl.args(["-vs", "-we", "-p", name])
        .arg(source.with_extension("asl"));
    command::output(iasl.current_dir(dir))?;
    Ok(format!("file={name}.aml"))
}
