// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The clones side by side, for people.

use super::clones::{Clone, Control, Report, Reports};

type Value = fn(&Report) -> &str;
type Interpreter = fn(&Reports) -> &Report;

/// What an interpreter drew, by the call that a program would write.
const VALUES: [(&str, Value); 4] = [
    ("random.random()", |report| &report.random),
    ("random.getrandbits(64)", |report| &report.bits),
    ("uuid.uuid4()", |report| &report.uuid),
    ("Guarded(…).get()", |report| &report.guarded),
];

/// An interpreter of a machine, and its name.
const INTERPRETERS: [(&str, Interpreter); 2] = [
    ("unprotected", |reports| &reports.unprotected),
    ("protected", |reports| &reports.protected),
];

pub(super) fn print(clones: &[Clone; 2], controls: &[Control; 2]) {
    let [a, b] = clones.each_ref().map(|clone| &clone.reports);
    println!();
    values(["interpreter", "draws", a.name, b.name, ""]);
    values([11, 22, 36, 36, 9].map(dash));
    for (interpreter, of) in INTERPRETERS {
        for (call, value) in VALUES {
            let (a, b) = (value(of(a)), value(of(b)));
            let verdict = if a == b { "EQUAL" } else { "different" };
            values([interpreter, call, a, b, verdict]);
        }
    }
    println!();
    events([
        "machine",
        "generation",
        "woke in asyncio",
        "hooks ran",
        "outdated",
    ]);
    events([9, 10, 15, 9, 8].map(dash));
    let machines = clones.iter().map(|clone| &clone.reports);
    for machine in machines.chain(controls.iter().map(|control| &control.reports)) {
        let both = |count: Value| machine.interpreters().map(count).join(" and ");
        events([
            machine.name,
            &machine.generation,
            &both(|report| &report.wakes),
            &both(|report| &report.hooks),
            &format!("{} of {}", machine.outdated, machine.tracked),
        ]);
    }
    println!();
    for clone in clones {
        let (name, after) = (clone.reports.name, clone.after);
        println!("# {name} had settled {after:.1?} after its QEMU was started");
    }
}

fn dash(count: usize) -> &'static str {
    let dashes = "------------------------------------";
    dashes.get(..count).unwrap_or(dashes)
}

fn values([interpreter, call, a, b, verdict]: [&str; 5]) {
    println!("| {interpreter:11} | {call:22} | {a:36} | {b:36} | {verdict:9} |");
}

fn events([machine, generation, wakes, hooks, outdated]: [&str; 5]) {
    println!("| {machine:9} | {generation:10} | {wakes:15} | {hooks:9} | {outdated:8} |");
}
