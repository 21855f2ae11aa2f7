// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The programs that run in the guest: static, because its root has nothing but them.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Vm;
use super::initramfs::Initramfs;
use crate::command;
use crate::error::{Error, Result};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Nothing is measured in the guest, and to optimise more takes longer than it saves.
const PROFILE: &str = "quick";

/// A root whose first process is a script of `xtask/guest`, with what every script begins and ends
/// with.
pub(crate) fn image(vm: &Vm, script: &str) -> Result<Initramfs> {
    let scripts = vm.workspace.root.join("xtask/guest");
    let mut image = Initramfs::new(&vm.tools.busybox(), &scripts.join(script))?;
    image.add_file("common.sh", &scripts.join("common.sh"))?;
    image.add_file("exit", &helper(vm, "exit")?)?;
    Ok(image)
}

/// The conformance suites, for the guest.
pub(crate) fn conformance(vm: &Vm) -> Result<PathBuf> {
    program(vm, "sysgenid-conformance", "sysgenid-conformance")
}

/// The command, for the guest.
pub(crate) fn command(vm: &Vm) -> Result<PathBuf> {
    program(vm, "sysgenid-cli", "sysgenid")
}

/// A program of this workspace, linked so that it needs no library.
fn program(vm: &Vm, package: &str, name: &str) -> Result<PathBuf> {
    // Not in the main build folder: other RUSTFLAGS there would build everything anew each time.
    let target = vm.dir.join("guest");
    let mut cargo = vm.workspace.cargo();
    cargo.args(["build", "--profile", PROFILE, "--package", package]);
    cargo.args(["--bin", name]);
    cargo
        .args(["--target", TARGET, "--target-dir"])
        .arg(&target);
    cargo
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    command::run(&mut cargo)?;
    Ok(target.join(TARGET).join(PROFILE).join(name))
}

/// A small program of `xtask/guest`, for what busybox cannot do.
pub(crate) fn helper(vm: &Vm, name: &str) -> Result<PathBuf> {
    check_compiler()?;
    let program = vm.dir.join(name);
    let source = vm
        .workspace
        .root
        .join("xtask/guest")
        .join(name)
        .with_extension("c");
    let mut gcc = Command::new("gcc");
    gcc.args(["-static", "-O2", "-Wall", "-Wextra", "-Werror"]);
    if name.ends_with("32") {
        // Without a C library. The headers of both kinds of processes are the same.
        gcc.args([
            "-m32",
            "-nostdlib",
            "-ffreestanding",
            "-fno-stack-protector",
        ]);
        gcc.args(["-no-pie", "-fno-pie"]);
        gcc.args(["-idirafter", "/usr/include/x86_64-linux-gnu"]);
    }
    command::run(gcc.arg("-o").arg(&program).arg(source))?;
    Ok(program)
}

/// What the driver and the static programs need and a bare machine lacks.
///
/// A CI machine as root installs it; nobody else's machine is changed.
pub(crate) fn check_compiler() -> Result<()> {
    let missing = || {
        let mut missing: Vec<_> = ["gcc", "make"]
            .into_iter()
            .filter(|tool| command::find(tool).is_none())
            .collect();
        if !Path::new("/usr/lib/x86_64-linux-gnu/libc.a").is_file() {
            missing.push("libc6-dev");
        }
        // The kernel's own check of comments, which W=1 includes, needs more of Perl than Debian
        // has at first.
        let mut perl = Command::new("perl");
        if command::output(perl.args(["-MPod::Usage", "-e", "1"])).is_err() {
            missing.push("perl");
        }
        missing
    };
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    let is_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    let is_root = command::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if is_ci && is_root {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt.args(["install", "-qq", "--no-install-recommends"])
            .args(&packages);
        command::run(&mut apt)?;
    }
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!(
        "the driver needs what this machine does not have: apt-get install {}",
        packages.join(" ")
    )))
}
