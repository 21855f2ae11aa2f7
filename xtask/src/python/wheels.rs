// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The wheels for PyPI: two native ones that run on distributions as old as glibc 2.17, and one for
//! everything else, which refuses.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Python, Venv, check, pip_install};
use crate::command;
use crate::error::{Context, Error, Result};
use crate::failure::Failure;
use crate::oldest_rust;
use crate::tally::Tally;
use crate::test::Depth;
use crate::vm::apt::{self, Apt};
use crate::vm::debian::{Folder, Selection};
use crate::workspace::Workspace;

/// What pip takes on which platform.
const TAKEN: [(&str, &str); 6] = [
    ("manylinux2014_x86_64", "manylinux_2_17_x86_64"),
    ("manylinux2014_aarch64", "manylinux_2_17_aarch64"),
    ("musllinux_1_2_x86_64", "none-any"),
    ("manylinux2014_s390x", "none-any"),
    ("macosx_11_0_arm64", "none-any"),
    ("win_amd64", "none-any"),
];

/// An emulator, and Debian's Python for Arm.
const ARM: [&str; 12] = [
    "qemu-user",
    "python3.13-minimal:arm64",
    "libpython3.13-minimal:arm64",
    "libpython3.13-stdlib:arm64",
    "libc6:arm64",
    "libexpat1:arm64",
    "libffi8:arm64",
    "libgcc-s1:arm64",
    "libssl3t64:arm64",
    "libuuid1:arm64",
    "libzstd1:arm64",
    "zlib1g:arm64",
];

/// Changes when the packages do.
const RECIPE: &str = "1";

/// The step of `cargo xtask ci`, and `cargo xtask wheels`.
pub(crate) fn wheels(workspace: &Workspace) -> Result<Tally> {
    let python = Python::open(workspace)?;
    let mut tally = python.licences()?;
    let tools = python.wheel_tools()?;
    let folder = workspace.target.join("wheels");
    command::fresh_dir(&folder)?;
    python.native(&tools, &folder, "x86_64", None)?;
    let compiler = oldest_rust::compiler(&workspace.target)?;
    python.native(&tools, &folder, "aarch64", Some(&compiler))?;
    let native = find(&folder, "_x86_64")?;
    python.make_unsupported(&native, &folder)?;

    for wheel in command::files(&folder)? {
        let size = wheel.metadata().map_or(0, |found| found.len());
        println!("-- {}, {} KiB", wheel.display(), size / 1024);
        tally += inspect(&tools, &wheel)?;
    }
    for (platform, wanted) in TAKEN {
        tally += python.taken(&folder, platform, wanted)?;
    }
    tally += python.on_arm(&find(&folder, "_aarch64")?)?;
    // The wheel that is published, on a Python that the machine does not have.
    tally += python.pytest(&python.newest()?, &native, Depth::Daily)?;
    println!("the wheels are in {}", folder.display());
    Ok(tally)
}

