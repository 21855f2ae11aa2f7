// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The examples of the kernel's page of documentation, as a program that the guest runs.

use std::path::PathBuf;
use std::process::Command;

use super::Vm;
use crate::command;
use crate::error::{Context, Error, Result};

const PAGE: &str = "driver/Documentation/virt/sysgenid.rst";

/// Builds the program.
pub(crate) fn program(vm: &Vm) -> Result<PathBuf> {
    let root = &vm.workspace.root;
    let page = root.join(PAGE);
    let text =
        std::fs::read_to_string(&page).context(|| format!("cannot read {}", page.display()))?;
    let examples = of(&text);
    if examples.is_empty() {
        return Err(Error::new(format!("{PAGE} has no examples")));
    }
    let dir = vm.dir.join("examples");
    command::fresh_dir(&dir)?;
    let header = dir.join("kernels_page.h");
    std::fs::write(&header, examples).context(|| format!("cannot write {}", header.display()))?;
    let program = dir.join("examples");
    let mut gcc = Command::new("gcc");
    gcc.args(["-static", "-O2", "-pthread", "-Wall", "-Wextra", "-Werror"]);
    gcc.arg("-I").arg(&dir);
    gcc.arg("-I").arg(root.join("driver/include/uapi"));
    gcc.arg("-o").arg(&program);
    command::run(gcc.arg(root.join("xtask/guest/examples.c")))?;
    Ok(program)
}

/// The literal blocks of a page that are C.
fn of(page: &str) -> String {
    let blocks = page.split("::\n\n").skip(1);
    let blocks = blocks.map(|text| {
        let inside = |line: &&str| line.is_empty() || line.starts_with("  ");
        let lines = text.lines().take_while(inside);
        lines.map(|line| format!("{line}\n")).collect::<String>()
    });
    blocks
        .filter(|block| block.starts_with("  static "))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn only_blocks_of_c_are_examples() {
        let page = "It is::\n\n  static int a;\n\n  static int b;\n\nA line::\n\n  echo c\n";
        assert_eq!(of(page), "  static int a;\n\n  static int b;\n\n");
        assert_eq!(of("Nothing.\n"), "");
    }
}
