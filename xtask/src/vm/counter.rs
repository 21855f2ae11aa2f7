// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `vm counter`: `/dev/vmgenid`, on a machine whose host keeps the counter.
//!
//! First the node's behaviour, where the host stores a counter whenever a case asks for it. Then the
//! clones of that machine, and the machines on which the module refuses to load. Last, machines
//! whose device is found by its hardware id alone.

use super::driver::Variant;
use super::first_load::{Counter, TURNS};
use super::hypervisor::{GUID, Guest, PARALLEL_PORT, RESERVED, Rig};
use super::suites::{Findings, Listener};
use super::{Driver, Kernel, Vm, acpi, guest};
use crate::error::{Context, Error, Result};
use crate::tally::Tally;

/// The suite of the node's behaviour.
pub(crate) const SUITE: &str = "vmgenid";

const SUITES: [&str; 5] = [
    "vmgenid-load",
    SUITE,
    "hypervisor",
    "command",
    "vmgenid-unload",
];

/// Where `counter.asl` says that the counter lies.
const ADDRESS: u64 = 0x0c00_0000;

const COUNTER: Counter = Counter {
    name: "counter",
    load: |ram| ram.load_u32(ADDRESS).map(u64::from),
    store: |ram, counter| {
        let counter = u32::try_from(counter).context(|| "the counter has 32 bits")?;
        ram.store_u32(ADDRESS, counter)
    },
    notify: None,
};

/// Where `by-hardware-id.asl` says that the VM generation id lies.
const ID: u64 = 0x0c00_1000;

/// The suite of a machine on which the module must not load.
pub(crate) const REFUSED: &str = "vmgenid-refused";

/// A machine without a usable counter.
struct Refusal {
    /// Names its fault, for the guest's script too.
    name: &'static str,
    table: Option<&'static str>,
    /// For the kernel.
    parameters: &'static str,
    /// Whether QEMU's own device is there, which the table may be about.
    has_qemus_device: bool,
}

impl Refusal {
    const fn new(name: &'static str, table: Option<&'static str>) -> Self {
        Self {
            name,
            table,
            parameters: RESERVED,
            has_qemus_device: true,
        }
    }

    /// With a device of the table's own.
    const fn of_its_own(name: &'static str) -> Self {
        Self {
            has_qemus_device: false,
            ..Self::new(name, Some(name))
        }
    }
}

const REFUSALS: [Refusal; 7] = [
    Refusal::new("absent", None),
    Refusal::new("malformed", Some("counter-malformed")),
    Refusal::new("misaligned", Some("counter-misaligned")),
    Refusal {
        parameters: "",
        ..Refusal::new("unreserved", Some("counter"))
    },
    // As on a machine with a device tree, there are no tables to look through.
    Refusal {
        parameters: "acpi=off",
        ..Refusal::new("without-acpi", None)
    },
    Refusal::of_its_own("beside-the-id"),
    Refusal::of_its_own("without-an-id"),
];

pub(crate) fn run(vm: &Vm, kernel: &Kernel) -> Result<Tally> {
    let mut rig = rig(vm, kernel, &Driver::build(vm, kernel, None)?)?;
    let mut source = boot(&mut rig, "counter-source")?;
    let mut tally = source.suites(&SUITES, answer)?.tally;
    if !tally.is_success() {
        return Ok(tally);
    }
    tally += COUNTER.clones(&rig, source)?;
    for refusal in &REFUSALS {
        let findings = refusal.show(&mut rig, Listener::default(), "counter")?;
        tally += findings.tally;
    }
    tally += by_hardware_id(&mut rig)?;
    Ok(tally)
}

/// Runs the suites on a driver with a planted fault, and nothing else.
pub(crate) fn suites_on(vm: &Vm, kernel: &Kernel, driver: &Driver, name: &str) -> Result<Findings> {
    let listener = Listener::new(Some(SUITE));
    boot(&mut rig(vm, kernel, driver)?, name)?.suites_with(listener, &SUITES, answer)
}

/// Shows a driver with a planted fault to the machine that a case names at its end, on which it must
/// not load.
pub(crate) fn refusal_on(
    vm: &Vm,
    kernel: &Kernel,
    driver: &Driver,
    name: &str,
    case: &str,
) -> Result<Findings> {
    let refusal = REFUSALS
        .iter()
        .find(|refusal| case.ends_with(refusal.name))
        .context(|| format!("{case} names no machine"))?;
    let mut rig = rig(vm, kernel, driver)?;
    refusal.show(&mut rig, Listener::new(Some(REFUSED)), name)
}

