// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The oldest compiler that the published crates promise to build with.
//!
//! It is Debian 13's, unpacked and started through the C library that it came with. Clippy's lint
//! knows which functions an older standard library lacks, and nothing of what an older compiler
//! refuses.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;
use crate::error::{Context, Error, Result};
use crate::failure::Failure;
use crate::libtest;
use crate::tally::Tally;
use crate::vm::apt::{self, Apt};
use crate::vm::debian::{Folder, Selection, libraries, loader};
use crate::workspace::Workspace;

const VERSION: &str = "1.85";

/// Changes when the packages do.
const RECIPE: &str = "1";

/// The compiler, its standard library, and what both are linked with. By name, because rustc's own
/// dependencies include a whole C compiler.
const PACKAGES: [&str; 18] = [
    "rustc",
    "libstd-rust-1.85",
    "libstd-rust-dev",
    "libllvm19",
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "zlib1g",
    "libffi8",
    "libedit2",
    "libxml2",
    "libz3-4",
    "libzstd1",
    "libtinfo6",
    "libbsd0",
    "libmd0",
    "libicu76",
    "liblzma5",
];

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

/// Unpacks the compiler if it is not there, and returns a script that starts it.
fn compiler(target: &Path) -> Result<PathBuf> {
    let folder = Folder {
        path: target.join(format!("rust-{VERSION}")),
        recipe: RECIPE,
        apt: Apt::new(target, &apt::TRIXIE)?,
    };
    let select = |apt: &Apt| {
        // With lists that do not exist yet, the download would name each package as missing.
        if !apt.has("rustc") {
            return Err(Error::new(format!("{} has no rustc", apt.archive)));
        }
        Ok(Selection {
            version: format!("Rust {VERSION}"),
            packages: PACKAGES.map(String::from).to_vec(),
        })
    };
    folder.open(false, select, |_, _| Ok(()))?;
    let root = folder.path;
    let script = format!(
        "#!/bin/sh\nexec '{}' --argv0 rustc --library-path '{}' '{}' --sysroot '{}' \"$@\"\n",
        loader(&root)?.display(),
        libraries(&root).display(),
        root.join("usr/bin/rustc").display(),
        root.join("usr").display(),
    );
    let path = root.join("rustc");
    let cannot = || format!("cannot write {}", path.display());
    fs::write(&path, script).context(cannot)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).context(cannot)?;
    Ok(path)
}
