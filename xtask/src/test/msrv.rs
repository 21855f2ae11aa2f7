// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The published crates with the oldest compiler that they promise to build with. Clippy's lint
//! knows which functions an older standard library lacks, and nothing of what an older compiler
//! refuses.

use std::path::Path;
use std::process::Command;

use crate::command;
use crate::error::{Error, Result};
use crate::failure::Failure;
use crate::libtest;
use crate::oldest_rust::{VERSION, compiler};
use crate::tally::Tally;
use crate::workspace::Workspace;

/// The crates whose tests are run with it.
const TESTED: [&str; 2] = ["sysgenid-sys", "sysgenid"];

/// Checks each published crate alone, and runs the tests of those that the others stand on.
pub(super) fn test(workspace: &Workspace) -> Result<Tally> {
    let compiler = compiler(&workspace.target)?;
    let mut ask = Command::new(&compiler);
    let version = command::output(ask.arg("--version"))?;
    print!("{version}");
    if !version.starts_with(&format!("rustc {VERSION}.")) {
        return Err(Error::new(format!("not the compiler {VERSION}: {version}")));
    }
    let mut tally = Tally::default();
    for (package, _) in workspace.published() {
        let promised = workspace.rust_version(package);
        if promised != Some(VERSION) {
            return Err(Error::new(format!(
                "{package} promises {promised:?}, and {VERSION} is tested"
            )));
        }
        println!("-- {package}");
        let mut cargo = cargo(workspace, &compiler);
        cargo.args(["check", "--quiet", "--locked", "--package", package]);
        cargo.arg("--all-features");
        tally += match command::run(&mut cargo) {
            Ok(()) => Tally::ONE,
            // The other crates still have something to say.
            Err(error) => Tally::failed(Failure::of(package, &error.to_string())),
        };
    }
    let mut cargo = cargo(workspace, &compiler);
    // What only tests need may ask for a newer compiler, and get along with this one.
    cargo.args([
        "test",
        "--locked",
        "--ignore-rust-version",
        "--no-fail-fast",
    ]);
    cargo.args(TESTED.iter().flat_map(|name| ["--package", name]));
    // Some are of what only tests have.
    cargo.args(["--features", "sysgenid/rng,sysgenid/testing"]);
    // Without those of the documentation: rustdoc is in another package.
    cargo.args(["--lib", "--tests"]);
    let mut report = libtest::Report::default();
    let success = command::tee(&mut cargo, |line| report.add_line(line))?;
    let found = report.tally();
    // A filter that finds nothing is not a success.
    let success = success && found.passed > 0;
    tally += found.finish(success);
    Ok(tally)
}

fn cargo(workspace: &Workspace, compiler: &Path) -> Command {
    let mut cargo = workspace.cargo();
    // In a separate directory, because two compilers in one rebuild everything in turn.
    cargo.env("CARGO_TARGET_DIR", workspace.target.join("msrv"));
    cargo.env("RUSTC", compiler);
    cargo
}
