// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command as one file that needs nothing of the machine it runs on.

use std::path::{Path, PathBuf};

use crate::command;
use crate::error::{Context, Result};
use crate::workspace::Workspace;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Where the sources lie in what the program says of itself, wherever it was built.
const SOURCES: &str = "/usr/src/sysgenid";

pub(super) fn build(workspace: &Workspace, folder: &Path) -> Result<PathBuf> {
    // Beside it, so that what has not changed is not built again.
    let target = folder.with_extension("built");
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    // The longest one that fits counts, and that is the last.
    for (from, to) in [
        (home("CARGO_HOME", ".cargo"), "/usr/src/cargo"),
        (Some(workspace.root.clone()), SOURCES),
        (Some(target.clone()), SOURCES),
    ] {
        if let Some(from) = from {
            flags.push(format!("--remap-path-prefix={}={to}", from.display()));
        }
    }
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--quiet", "--locked", "--release"]);
    // With a target named, the flags are not for what runs during the build.
    cargo.args(["--package", "sysgenid-cli", "--target", TARGET]);
    cargo.arg("--target-dir").arg(&target);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    cargo.env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    command::run(&mut cargo)?;

    let built = target.join(TARGET).join("release/sysgenid");
    let program = folder.join("sysgenid");
    std::fs::copy(&built, &program).context(|| format!("cannot copy {}", built.display()))?;
    Ok(program)
}

/// One for tests, as the unit tests have it.
pub(super) fn quick(workspace: &Workspace) -> Result<PathBuf> {
    let mut cargo = workspace.cargo();
    // With a test of the command, because cargo builds it like that for the unit tests: alone, it
    // would have other features, and so would the crates that it needs.
    cargo.args(["build", "--quiet", "--workspace", "--test", "commands"]);
    command::run(&mut cargo)?;
    Ok(workspace.target.join("debug/sysgenid"))
}

fn home(variable: &str, usual: &str) -> Option<PathBuf> {
    match std::env::var_os(variable) {
        Some(path) => Some(path.into()),
        None => Some(PathBuf::from(std::env::var_os("HOME")?).join(usual)),
    }
}
