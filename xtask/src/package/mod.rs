// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask package`: what is installed. What it is made of lies in packaging/ and driver/.

mod deb;
mod program;
mod service;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;
use crate::error::{Context, Error, Result};
use crate::tally::Tally;
use crate::workspace::Workspace;
use deb::{Deb, Tree};

/// What a service may be exposed to, as systemd reckons it: a tenth of a point each.
const MOST_EXPOSED: &str = "20";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build all of it twice and compare, and install the service where a systemd runs
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    let workspace = Workspace::load()?;
    if args.check {
        let tally = test(&workspace)?;
        println!("{tally}");
        return Ok(tally.is_success());
    }
    let folder = workspace.target.join("package");
    for path in Made::build(&workspace, &folder)?.all() {
        let length = std::fs::metadata(path).map_or(0, |it| it.len());
        println!("{} ({} KiB)", path.display(), length / 1024);
    }
    Ok(true)
}

/// Builds all of it twice and checks it: a step of `cargo xtask ci`.
pub(crate) fn test(workspace: &Workspace) -> Result<Tally> {
    let target = &workspace.target;
    let made = Made::build(workspace, &target.join("package"))?;
    let again = Made::build(workspace, &target.join("package-again"))?;
    let mut checks = Vec::new();
    for (first, second) in made.all().into_iter().zip(again.all()) {
        let is_same = read(first)? == read(second)?;
        checks.push((format!("{} is reproducible", name(first)), is_same));
    }
    let unit = workspace.root.join("packaging/systemd/sysgenid.service");
    let hardened = is_hardened(&unit)?;
    checks.extend(hardened.map(|holds| ("the service is hardened".into(), holds)));
    let checks: Vec<_> = checks
        .iter()
        .map(|(name, holds)| (name.as_str(), *holds))
        .collect();
    let mut tally = Tally::of_checks(&checks);
    if hardened.is_none() {
        let reason = "the service is hardened: this machine has no systemd-analyze";
        tally.skipped.push(reason.into());
    }
    tally += serve(workspace, &made.userspace)?;
    Ok(tally)
}

/// Installs the service with a program that is built already, which takes less time: a step of
/// `cargo xtask test`.
pub(crate) fn test_service(workspace: &Workspace) -> Result<Tally> {
    let folder = workspace.target.join("package-quick");
    command::fresh_dir(&folder)?;
    let program = program::quick(workspace)?;
    let values = values()?;
    let debian = workspace.root.join("packaging/debian");
    let maker = deb::Maker::new(&debian, &folder, &values)?;
    let package = maker.build(&userspace(workspace, &program, &folder)?)?;
    serve(workspace, &package)
}

fn serve(workspace: &Workspace, package: &Path) -> Result<Tally> {
    let tests = workspace.root.join("packaging/tests");
    service::test(package, &tests, &workspace.target.join("service"))
}

/// What there is to install.
struct Made {
    program: PathBuf,
    userspace: PathBuf,
    kernel: PathBuf,
}

impl Made {
    fn build(workspace: &Workspace, folder: &Path) -> Result<Self> {
        command::fresh_dir(folder)?;
        let program = program::build(workspace, folder)?;
        let values = values()?;
        let debian = workspace.root.join("packaging/debian");
        let maker = deb::Maker::new(&debian, folder, &values)?;
        Ok(Self {
            userspace: maker.build(&userspace(workspace, &program, folder)?)?,
            kernel: maker.build(&kernel(workspace, &values)?)?,
            program,
        })
    }

    fn all(&self) -> [&Path; 3] {
        [&self.program, &self.userspace, &self.kernel]
    }
}

/// What stands in the places of dpkg's part.
fn values() -> Result<BTreeMap<&'static str, String>> {
    Ok(BTreeMap::from([
        ("@VERSION@", env!("CARGO_PKG_VERSION").to_owned()),
        ("@ARCHITECTURE@", deb::architecture()?),
    ]))
}

