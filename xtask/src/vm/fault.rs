// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Plants faults in a copy of the driver, to prove that the tests find them.
//!
//! A fault is a patch in `xtask/faults`. The text before the patch says what it does, and a line
//! `Turns red: suite/case` names the case that guards against it. A fault of the shipped drivers
//! that clients must get along with has lines `Survived by: suite`, for each suite that must stay
//! green. A fault of the older dialect has a line `Dialect: v5`, and one that shows on a machine
//! without a vmgenid device a line `Backend: trigger`.

use std::path::Path;

use super::subject::{Backend, Dialect};
use super::suites::Run;
use super::{Driver, Kernel, Vm, counter};
use crate::error::{Context, Error, Result};
use crate::failure::Failure;
use crate::tally::Tally;

const MARK: &str = "Turns red: ";
const SURVIVED: &str = "Survived by: ";
const V5: &str = "Dialect: v5";
const BARE: &str = "Backend: trigger";

/// The fault of the shipped drivers that event loops must get along with.
pub(crate) const LOST_WAKE_UPS: &str = "poll-wait-late";

/// Whether the tests find the fault, and those that are to survive it do.
pub(crate) fn prove(vm: &Vm, kernel: &Kernel, name: &str, cases: u32) -> Result<Tally> {
    let patch = vm
        .workspace
        .root
        .join("xtask/faults")
        .join(format!("{name}.patch"));
    let text = std::fs::read_to_string(&patch).context(|| {
        format!(
            "no fault {name:?}; there are {}",
            names(vm).unwrap_or_default().join(", ")
        )
    })?;
    let guard = text
        .lines()
        .find_map(|line| line.strip_prefix(MARK))
        .context(|| format!("{} does not say what it turns red", patch.display()))?;

    let is_v5 = text.lines().any(|line| line == V5);
    let dialect = if is_v5 { Dialect::V5 } else { Dialect::V6 };

    let is_bare = text.lines().any(|line| line == BARE);
    let backend = if is_bare {
        Backend::Trigger
    } else {
        kernel.backend()
    };

    let driver = Driver::build(vm, kernel, Some(&patch))?;
    // What other suites would say is not asked: they may not survive the fault.
    let suite = guard.split('/').next().unwrap_or(guard);
    let survivors: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix(SURVIVED))
        .collect();
    let mut suites = vec!["load"];
    suites.extend((suite != "load").then_some(suite));
    suites.extend(&survivors);
    let run = Run {
        name: &format!("fault-{name}"),
        kernel,
        driver: &driver,
        dialect,
        backend,
        suites: &suites,
        planted: Some(suite),
        cases,
        devices: &[],
    };
    let findings = match suite {
        counter::SUITE => counter::suites_on(vm, kernel, &driver, run.name)?,
        counter::REFUSED => counter::refusal_on(vm, kernel, &driver, run.name, guard)?,
        _ => run.on(vm)?,
    };
    let found = findings.red.iter().any(|case| case == guard);
    println!("# fault {name}: red are {}", list(&findings.red));
    println!(
        "# fault {name}: {guard} is {}",
        if found { "red: found" } else { "green: MISSED" }
    );
    let mut failures = Vec::new();
    if !found {
        failures.push(Failure::of(guard, &format!("{name} is not found")));
    }
    for survivor in survivors {
        // Its cases, and the suite itself if it broke off or was not run.
        let of_survivor = |failure: &&Failure| failure.name.split('/').next() == Some(survivor);
        let hurt = findings.tally.failures.iter().filter(of_survivor);
        let names: Vec<_> = hurt.clone().map(|failure| &failure.name).collect();
        println!(
            "# fault {name}: in {survivor}, which must survive it, red are {}",
            list(&names)
        );
        failures.extend(hurt.cloned());
    }
    if failures.is_empty() {
        return Ok(Tally::ONE);
    }
    let mut tally = Tally::default();
    for failure in failures {
        tally += Tally::failed(failure);
    }
    Ok(tally)
}

/// Whether the tests find each of the faults.
pub(crate) fn prove_all(vm: &Vm, kernel: &Kernel, cases: u32) -> Result<bool> {
    let mut missed = Vec::new();
    let names = names(vm)?;
    for name in &names {
        if !prove(vm, kernel, name, cases)?.is_success() {
            missed.push(name.as_str());
        }
    }
    println!("{} faults planted, missed: {}", names.len(), list(&missed));
    Ok(missed.is_empty())
}

fn list<S: AsRef<str>>(items: &[S]) -> String {
    if items.is_empty() {
        return "none".into();
    }
    items
        .iter()
        .map(AsRef::as_ref)
        .collect::<Vec<_>>()
        .join(", ")
}

fn names(vm: &Vm) -> Result<Vec<String>> {
    names_in(&vm.workspace.root.join("xtask/faults"))
}

/// The names of the patches in a folder.
pub(crate) fn names_in(folder: &Path) -> Result<Vec<String>> {
    let entries = folder
        .read_dir()
        .context(|| format!("cannot list {}", folder.display()))?;
    let name = |path: &Path| {
        let is_patch = path
            .extension()
            .is_some_and(|extension| extension == "patch");
        path.file_stem()
            .filter(|_| is_patch)
            .map(|stem| stem.to_string_lossy().into_owned())
    };
    let mut names: Vec<_> = entries
        .flatten()
        .filter_map(|entry| name(&entry.path()))
        .collect();
    names.sort();
    if names.is_empty() {
        return Err(Error::new(format!("{} has no patches", folder.display())));
    }
    Ok(names)
}