impl Python<'_> {
    pub(super) fn wheel_tools(&self) -> Result<Venv> {
        let main = &self.interpreters.main;
        let folder = self.folder.join(main.name()).join("wheel-tools");
        let requirements = self.package.join("wheels/requirements.txt");
        Venv::kept(main, &folder, &requirements, |venv| {
            println!("installing tools for wheels");
            command::output(venv.python().args(["-I", "-m", "ensurepip"]))?;
            command::run(pip_install(venv).arg("--requirement").arg(&requirements))
        })
    }

    /// Has zig link it, which knows the symbols of each version of the C library.
    fn native(
        &self,
        tools: &Venv,
        folder: &Path,
        machine: &str,
        compiler: Option<&Path>,
    ) -> Result<()> {
        println!("-- building the wheel for {machine}");
        let mut maturin = self.maturin("build")?;
        maturin.args(["--release", "--locked", "--quiet", "--zig"]);
        maturin.args(["--target", &format!("{machine}-unknown-linux-gnu")]);
        maturin.args(["--compatibility", "manylinux2014"]);
        // Its version is the oldest that the wheel is for.
        maturin
            .args(["--interpreter", "python3.10", "--out"])
            .arg(folder);
        let target = format!("wheels-{machine}");
        maturin.env("CARGO_TARGET_DIR", self.workspace.target.join(target));
        // It looks for zig there.
        maturin.env("PATH", with_first(&tools.program(""))?);
        if let Some(compiler) = compiler {
            maturin.env("RUSTC", compiler);
        }
        command::run(&mut maturin)
    }

    fn make_unsupported(&self, native: &Path, folder: &Path) -> Result<()> {
        let mut make = self.tools(&self.interpreters.main)?.python();
        make.arg("-I")
            .arg(self.package.join("wheels/make_unsupported.py"));
        command::output(make.arg(native).arg(folder)).map(drop)
    }

    /// The wheel for other systems, made of this native one: that it refuses.
    pub(super) fn unsupported(&self, native: &Path) -> Result<Tally> {
        println!("-- the wheel for other systems");
        let main = &self.interpreters.main;
        let folder = self.folder.join("unsupported");
        let wheels = folder.join("wheel");
        command::fresh_dir(&wheels)?;
        self.make_unsupported(native, &wheels)?;
        let venv = Venv::new(main, &folder.join("venv"))?;
        let tools = self.tools(main)?;
        let mut pip = tools.python();
        pip.args(["-I", "-m", "pip", "--quiet", "--python"])
            .arg(venv.program("python"));
        pip.args(["install", "--no-index", "--no-compile"]);
        command::run(pip.arg(find(&wheels, "none-any")?))?;
        venv.borrow_modules(&tools)?;
        let mut pytest = venv.python();
        pytest.args(["-m", "pytest", "-q", "-p", "no:cacheprovider"]);
        pytest.args(["wheels/test_unsupported.py"]);
        pytest
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(&self.package);
        let mut report = super::pytest::Report::default();
        let status = command::tee_both(&mut pytest, |line| report.add_line(line))?;
        Ok(report.finish("the wheel for other systems", status, ""))
    }

    /// Asks pip which one it takes.
    fn taken(&self, folder: &Path, platform: &str, wanted: &str) -> Result<Tally> {
        let into = self.folder.join("taken");
        command::fresh_dir(&into)?;
        let mut pip = self.tools(&self.interpreters.main)?.python();
        pip.args(["-I", "-m", "pip", "--quiet", "--disable-pip-version-check"]);
        pip.args(["download", "--no-index", "--no-deps", "--only-binary=:all:"]);
        pip.args([
            "--python-version",
            "3.12",
            "--platform",
            platform,
            "--find-links",
        ]);
        pip.arg(folder).arg("--dest").arg(&into).arg("sysgenid");
        command::output(&mut pip)?;
        let taken = super::only_file(&into)?;
        println!("on {platform} pip takes {}", taken.display());
        let name = taken.to_string_lossy();
        if name.contains(wanted) {
            return Ok(Tally::ONE);
        }
        let reason = format!("pip takes {name} on {platform}");
        Ok(Tally::failed(Failure::of("wheels", &reason)))
    }

    /// Runs the one for Arm, in an emulator.
    fn on_arm(&self, wheel: &Path) -> Result<Tally> {
        let root = self.workspace.target.join("arm64-python");
        let folder = Folder {
            path: root.clone(),
            recipe: RECIPE,
            apt: Apt::new(&self.workspace.target, &apt::TRIXIE_WITH_ARM64)?,
        };
        let select = |apt: &Apt| {
            // With lists that do not exist yet, the download would name each package as missing.
            if !apt.has("qemu-user") {
                return Err(Error::new(format!("{} has no qemu-user", apt.archive)));
            }
            Ok(Selection {
                version: "Python for Arm".into(),
                packages: ARM.map(String::from).to_vec(),
            })
        };
        folder.open(false, select, |root, _| {
            let lib = root.join("lib");
            std::os::unix::fs::symlink("usr/lib", &lib)
                .context(|| format!("cannot make {}", lib.display()))
        })?;
        let modules = self.folder.join("arm64-modules");
        command::fresh_dir(&modules)?;
        let mut unpack = self.tools(&self.interpreters.main)?.python();
        command::run(
            unpack
                .args(["-I", "-m", "zipfile", "-e"])
                .arg(wheel)
                .arg(&modules),
        )?;
        let mut smoke = Command::new(root.join("usr/bin/qemu-aarch64"));
        smoke
            .arg("-L")
            .arg(&root)
            .arg(root.join("usr/bin/python3.13"));
        smoke.arg(self.package.join("wheels/smoke.py"));
        smoke
            .env("PYTHONPATH", &modules)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        Ok(check(&mut smoke))
    }
}

/// What the tools for it say of a wheel, and that the licences are in it.
fn inspect(tools: &Venv, wheel: &Path) -> Result<Tally> {
    let run = |name: &str, arguments: &[&str]| {
        let mut tool = Command::new(tools.program(name));
        tool.args(arguments).arg(wheel);
        tool
    };
    let mut tally = check(&mut run("twine", &["check", "--strict"]));
    tally += check(&mut run("check-wheel-contents", &[]));
    let name = wheel.to_string_lossy();
    let is_native = !name.contains("none-any");
    if is_native {
        tally += check(&mut run("abi3audit", &["--strict", "--report"]));
        let shown = command::output(&mut run("auditwheel", &["show"]))?;
        let machine = if name.contains("x86_64") {
            "x86_64"
        } else {
            "aarch64"
        };
        let is_told = shown.contains(&format!("\"manylinux_2_17_{machine}\""));
        println!("{shown}");
        tally += Tally::of_checks(&[("auditwheel: manylinux_2_17", is_told)]);
    }
    let list = command::output(
        tools
            .python()
            .args(["-I", "-m", "zipfile", "-l"])
            .arg(wheel),
    )?;
    let has = |text: &str| list.contains(text);
    tally += Tally::of_checks(&[
        ("the licence Apache-2.0", has("licenses/LICENSE-APACHE")),
        ("the licence MIT", has("licenses/LICENSE-MIT")),
        (
            "those of others",
            has("licenses/LICENSE-THIRD-PARTY") == is_native,
        ),
        ("the native module", has("_native.abi3.so") == is_native),
        ("types", has("sysgenid/py.typed")),
    ]);
    Ok(tally)
}

fn find(folder: &Path, part: &str) -> Result<PathBuf> {
    let files = command::files(folder)?;
    let mut files = files.into_iter();
    let found = files.find(|path| path.to_string_lossy().contains(part));
    found.context(|| format!("no wheel for {part} in {}", folder.display()))
}

/// The PATH with another folder before all.
fn with_first(folder: &Path) -> Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).context(|| "PATH")
}
