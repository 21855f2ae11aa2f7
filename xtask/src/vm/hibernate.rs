// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `vm hibernate`: a guest writes itself to a disk, and goes on in another machine.
//!
//! The other machine has a new generation id, and nobody announces it: to the hypervisor it is a
//! machine that boots. So with the driver's parameter `hibernation` the generation changes, and
//! without it nothing does.

use std::time::Duration;

use super::agent::Agent;
use super::qemu::{Config, Machine};
use super::{Driver, Kernel, Vm, guest, modules};
use crate::error::{Context, Error, Result};
use crate::tally::Tally;

const TIMEOUT: Duration = Duration::from_secs(300);

/// Enough for all of the guest's memory.
const DISK: u64 = 300 << 20;

/// Of a disk that each kernel finds again after it slept. 5.10 loses an NVMe one.
const DISK_DRIVERS: [&str; 2] = ["virtio_pci", "virtio_blk"];

pub(crate) fn run(vm: &Vm, kernel: &Kernel) -> Result<Tally> {
    let driver = Driver::build(vm, kernel, None)?;
    let asked = hibernate(vm, kernel, &driver, "hibernate", "1")?;
    let control = hibernate(vm, kernel, &driver, "hibernate-control", "0")?;
    let checks = [
        (
            "resuming_changes_the_generation_if_asked_to",
            asked.before == "0" && asked.after == "1",
        ),
        ("resuming_wakes_a_blocked_reader", asked.woken == "yes"),
        (
            "resuming_changes_nothing_otherwise",
            control.before == "0" && control.after == "0" && control.woken == "no",
        ),
    ];
    Ok(Tally::of_checks(&checks))
}

/// What a guest said of itself.
struct Report {
    before: String,
    after: String,
    woken: String,
}

fn hibernate(
    vm: &Vm,
    kernel: &Kernel,
    driver: &Driver,
    name: &str,
    hibernation: &str,
) -> Result<Report> {
    let dir = vm.run_dir()?;
    let initrd = dir.join(format!("{name}.cpio"));
    let mut image = guest::image(vm, "hibernate.sh")?;
    image.add_file("sysgenid.ko", &driver.module)?;
    image.add_text("hibernation", hibernation);
    let modules = modules::add(vm, kernel, &DISK_DRIVERS, &mut image)?;
    image.add_text("modules", &modules.join(" "));
    image.write(&initrd)?;

    let disk = dir.join(format!("{name}.disk"));
    let empty = std::fs::File::create(&disk).and_then(|file| file.set_len(DISK));
    empty.context(|| format!("cannot create {}", disk.display()))?;
    let drive = format!("if=none,id=disk,format=raw,file={name}.disk");
    let boot = || {
        let config = Config {
            name,
            kernel,
            guid: Some("auto"),
            initrd: &initrd,
            dir: &dir,
            snapshot: None,
            timeout: TIMEOUT,
            devices: &["-drive", &drive, "-device", "virtio-blk-pci,drive=disk"],
            parameters: "",
        };
        Machine::start(vm, &config).map(|machine| Agent { machine })
    };

    let mut agent = boot()?;
    let before = agent.expect("hibernating")?.value("generation")?;
    let status = agent.machine.wait()?;
    if !status.success() {
        return Err(Error::new(format!(
            "the {name} machine should switch itself off, and ended with {status}"
        )));
    }
    let mut agent = boot()?;
    let resumed = agent.expect("resumed")?;
    println!("# {name}: before generation={before}, {resumed}");
    agent.end()?;
    Ok(Report {
        before,
        after: resumed.value("generation")?,
        woken: resumed.value("woken")?,
    })
}
