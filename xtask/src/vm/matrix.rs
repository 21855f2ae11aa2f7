// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Several kernels, every backend that the driver has on each, both dialects. Where the kernel
//! announces restores, also a machine without a vmgenid device.

use super::driver::Variant;
use super::series::Series;
use super::subject::{Backend, Dialect};
use super::suites::{Findings, Run, SUITES};
use super::{Driver, Kernel, Vm, counter, hibernate, restore, series, vmclock};
use crate::error::{Error, Result};
use crate::failure::Failure;
use crate::tally::Tally;

/// Builds the driver for each kernel, as it is and with a header of that kernel's own in the way.
pub(crate) fn build(vm: &Vm, kernels: &[&'static Series]) -> Tally {
    let mut tally = Tally::default();
    for &series in kernels {
        // The other kernels still have something to say.
        tally += match prepare(vm, series) {
            Ok((kernel, driver)) => {
                let (release, module) = (kernel.release, driver.module);
                println!("{release}: no warnings, {}", module.display());
                let mut tally = Tally::ONE;
                tally += shadowed(vm, series);
                tally
            }
            Err(error) => {
                println!("{}: {error}", series.name);
                Tally::failed(Failure::of(series.name, &error.to_string()))
            }
        };
    }
    tally
}

fn prepare(vm: &Vm, series: &'static Series) -> Result<(Kernel, Driver)> {
    let kernel = vm.kernel(series)?;
    let driver = Driver::build(vm, &kernel, None)?;
    Ok((kernel, driver))
}

fn shadowed(vm: &Vm, series: &'static Series) -> Tally {
    let built = vm
        .kernel(series)
        .and_then(|kernel| Driver::build_variant(vm, &kernel, None, &Variant::SHIPPED_HEADER));
    match built {
        Ok(_) => Tally::ONE,
        Err(error) => {
            println!("{} with its own header: {error}", series.name);
            let name = format!("{} with its own header", series.name);
            Tally::failed(Failure::of(&name, &error.to_string()))
        }
    }
}

/// Runs the suites and the restore test on each kernel, and prints a table.
pub(crate) fn test(
    vm: &Vm,
    kernels: &[&'static Series],
    dialects: &[Dialect],
    cases: u32,
) -> Tally {
    let mut tally = Tally::default();
    let mut rows = Vec::new();
    let mut red = Vec::new();
    for &series in kernels {
        let (kernel, driver) = match prepare(vm, series) {
            Ok(prepared) => prepared,
            Err(error) => {
                println!("xtask: {error}");
                red.push(format!("{}: no driver to run", series.name));
                tally += Tally::failed(Failure::of(series.name, &error.to_string()));
                continue;
            }
        };
        let backends = kernel
            .backends
            .iter()
            .map(|&backend| (backend, &SUITES[..]));
        // A machine without a vmgenid device. All else is as on the others.
        let bare = (!kernel.backends.contains(&Backend::Trigger))
            .then_some((Backend::Trigger, &["load"][..]));
        for (backend, suites) in backends.chain(bare) {
            for &dialect in dialects {
                let name = format!("{}-{dialect}-{backend}", kernel.name);
                println!("\n== {name}");
                let row = Row::of(
                    vm,
                    &Run {
                        name: &name,
                        kernel: &kernel,
                        driver: &driver,
                        dialect,
                        backend,
                        suites,
                        planted: None,
                        cases,
                        devices: &[],
                    },
                );
                tally += row.suites.clone().within(&name);
                tally += row.restore.clone().unwrap_or_default().within(&name);
                red.extend(row.red.iter().map(|fault| format!("{name}: {fault}")));
                rows.push(row);
            }
        }
    }
    print(&rows);
    for fault in &red {
        println!("# {fault}");
    }
    tally.finish(red.is_empty())
}

/// Runs the tests that have a machine of their own kind, on each kernel that can do it.
pub(crate) fn others(vm: &Vm) -> Tally {
    type Test = fn(&Vm, &Kernel) -> Result<Tally>;
    let tests: [(&str, Test, &[&'static Series]); 3] = [
        ("hibernate", hibernate::run, &series::ALL),
        ("counter", counter::run, &series::ALL),
        // Older kernels have no driver of it, or one without the counter.
        ("vmclock", vmclock::run, &[series::NEWEST]),
    ];
    let mut tally = Tally::default();
    let mut rows = Vec::new();
    for (name, test, kernels) in tests {
        for &series in kernels {
            println!("\n== {name} on {}", series.name);
            let outcome = vm.kernel(series).and_then(|kernel| test(vm, &kernel));
            let found = outcome.unwrap_or_else(|error| {
                println!("xtask: {error}");
                Tally::failed(Failure::new(error.to_string()))
            });
            rows.push((name, series.name, found.passed, found.failed));
            tally += found.within(&format!("{name} on {}", series.name));
        }
    }
    println!("\n| test      | kernel    | passed | failed |");
    println!("|-----------|-----------|-------:|-------:|");
    for (name, kernel, passed, failed) in rows {
        println!("| {name:9} | {kernel:9} | {passed:6} | {failed:6} |");
    }
    println!();
    tally
}

/// What was found in one machine, and its clones.
struct Row {
    /// The kernel, the dialect, the backend.
    subject: [String; 3],
    suites: Tally,
    skipped: u64,
    /// None where nothing could announce a restore.
    restore: Option<Tally>,
    /// Everything that failed or was skipped.
    red: Vec<String>,
}

impl Row {
    fn of(vm: &Vm, run: &Run<'_>) -> Self {
        let mut red = Vec::new();
        let mut broke_off = |what: &str, error: Error| {
            println!("xtask: {error}");
            red.push(format!("{what} broke off"));
            Tally::failed(Failure::of(what, &error.to_string()))
        };
        let findings = run.on(vm).unwrap_or_else(|error| Findings {
            tally: broke_off("the suites", error),
            red: Vec::new(),
            skipped: 0,
        });
        let restore = (run.backend != Backend::Trigger).then(|| {
            let mut sources = vec![run.dialect.into()];
            // Once for a kernel that notices a restore itself.
            if run.backend == Backend::Vmfork && run.dialect == Dialect::V5 {
                sources.extend([restore::Source::None, restore::Source::Stock]);
            }
            let mut tally = Tally::default();
            for source in sources {
                let restored = restore::run(vm, run.kernel, source);
                tally += restored.unwrap_or_else(|error| broke_off("the restore", error));
            }
            tally
        });
        if !findings.tally.is_success() && findings.red.is_empty() {
            red.push("the suites failed".into());
        }
        if restore.as_ref().is_some_and(|tally| !tally.is_success()) {
            red.push("the restore failed".into());
        }
        red.extend(findings.red);
        Self {
            subject: [
                run.kernel.release.clone(),
                run.dialect.to_string(),
                run.backend.to_string(),
            ],
            suites: findings.tally,
            skipped: findings.skipped,
            restore,
            red,
        }
    }
}

fn print(rows: &[Row]) {
    println!();
    println!(
        "| kernel                 | dialect | backend | passed | failed | skipped | restore   |"
    );
    println!(
        "|------------------------|---------|---------|-------:|-------:|--------:|-----------|"
    );
    for row in rows {
        let [kernel, dialect, backend] = &row.subject;
        let (passed, skipped) = (row.suites.passed, row.skipped);
        // For the tally a skipped case is a failed one.
        let failed = row.suites.failed.saturating_sub(skipped);
        let restore = match &row.restore {
            Some(tally) => format!("{} of {}", tally.passed, tally.passed + tally.failed),
            None => "no device".into(),
        };
        println!(
            "| {kernel:22} | {dialect:7} | {backend:7} | {passed:6} | {failed:6} | {skipped:7} \
             | {restore:9} |"
        );
    }
    println!();
}
