// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask criu`: a Rust and a Python process that a real CRIU has copied, and forks of the
//! copies; and services in Python, with the package and without. CRIU is unpacked from Debian 13, whose version loses `MADV_WIPEONFORK`.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;
use crate::error::{Context, Error, Result};
use crate::python::Python;
use crate::tally::Tally;
use crate::tap::Report;
use crate::vm::apt::{self, Apt};
use crate::vm::debian::{Folder, Selection, invocation};
use crate::workspace::Workspace;

const RECIPE: &str = "1";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Fetch CRIU again
    #[arg(long)]
    refresh: bool,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    if let Some(reason) = obstacle()? {
        return Err(Error::new(reason));
    }
    let tally = copies(&Workspace::load()?, args.refresh)?;
    println!("{tally}");
    Ok(tally.is_success())
}

/// The same as a step of the tests, which leaves it out where CRIU cannot run.
pub(crate) fn test(workspace: &Workspace) -> Result<Tally> {
    match obstacle()? {
        Some(reason) => Ok(Tally {
            skipped: vec![reason.into()],
            ..Tally::default()
        }),
        None => copies(workspace, false),
    }
}

fn copies(workspace: &Workspace, refresh: bool) -> Result<Tally> {
    let criu = unpack(&workspace.target.join("criu"), refresh)?;
    let python = Python::open(workspace)?;
    let main = &python.interpreters.main;
    let venv = python.installed(main, &python.wheel(main)?)?;

    let interpreter = venv.program("python");
    let in_python = ["--python".as_ref(), interpreter.as_os_str()];
    let of_services = [in_python[0], in_python[1], "--services".as_ref()];
    let mut tally = copy(workspace, &criu, &[])?.within("rust");
    tally += copy(workspace, &criu, &in_python)?.within("python");
    tally += copy(workspace, &criu, &of_services)?.within("services");
    Ok(tally)
}

/// Why CRIU cannot run here.
fn obstacle() -> Result<Option<&'static str>> {
    let this = Path::new("/proc/self");
    let this = this.metadata().context(|| "cannot look at /proc/self")?;
    Ok(if this.uid() != 0 {
        Some("CRIU takes processes apart and needs root")
    } else if ["apt-get", "apt-cache", "dpkg"]
        .iter()
        .any(|program| command::find(program).is_none())
    {
        Some("CRIU is unpacked from Debian packages, and this machine has no apt-get and dpkg")
    } else if !cfg!(target_arch = "x86_64") {
        Some("CRIU is unpacked for amd64, and this is another machine")
    } else {
        None
    })
}

/// Where CRIU is, with the libraries that it came with.
fn unpack(dir: &Path, refresh: bool) -> Result<PathBuf> {
    std::fs::create_dir_all(dir).context(|| format!("cannot create {}", dir.display()))?;
    let folder = Folder {
        path: dir.join("root"),
        recipe: RECIPE,
        apt: Apt::new(dir, &apt::TRIXIE)?,
    };
    let select = |apt: &Apt| {
        Ok(Selection {
            version: "CRIU".into(),
            packages: apt.all_dependencies(&["criu"])?,
        })
    };
    folder.open(refresh, select, |_, _| Ok(()))?;
    Ok(folder.path)
}

/// Runs the suite on a process of this program or, as the arguments say, of Python programs.
fn copy(workspace: &Workspace, criu: &Path, arguments: &[&OsStr]) -> Result<Tally> {
    let mut build = workspace.cargo();
    build.args(["build", "--quiet", "--package", "sysgenid-conformance"]);
    command::run(&mut build)?;
    let program = workspace.target.join("debug/sysgenid-conformance");
    let mut suite = Command::new(program);
    suite.arg("criu");
    for word in invocation(criu, "usr/sbin/criu")? {
        // What looks like an option belongs to the word before, not to the suite.
        suite.arg({
            let mut option = std::ffi::OsString::from("--criu=");
            option.push(word);
            option
        });
    }
    suite.args(arguments);
    let mut report = Report::default();
    let success = command::tee(&mut suite, |line| report.add_line(line))?;
    if let Some(fault) = report.fault() {
        println!("{fault}");
    }
    Ok(report.tally().finish(success && report.fault().is_none()))
}
