// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The package of the userspace driver, installed where a real systemd runs: in namespaces of its own,
//! on a copy of this machine's files.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::read;
use crate::command;
use crate::error::{Context, Result};
use crate::failure::Failure;
use crate::tally::Tally;
use crate::tap::Report;

/// More seconds than it takes on a busy machine.
const PATIENCE: &str = "300";

/// All but that of the network: mounts, processes, names, System V's and cgroups.
const NAMESPACES: [&str; 7] = [
    "--fork",
    "--pid",
    "--mount",
    "--ipc",
    "--uts",
    "--cgroup",
    "--kill-child",
];

/// Tests the package. `tests` has the scripts; `folder` is emptied, for the package and the report.
pub(super) fn test(package: &Path, tests: &Path, folder: &Path) -> Result<Tally> {
    if let Some(reason) = missing() {
        println!("left out: {reason}");
        return Ok(Tally {
            skipped: vec![reason],
            ..Tally::default()
        });
    }
    command::fresh_dir(folder)?;
    let (copy, given) = (folder.join("copy"), folder.join("given"));
    command::fresh_dir(&copy)?;
    command::fresh_dir(&given)?;
    for (from, to) in [
        (package, "sysgenid.deb"),
        (&tests.join("service.sh"), "service.sh"),
    ] {
        fs::copy(from, given.join(to)).context(|| format!("cannot copy {}", from.display()))?;
    }
    let mut machine = Command::new("timeout");
    machine
        .args(["--signal=KILL", PATIENCE, "unshare"])
        .args(NAMESPACES);
    machine.arg("bash").arg(tests.join("machine.sh"));
    machine.arg(&copy).arg(&given);
    command::run(&mut machine)?;

    let report = given.join("report");
    let text = read(&report)?;
    let text = String::from_utf8_lossy(&text);
    let mut found = Report::default();
    for line in text.lines() {
        println!("{line}");
        found.add_line(line);
    }
    let mut tally = found.tally();
    if let Some(fault) = found.fault() {
        tally += Tally::failed(Failure::new(fault));
    }
    Ok(tally)
}

/// Why it cannot be done here.
fn missing() -> Option<String> {
    if !Path::new("/lib/systemd/systemd").exists() {
        return Some("the service: this machine has no systemd".into());
    }
    let mut unshare = Command::new("unshare");
    unshare.args(NAMESPACES).arg("true");
    let error = command::output(&mut unshare).err()?;
    Some(format!("the service: {error}"))
}