/// The command, and the userspace driver as a service.
fn userspace(workspace: &Workspace, program: &Path, folder: &Path) -> Result<Deb> {
    let generated = folder.join("generated");
    command::output(Command::new(program).arg("generate").arg(&generated))?;

    let packaging = workspace.root.join("packaging");
    let mut tree = Tree::new();
    tree.program("usr/bin/sysgenid", program)?;
    for path in command::files(&generated)? {
        let name = name(&path);
        match name.rsplit_once('.') {
            Some((_, "1")) => tree.compressed(&format!("usr/share/man/man1/{name}"), &path)?,
            Some((_, "bash")) => {
                tree.file("usr/share/bash-completion/completions/sysgenid", &path)?
            }
            Some((_, "fish")) => {
                tree.file("usr/share/fish/vendor_completions.d/sysgenid.fish", &path)?
            }
            _ => tree.file("usr/share/zsh/vendor-completions/_sysgenid", &path)?,
        }
    }
    let systemd = packaging.join("systemd");
    tree.file(
        "lib/systemd/system/sysgenid.service",
        &systemd.join("sysgenid.service"),
    )?;
    tree.file(
        "usr/lib/sysusers.d/sysgenid.conf",
        &systemd.join("sysgenid.sysusers"),
    )?;
    tree.file(
        "usr/share/doc/sysgenid/examples/sysgenid-settled.service",
        &systemd.join("sysgenid-settled.service"),
    )?;
    let rules = "61-sysgenid-vmclock.rules";
    tree.file(
        &format!("lib/udev/rules.d/{rules}"),
        &packaging.join("udev").join(rules),
    )?;
    tree.documents(workspace, "sysgenid")?;
    Ok(Deb {
        name: "sysgenid",
        tree,
    })
}

/// The sources of the kernel driver, for DKMS.
fn kernel(workspace: &Workspace, values: &BTreeMap<&str, String>) -> Result<Deb> {
    let driver = workspace.root.join("driver");
    let version = of_the_driver(&driver)?;
    if values.get("@VERSION@") != Some(&version) {
        return Err(Error::new(format!(
            "driver/dkms.conf has the version {version}, and the workspace another"
        )));
    }
    let sources = format!("usr/src/sysgenid-{version}");
    let mut tree = Tree::new();
    for path in tracked(workspace, "driver")? {
        let inside = path.strip_prefix("driver").unwrap_or(&path);
        let first = inside.components().next();
        let first = first.map(|it| it.as_os_str().to_string_lossy().into_owned());
        // The rest is installed elsewhere, or is not needed for the build.
        let is_source = !matches!(
            first.as_deref(),
            Some("tests" | "upstream" | "udev" | "sysusers.d" | "modules-load.d")
        );
        if is_source {
            let to = format!("{sources}/{}", inside.display());
            tree.file(&to, &workspace.root.join(&path))?;
        }
    }
    let installed = [
        ("udev", "lib/udev/rules.d/60-sysgenid.rules"),
        ("sysusers.d", "usr/lib/sysusers.d/sysgenid-dkms.conf"),
        ("modules-load.d", "usr/lib/modules-load.d/sysgenid.conf"),
    ];
    for (folder, to) in installed {
        let files = command::files(&driver.join(folder))?;
        let [file] = files.as_slice() else {
            return Err(Error::new(format!("driver/{folder} has not one file")));
        };
        tree.file(to, file)?;
    }
    tree.documents(workspace, "sysgenid-dkms")?;
    Ok(Deb {
        name: "sysgenid-dkms",
        tree,
    })
}

/// The files of a directory that belong to the repository.
fn tracked(workspace: &Workspace, folder: &str) -> Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", folder])
        .current_dir(&workspace.root);
    let names = command::output(&mut git)?;
    let names = names.split('\0').filter(|name| !name.is_empty());
    Ok(names.map(PathBuf::from).collect())
}

/// The version that DKMS is told.
fn of_the_driver(driver: &Path) -> Result<String> {
    let configuration = driver.join("dkms.conf");
    let text = read(&configuration)?;
    String::from_utf8_lossy(&text)
        .lines()
        .find_map(|line| line.strip_prefix("PACKAGE_VERSION="))
        .map(|value| value.trim_matches('"').to_owned())
        .context(|| format!("{} has no version", configuration.display()))
}

/// As systemd computes it; `None` on a machine without systemd's program for that.
fn is_hardened(unit: &Path) -> Result<Option<bool>> {
    if command::find("systemd-analyze").is_none() {
        return Ok(None);
    }
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=true", "--no-pager"]);
    analyze.arg(format!("--threshold={MOST_EXPOSED}")).arg(unit);
    command::tee(&mut analyze, |_| ()).map(Some)
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).context(|| format!("cannot read {}", path.display()))
}
