// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `vm build --all` and `vm test --all`: every kernel, every backend that the driver has on it, both
//! dialects.

use std::fmt;

use super::series::{self, Series};
use super::subject::{Backend, Dialect};
use super::suites::{Findings, Run, SUITES};
use super::{Driver, Kernel, Vm, restore};
use crate::error::{Error, Result};
use crate::tally::Tally;

/// How many random sequences each row compares with the model. A kernel on its own runs more.
const MODEL_CASES: u32 = 32;

/// Builds the driver for every kernel.
pub(crate) fn build(vm: &Vm) -> Result<bool> {
    let mut success = true;
    for series in series::ALL {
        // The other kernels still have something to say.
        match prepare(vm, series) {
            Ok((kernel, _)) => println!("{:9} {}: no warnings", kernel.name, kernel.release),
            Err(error) => {
                println!("{:9} FAILED: {error}", series.name);
                success = false;
            }
        }
    }
    Ok(success)
}

fn prepare(vm: &Vm, series: &'static Series) -> Result<(Kernel, Driver)> {
    let kernel = vm.kernel(series)?;
    let driver = Driver::build(vm, &kernel, None)?;
    Ok((kernel, driver))
}

/// Runs the suites and the restore test on every kernel.
pub(crate) fn test(vm: &Vm, cases: Option<u32>) -> Result<bool> {
    let mut rows = Vec::new();
    let mut red = Vec::new();
    for series in series::ALL {
        let (kernel, driver) = match prepare(vm, series) {
            Ok(prepared) => prepared,
            Err(error) => {
                println!("xtask: {error}");
                red.push(format!("{}: no driver to run", series.name));
                continue;
            }
        };
        for &backend in kernel.backends {
            for dialect in [Dialect::V6, Dialect::V5] {
                let subject = Subject {
                    kernel: &kernel,
                    driver: &driver,
                    dialect,
                    backend,
                };
                println!("\n== {subject}");
                let row = Row::run(vm, &subject, cases.unwrap_or(MODEL_CASES));
                red.extend(row.red.iter().map(|fault| format!("{subject}: {fault}")));
                rows.push(row);
            }
        }
    }
    print(&rows);
    for fault in &red {
        println!("# {fault}");
    }
    Ok(red.is_empty())
}

/// What a row of the table is about.
struct Subject<'a> {
    kernel: &'a Kernel,
    driver: &'a Driver,
    dialect: Dialect,
    backend: Backend,
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kernel,
            dialect,
            backend,
            ..
        } = self;
        write!(f, "{} {dialect} {backend}", kernel.name)
    }
}

/// What was found on it.
struct Row {
    /// What the row is about, as cells.
    subject: [String; 3],
    suites: Tally,
    skipped: u64,
    /// None where nothing could announce a restore.
    restore: Option<Tally>,
    /// Everything that failed or was skipped.
    red: Vec<String>,
}

impl Row {
    fn run(vm: &Vm, subject: &Subject<'_>, cases: u32) -> Self {
        let &Subject {
            kernel,
            driver,
            dialect,
            backend,
        } = subject;
        let mut red = Vec::new();
        let mut failed = |what: &str, error: Error| {
            println!("xtask: {error}");
            red.push(format!("{what} broke off"));
            Tally::default().finish(false)
        };
        let name = format!("suites-{}-{dialect}-{backend}", kernel.name);
        let run = Run {
            name: &name,
            kernel,
            driver,
            dialect,
            backend,
            suites: &SUITES,
            cases,
        };
        let findings = run.on(vm).unwrap_or_else(|error| Findings {
            tally: failed("the suites", error),
            red: Vec::new(),
            skipped: 0,
        });
        let restore = (backend != Backend::Trigger).then(|| {
            let tally = restore::run(vm, kernel, dialect);
            tally.unwrap_or_else(|error| failed("the restore", error))
        });
        if restore.is_some_and(|tally| !tally.is_success()) {
            red.push("the restore failed".into());
        }
        if !findings.tally.is_success() && findings.red.is_empty() {
            red.push("the suites failed".into());
        }
        red.extend(findings.red);
        Self {
            subject: [
                kernel.release.clone(),
                dialect.to_string(),
                backend.to_string(),
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
        "| kernel                  | dialect | backend | passed | failed | skipped | restore   |"
    );
    println!(
        "|-------------------------|---------|---------|-------:|-------:|--------:|-----------|"
    );
    for row in rows {
        let [kernel, dialect, backend] = &row.subject;
        let passed = row.suites.passed;
        // A skipped case is counted as failed elsewhere.
        let failed = row.suites.failed.saturating_sub(row.skipped);
        let restore = match row.restore {
            Some(tally) => format!("{} of {}", tally.passed, tally.passed + tally.failed),
            None => "no device".into(),
        };
        println!(
            "| {kernel:23} | {dialect:7} | {backend:7} | {passed:6} | {failed:6} | {:7} | {restore:9} |",
            row.skipped
        );
    }
    println!();
}
