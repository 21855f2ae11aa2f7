// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `vm package`: the driver as an administrator installs it, by DKMS and with its udev rule, on a
//! Debian that runs in the VM. Its page of documentation is built, too.

use std::process::Command;
use std::time::Duration;

use super::apt::{self, Apt};
use super::debian::{Folder, Selection, invocation};
use super::initramfs::Initramfs;
use super::qemu::{Config, Machine, SUCCESS};
use super::{Kernel, Vm, guest, system};
use crate::command;
use crate::error::Result;
use crate::tally::Tally;
use crate::tap::Report;

const RECIPE: &str = "1";

/// The root may fill half of it. Until it is unpacked, the image is there twice.
const MEMORY: &str = "1536M";

const TIMEOUT: Duration = Duration::from_secs(15 * 60);

pub(crate) fn run(vm: &Vm, kernel: &Kernel) -> Result<Tally> {
    let mut tally = document(vm)?;
    tally += install(vm, kernel)?;
    Ok(tally)
}

/// Builds the page of documentation, without a warning.
fn document(vm: &Vm) -> Result<Tally> {
    let folder = Folder {
        path: vm.dir.join("docutils"),
        recipe: RECIPE,
        apt: Apt::new(&vm.dir, &apt::MACHINE)?,
    };
    let select = |apt: &Apt| {
        Ok(Selection {
            version: "docutils".into(),
            packages: apt.all_dependencies(&["python3-docutils"])?,
        })
    };
    folder.open(vm.refresh, select, |_, _| Ok(()))?;

    let [loader, words @ ..] = invocation(&folder.path, "usr/bin/python3")?;
    let mut docutils = Command::new(loader);
    docutils.args(words);
    docutils.env("PYTHONHOME", folder.path.join("usr"));
    docutils.env(
        "PYTHONPATH",
        folder.path.join("usr/lib/python3/dist-packages"),
    );
    docutils.args(["-m", "docutils", "--strict", "--writer=pseudoxml"]);
    let page = "driver/Documentation/virt/sysgenid.rst";
    docutils.arg(vm.workspace.root.join(page));
    command::output(&mut docutils)?;
    println!("# {page} builds without a warning");
    Ok(Tally::ONE)
}

/// Boots a Debian that installs the driver.
fn install(vm: &Vm, kernel: &Kernel) -> Result<Tally> {
    let system = system::open(vm, kernel)?;
    let dir = vm.run_dir()?;
    let initrd = dir.join("package.cpio");
    let scripts = vm.workspace.root.join("xtask/guest");
    let mut image = Initramfs::of_system(&system, &scripts.join("package.sh"))?;
    for script in ["common.sh", "tap.sh"] {
        image.add_file(script, &scripts.join(script))?;
    }
    image.add_file("exit", &guest::helper(vm, "exit")?)?;
    image.add_folder("src/", &vm.workspace.root.join("driver"))?;
    image.write(&initrd)?;

    let mut machine = Machine::start(
        vm,
        &Config {
            name: "package",
            kernel,
            guid: Some("auto"),
            initrd: &initrd,
            dir: &dir,
            snapshot: None,
            timeout: TIMEOUT,
            devices: &["-m", MEMORY],
            parameters: "",
        },
    )?;
    let mut report = Report::default();
    while let Some(line) = machine.line()? {
        println!("{line}");
        report.add_line(&line);
    }
    let console = dir.join("package.console");
    let status = machine.wait()?;
    if let Some(fault) = report.fault() {
        println!("# the guest's report is not whole: {fault}; QEMU ended with {status}");
        println!("{}", super::qemu::tail(&console));
    }
    Ok(report.tally().finish(status.code() == Some(SUCCESS)))
}
