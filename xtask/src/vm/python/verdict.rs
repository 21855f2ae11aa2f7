// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What must hold in the clones and in the controls, each with a name.

use super::clones::{Clone, Control, Report};
use crate::vm::subject::Dialect;

type Value = fn(&Report) -> &str;
type Checks = Vec<(&'static str, bool)>;

pub(super) fn checks(dialect: Dialect, clones: &[Clone; 2], controls: &[Control; 2]) -> Checks {
    let mut checks = of_numbers(clones, controls);
    checks.extend(of_events(dialect, clones, controls));
    checks.extend(of_controls(controls));
    if dialect == Dialect::V5 {
        println!("# sysgenid.generation() is not judged: on v5 only a process's watchers see it");
    } else {
        checks.push((
            "processes_see_the_generation_in_each_clone",
            clones.iter().all(|Clone { reports, .. }| {
                let sees = |report: &Report| report.generation == reports.generation;
                reports.interpreters().into_iter().all(sees)
            }),
        ));
    }
    checks
}

/// What is drawn.
fn of_numbers(clones: &[Clone; 2], controls: &[Control; 2]) -> Checks {
    let [a, b] = clones.each_ref().map(|clone| &clone.reports);
    // It goes on where the snapshot left off, as a clone would that notices nothing.
    let [c, _] = controls.each_ref().map(|control| &control.reports);
    let unprotected = |value: Value| [a, b, c].map(|machine| value(&machine.unprotected));
    let protected = |value: Value| [a, b, c].map(|machine| value(&machine.protected));
    let same = |[x, y, z]: [&str; 3]| x == y && x == z;
    let differ = |[x, y, z]: [&str; 3]| x != y && x != z && y != z;
    vec![
        // The fault that all this is about. If it is gone, the clones were no clones.
        (
            "unprotected_random_is_the_same_everywhere",
            same(unprotected(|report| &report.random)),
        ),
        (
            "unprotected_getrandbits_is_the_same_everywhere",
            same(unprotected(|report| &report.bits)),
        ),
        (
            "protected_random_is_of_each_machine_alone",
            differ(protected(|report| &report.random)),
        ),
        (
            "protected_getrandbits_is_of_each_machine_alone",
            differ(protected(|report| &report.bits)),
        ),
        (
            "uuid4_is_of_each_machine_alone",
            differ(unprotected(|report| &report.uuid)) && differ(protected(|report| &report.uuid)),
        ),
        (
            "guarded_values_are_of_each_machine_alone",
            differ(unprotected(|report| &report.guarded))
                && differ(protected(|report| &report.guarded)),
        ),
    ]
}

/// Who wakes, and who has acknowledged.
fn of_events(dialect: Dialect, clones: &[Clone; 2], controls: &[Control; 2]) -> Checks {
    let all = |holds: &dyn Fn(&Clone) -> bool| clones.iter().all(holds);
    let each = |holds: &dyn Fn(&Report) -> bool| {
        all(&|clone| clone.reports.interpreters().into_iter().all(holds))
    };
    // A watcher in each interpreter's loop, and one in its background. On v5 the orchestrator's own
    // counts as well.
    let watchers = match dialect {
        Dialect::V6 => "4",
        Dialect::V5 => "5",
    };
    let [control, _] = controls;
    vec![
        (
            "generation_is_new_in_each_clone",
            all(&|clone| clone.reports.generation != control.reports.generation),
        ),
        (
            "asyncio_watchers_wake_once_in_each_clone",
            each(&|report| report.wakes == "1"),
        ),
        (
            "hooks_run_once_in_each_clone",
            each(&|report| report.hooks == "1"),
        ),
        (
            "orchestrators_wait_returns_in_each_clone",
            all(&|clone| clone.settled == clone.reports.generation),
        ),
        (
            "command_sees_all_watchers_and_nobody_outdated",
            all(&|clone| clone.reports.tracked == watchers && clone.reports.outdated == "0"),
        ),
    ]
}

/// Nothing has happened to them, and they go on as one machine would have.
fn of_controls(controls: &[Control; 2]) -> Checks {
    let [c, again] = controls.each_ref().map(|control| &control.reports);
    let silent = |control: &Control| {
        let untouched = |report: &Report| report.wakes == "0" && report.hooks == "0";
        control.noise.is_none() && control.reports.interpreters().into_iter().all(untouched)
    };
    let alike =
        |value: fn(&Report) -> &str| c.interpreters().map(value) == again.interpreters().map(value);
    vec![
        ("controls_hear_nothing", controls.iter().all(silent)),
        (
            "controls_draw_alike_protected_or_not",
            alike(|report| &report.random) && alike(|report| &report.bits),
        ),
        (
            "controls_keep_their_guarded_values",
            alike(|report| &report.guarded),
        ),
    ]
}
