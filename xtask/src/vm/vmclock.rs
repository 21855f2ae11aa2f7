// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `vm vmclock`: mainline's vmclock driver, which is the kernel's own.
//!
//! QEMU's vmclock has no generation counter and notifies nobody, so there are two kinds of machines.
//! On one, the clock is an ACPI device over a page that the host writes: with a counter, and with
//! notifications. Its cases say what a client can rely on, and its clones that their counter is right
//! at the first load. On the other, the clock is QEMU's: what a client must not mistake for one that
//! counts. Beside both, `/dev/sysgenid` announces the restore.

use sysgenid_sys::abi;
use sysgenid_sys::vmclock::{self, offset};

use super::first_load::{Counter, TURNS};
use super::hypervisor::{GUID, Guest, PARALLEL_PORT, RESERVED, Rig};
use super::ram::Ram;
use super::{Driver, Kernel, Vm, acpi, guest, modules};
use crate::error::{Context, Error, Result};
use crate::tally::Tally;

const SUITES: [&str; 4] = ["vmclock-load", "vmclock", "hypervisor", "command"];

/// Where `vmclock.asl` says that the page lies.
const ADDRESS: u64 = 0x0c00_1000;

const CLOCK: Counter = Counter {
    name: "vmclock",
    load: |ram| ram.load_u64(at(offset::GENERATION_COUNTER)),
    store: restore,
    notify: Some(Guest::notify),
};

pub(crate) fn run(vm: &Vm, kernel: &Kernel) -> Result<Tally> {
    let mut rig = rig(vm, kernel)?;
    let mut tally = counting(&mut rig)?;
    tally += bare(&mut rig)?;
    Ok(tally)
}

fn rig<'a>(vm: &'a Vm, kernel: &'a Kernel) -> Result<Rig<'a>> {
    let dir = vm.run_dir()?;
    let initrd = dir.join("vmclock.cpio");
    let scripts = vm.workspace.root.join("xtask/guest");
    let mut image = guest::image(vm, "hypervisor.sh")?;
    for script in ["command.sh", "suite.sh", "tap.sh", "vmclock-load.sh"] {
        image.add_file(script, &scripts.join(script))?;
    }
    let driver = Driver::build(vm, kernel, None)?;
    image.add_file("sysgenid.ko", &driver.module)?;
    let modules = modules::add(vm, kernel, &["ptp_vmclock"], &mut image)?;
    image.add_text("modules", &modules.join(" "));
    image.add_file("conformance", &guest::conformance(vm)?)?;
    image.add_file("sysgenid", &guest::command(vm)?)?;
    image.write(&initrd)?;
    let mut rig = Rig::new(vm, kernel, dir, initrd);
    // It has a vmclock.
    rig.qemu = Some(vm.newer_qemu()?);
    Ok(rig)
}

/// A clock whose page the host writes.
fn counting(rig: &mut Rig<'_>) -> Result<Tally> {
    let table = acpi::table(rig.vm, "vmclock", &rig.dir)?;
    rig.devices = vec!["-acpitable".into(), table];
    rig.devices.extend(PARALLEL_PORT.map(String::from));
    rig.parameters = format!(
        "{RESERVED} suites={} agent=--vmclock=/dev/vmclock0 turns={TURNS}",
        SUITES.join(",")
    );
    // The driver looks at the flags only when it finds the device.
    let mut source = rig.boot("vmclock-source", GUID, create)?;
    let mut tally = source.suites(&SUITES, answer)?.tally;
    if tally.is_success() {
        tally += CLOCK.clones(rig, source)?;
    }
    Ok(tally)
}

/// Does what the suite asks of its hypervisor.
fn answer(guest: &mut Guest, request: &str) -> Result<()> {
    let ram = &guest.ram;
    match request.split_once(' ').unwrap_or((request, "")) {
        ("restore", counter) => {
            let counter = counter
                .parse()
                .context(|| format!("the guest asks for {request:?}"))?;
            restore(ram, counter)
        }
        ("migrate", "") => update(ram, disrupt),
        ("flags", flags) => {
            let flags = flags
                .parse()
                .context(|| format!("the guest asks for {request:?}"))?;
            update(ram, |ram| ram.store_u64(at(offset::FLAGS), flags))
        }
        ("begin" | "end", "") => turn_sequence(ram),
        ("notify", "") => guest.notify(),
        _ => Err(Error::new(format!("the guest asks for {request:?}"))),
    }
}

