// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `vm counter`: `/dev/vmgenid`, on a machine whose host keeps the counter.
//!
//! First the node's behaviour, where the host stores a counter whenever a case asks for it. Then the
//! clones of that machine. Last, the machines on which the module refuses to load.

use super::first_load::{Counter, TURNS};
use super::hypervisor::{GUID, Guest, RESERVED, Rig};
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

/// Machines without a usable counter: their table, whether the page is reserved, and how the module
/// refuses.
const REFUSALS: [(&str, Option<&str>, bool); 4] = [
    ("absent", None, true),
    ("malformed", Some("counter-malformed"), true),
    ("misaligned", Some("counter-misaligned"), true),
    ("unreserved", Some("counter"), false),
];

pub(crate) fn run(vm: &Vm, kernel: &Kernel) -> Result<Tally> {
    let mut rig = rig(vm, kernel, &Driver::build(vm, kernel, None)?)?;
    let mut source = boot(&mut rig, "counter-source")?;
    let mut tally = source.suites(&SUITES, answer)?.tally;
    if !tally.is_success() {
        return Ok(tally);
    }
    tally += COUNTER.clones(&rig, source)?;
    for (name, table, reserved) in REFUSALS {
        tally += refusal(&mut rig, name, table, reserved)?;
    }
    Ok(tally)
}

/// Runs the suites on a driver with a planted fault, and nothing else.
pub(crate) fn suites_on(vm: &Vm, kernel: &Kernel, driver: &Driver, name: &str) -> Result<Findings> {
    let listener = Listener::new(Some(SUITE));
    boot(&mut rig(vm, kernel, driver)?, name)?.suites_with(listener, &SUITES, answer)
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
        "vmgenid-load.sh",
        "vmgenid-refused.sh",
    ] {
        image.add_file(script, &scripts.join(script))?;
    }
    image.add_file("hold", &guest::helper(vm, "hold")?)?;
    image.add_file("sysgenid.ko", &driver.module)?;
    image.add_file("vmgenid_counter.ko", &driver.counter)?;
    image.add_file("conformance", &guest::conformance(vm)?)?;
    image.add_file("sysgenid", &guest::command(vm)?)?;
    image.add_text("backend", &kernel.backend().to_string());
    image.write(&initrd)?;
    Ok(Rig::new(vm, kernel, dir, initrd))
}

/// Does what the suite asks of its hypervisor.
fn answer(guest: &mut Guest, request: &str) -> Result<()> {
    let counter = request.strip_prefix("counter ").map(str::parse);
    match counter {
        Some(Ok(counter)) => guest.ram.store_u32(ADDRESS, counter),
        _ => Err(Error::new(format!("the guest asks for {request:?}"))),
    }
}

/// A machine on which the module must not load, and must say why.
fn refusal(rig: &mut Rig<'_>, name: &str, table: Option<&str>, reserved: bool) -> Result<Tally> {
    rig.devices = match table {
        Some(table) => vec!["-acpitable".into(), acpi::table(rig.vm, table, &rig.dir)?],
        None => Vec::new(),
    };
    let reserved = if reserved { RESERVED } else { "" };
    rig.parameters = format!("{reserved} suites=vmgenid-refused refused={name}");
    let mut guest = rig.boot(&format!("counter-{name}"), GUID, |_| Ok(()))?;
    let findings = guest.suites(&["vmgenid-refused"], answer)?;
    guest.agent.end()?;
    Ok(findings.tally)
}