fn boot(rig: &mut Rig<'_>, name: &str) -> Result<Guest> {
    rig.devices = vec![
        "-acpitable".into(),
        acpi::table(rig.vm, "counter", &rig.dir)?,
    ];
    rig.parameters = format!(
        "{RESERVED} suites={} agent=--vmgenid=/dev/vmgenid turns={TURNS}",
        SUITES.join(",")
    );
    rig.boot(name, GUID, |_| Ok(()))
}

fn rig<'a>(vm: &'a Vm, kernel: &'a Kernel, driver: &Driver) -> Result<Rig<'a>> {
    let dir = vm.run_dir()?;
    let initrd = dir.join("counter.cpio");
    let scripts = vm.workspace.root.join("xtask/guest");
    let mut image = guest::image(vm, "hypervisor.sh")?;
    for script in [
        "command.sh",
        "suite.sh",
        "tap.sh",
        "unload.sh",
        "vmgenid-by-hardware-id.sh",
        "vmgenid-load.sh",
        "vmgenid-refused.sh",
    ] {
        image.add_file(script, &scripts.join(script))?;
    }
    image.add_file("hold", &guest::helper(vm, "hold")?)?;
    image.add_file("sysgenid.ko", &driver.module)?;
    image.add_file("vmgenid_counter.ko", &driver.counter)?;
    // For what this kernel's own driver does not know, or might not do.
    for (name, variant) in [
        ("sysgenid-acpi.ko", Variant::ACPI),
        ("sysgenid-unheard.ko", Variant::UNHEARD),
    ] {
        let driver = Driver::build_variant(vm, kernel, None, &variant)?;
        image.add_file(name, &driver.module)?;
    }
    image.add_file("conformance", &guest::conformance(vm)?)?;
    image.add_file("sysgenid", &guest::command(vm)?)?;
    image.add_text("backend", &kernel.backend().to_string());
    image.write(&initrd)?;
    Ok(Rig::new(vm, kernel, dir, initrd))
}

/// Does what the suite asks of its hypervisor.
fn answer(guest: &mut Guest, request: &str) -> Result<()> {
    match request.split_once(' ').unwrap_or((request, "")) {
        ("counter", counter) => {
            let counter = counter
                .parse()
                .context(|| format!("the guest asks for {request:?}"))?;
            guest.ram.store_u32(ADDRESS, counter)
        }
        ("id", id) => {
            let id = id
                .parse()
                .context(|| format!("the guest asks for {request:?}"))?;
            guest.ram.store_u64(ID, id)
        }
        ("notify", "") => guest.notify(),
        _ => Err(Error::new(format!("the guest asks for {request:?}"))),
    }
}

impl Refusal {
    /// Boots the machine. The module must not load, and must say why.
    fn show(&self, rig: &mut Rig<'_>, listener: Listener, prefix: &str) -> Result<Findings> {
        let name = self.name;
        rig.devices = match self.table {
            Some(table) => vec!["-acpitable".into(), acpi::table(rig.vm, table, &rig.dir)?],
            None => Vec::new(),
        };
        rig.parameters = format!("{} suites={REFUSED} refused={name}", self.parameters);
        let guid = self.has_qemus_device.then_some(GUID);
        let mut guest = rig.boot(&format!("{prefix}-{name}"), guid, |_| Ok(()))?;
        let findings = guest.suites_with(listener, &[REFUSED], answer)?;
        // Failed cases explain how it ended.
        if findings.red.is_empty() {
            guest.agent.end()?;
        }
        Ok(findings)
    }
}

/// A machine whose device has a hardware id and no compatible one, so that no driver of the
/// kernel's own is bound to it. The host changes the id and notifies of it.
fn by_hardware_id(rig: &mut Rig<'_>) -> Result<Tally> {
    const SUITES: [&str; 1] = ["vmgenid-by-hardware-id"];

    let table = acpi::table(rig.vm, "by-hardware-id", &rig.dir)?;
    rig.devices = vec!["-acpitable".into(), table];
    rig.devices.extend(PARALLEL_PORT.map(String::from));
    rig.parameters = format!("{RESERVED} suites={}", SUITES.join(","));
    let mut guest = rig.boot("counter-by-hardware-id", None, |_| Ok(()))?;
    let findings = guest.suites(&SUITES, answer)?;
    guest.agent.end()?;
    Ok(findings.tally)
}