/// A page with a counter and with notifications, and with nothing about time.
fn create(ram: &Ram) -> Result<()> {
    const COUNTER_ID: usize = 10;
    const COUNTER_INVALID: u8 = 0xff;

    let flags = vmclock::FLAG_COUNTER_PRESENT | vmclock::FLAG_NOTIFICATION_PRESENT;
    ram.store_u32(at(offset::MAGIC), vmclock::MAGIC)?;
    ram.store_u32(at(offset::SIZE), 4096)?;
    ram.store(at(offset::VERSION), &vmclock::VERSION.to_le_bytes())?;
    ram.store(at(COUNTER_ID), &[COUNTER_INVALID])?;
    ram.store_u64(at(offset::FLAGS), flags)
}

fn at(offset: usize) -> u64 {
    // No offset in a page is too large.
    ADDRESS + u64::try_from(offset).unwrap_or(u64::MAX)
}

/// Changes the page as its specification says: the sequence is odd meanwhile.
fn update(ram: &Ram, change: impl FnOnce(&Ram) -> Result<()>) -> Result<()> {
    turn_sequence(ram)?;
    change(ram)?;
    turn_sequence(ram)
}

fn turn_sequence(ram: &Ram) -> Result<()> {
    let sequence = ram.load_u32(at(offset::SEQ_COUNT))?;
    ram.store_u32(at(offset::SEQ_COUNT), sequence.wrapping_add(1))
}

fn disrupt(ram: &Ram) -> Result<()> {
    let marker = ram.load_u64(at(offset::DISRUPTION_MARKER))?;
    ram.store_u64(at(offset::DISRUPTION_MARKER), marker.wrapping_add(1))
}

/// What a restore changes.
fn restore(ram: &Ram, counter: u64) -> Result<()> {
    update(ram, |ram| {
        disrupt(ram)?;
        ram.store_u64(at(offset::GENERATION_COUNTER), counter)
    })
}

/// QEMU's own clock.
fn bare(rig: &mut Rig<'_>) -> Result<Tally> {
    rig.devices = vec!["-device".into(), "vmclock".into()];
    rig.parameters = "suites=vmclock-load agent=bare".into();
    let mut source = rig.boot("vmclock-bare", GUID, |_| Ok(()))?;
    let mut tally = source.suites(&["vmclock-load"], answer)?.tally;
    if !tally.is_success() {
        return Ok(tally);
    }
    let before = source.agent.expect("ready")?;
    println!("# vmclock-bare: {before}");
    let snapshot = source.snapshot("vmclock-bare.snapshot")?;

    let mut clone = rig.restore(&snapshot, "vmclock-bare-clone", "auto")?;
    clone.go()?;
    let after = clone.ask("restored")?;
    clone.finish()?;

    let is = |key: &str, value: &str| -> Result<bool> {
        Ok(before.value(key)? == value && after.value(key)? == value)
    };
    let changed = |key: &str| -> Result<bool> { Ok(before.value(key)? != after.value(key)?) };
    tally += Tally::of_checks(&[
        (
            "qemus_clock_is_a_vmclock",
            is("magic", "0x4b4c4356")? && is("version", "1")? && is("size", "4096")?,
        ),
        ("qemus_clock_has_no_flags", is("flags", "0x0")?),
        ("qemus_clock_counts_no_generations", is("counter", "0")?),
        ("poll_hangs_up_on_qemus_clock", is("poll", "hup")?),
        (
            "sdk_refuses_qemus_clock",
            is("probe", "uncounted")? && is("observer", "uncounted")?,
        ),
        (
            "process_looks_at_sysgenid_alone",
            is("sources", abi::DEVICE_PATH)?,
        ),
        (
            "restore_disrupts_its_time",
            changed("marker")? && changed("seq")?,
        ),
        (
            "sysgenid_announces_the_restore_beside_it",
            changed("generation")?,
        ),
    ]);
    Ok(tally)
}
