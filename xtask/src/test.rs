// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask test`: everything, one step after the other, and one line at the end.

use std::collections::BTreeSet;
use std::time::Instant;

use clap::ValueEnum;

use crate::command;
use crate::error::Result;
use crate::failure::Failure;
use crate::fastpath;
use crate::libtest;
use crate::python::{self, Python};
use crate::tally::Tally;
use crate::tap::Report;
use crate::vm::Vm;
use crate::workspace::Workspace;

/// How many failures of a step are said again at the end.
const SHOWN: usize = 20;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave out what needs the VM: the driver's build, its suites and the restore
    #[arg(long)]
    no_vm: bool,
    /// Run one step only
    #[arg(long, value_name = "STEP")]
    only: Option<Step>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// cargo fmt --check
    Format,
    /// clippy over all targets, and over each published crate alone; the links of the documentation
    Lint,
    /// Unit, integration and documentation tests
    Unit,
    /// What threads share, in every order, by loom
    Loom,
    /// A million changes against watchers in a tokio runtime
    Bumps,
    /// The Python package: its wheel, installed and tested in new environments; types, stubs, ruff
    Python,
    /// The benches, run once each as tests
    Bench,
    /// The fast paths: instructions under callgrind, calls in the machine code, allocations
    Fastpath,
    /// The kernel driver, built with W=1 and sparse
    Driver,
    /// The conformance suites on the driver in a VM, and a restore of it
    Vm,
    /// The SDK's suites on a driver that loses wake-ups, as the shipped ones do
    LostWakeUps,
    /// Warm Python interpreters in two clones, and the package's tests, on the driver in a VM
    PythonVm,
    /// A hibernation, and a control
    Hibernate,
    /// The hypervisor's own counter, on a machine whose host keeps one
    Counter,
    /// DKMS, the udev rule and the rest, on a Debian in a VM
    Package,
}

impl Step {
    fn title(self) -> &'static str {
        match self {
            Self::Format => "formatting",
            Self::Lint => "lints",
            Self::Unit => "unit, integration and documentation tests",
            Self::Loom => "models of what threads share (loom)",
            Self::Bumps => "a million changes against 64 watchers in a runtime",
            Self::Python => "the Python package, installed in new environments",
            Self::Bench => "benches, as tests",
            Self::Fastpath => "the fast paths: instructions, calls, allocations",
            Self::Driver => "the kernel driver builds without warnings (W=1, sparse)",
            Self::Vm => "conformance and restore of the kernel driver, in a VM",
            Self::LostWakeUps => "the SDK on a driver that loses wake-ups, in a VM",
            Self::PythonVm => "a warm Python in a VM, cloned, and the package's tests",
            Self::Hibernate => "a VM that is read from its disk",
            Self::Counter => "the hypervisor's own counter, in a VM",
            Self::Package => "the driver's packaging, on a Debian in a VM",
        }
    }

    fn needs_vm(self) -> bool {
        matches!(
            self,
            Self::Driver
                | Self::Vm
                | Self::LostWakeUps
                | Self::PythonVm
                | Self::Hibernate
                | Self::Counter
                | Self::Package
        )
    }

    fn run(self, workspace: &Workspace, vm: Option<&Vm>) -> Result<Tally> {
        match (self, vm) {
            (Self::Format, _) => {
                command::run(workspace.cargo().args(["fmt", "--all", "--check"]))?;
                Ok(Tally::ONE)
            }
            (Self::Lint, _) => lints(workspace),
            (Self::Unit, _) => unit(workspace),
            (Self::Loom, _) => loom(workspace),
            (Self::Bumps, _) => bumps(workspace),
            (Self::Python, _) => python::test(workspace),
            (Self::Bench, _) => benches(workspace),
            (Self::Fastpath, _) => fastpath::check(workspace),
            (Self::Driver, Some(vm)) => Ok(vm.driver()),
            (Self::Vm, Some(vm)) => Ok(vm.suites()),
            (Self::LostWakeUps, Some(vm)) => vm.lost_wake_ups(),
            (Self::PythonVm, Some(vm)) => vm.python(),
            (Self::Hibernate, Some(vm)) => vm.hibernate(),
            (Self::Counter, Some(vm)) => vm.counter(),
            (Self::Package, Some(vm)) => vm.package(),
            (_, None) => Ok(Tally::default()),
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    let workspace = Workspace::load()?;
    let steps: Vec<_> = Step::value_variants()
        .iter()
        .copied()
        .filter(|&step| args.only.is_none_or(|only| only == step))
        .collect();

    let mut total = Tally::default();
    let mut red = Vec::new();
    let mut vm = None;
    for step in steps {
        println!("\n== {}", step.title());
        if step.needs_vm() && args.no_vm {
            println!("left out: --no-vm");
            continue;
        }
        let start = Instant::now();
        let outcome = if step.needs_vm() && vm.is_none() {
            Vm::open(workspace.clone(), false).map(|opened| vm = Some(opened))
        } else {
            Ok(())
        };
        let outcome = outcome.and_then(|()| step.run(&workspace, vm.as_ref()));
        // The other steps still have something to say.
        let tally = outcome.unwrap_or_else(|error| {
            println!("xtask: {error}");
            Tally::failed(Failure::new(error.to_string()))
        });
        println!("-- {tally} in {:.0?}", start.elapsed());
        let success = tally.is_success();
        if !success {
            red.push((step.title(), tally.failures.clone()));
        }
        total += tally.finish(success);
    }
    println!();
    if args.no_vm {
        println!("left out: the VM, so nothing was tested on the kernel driver");
    }
    // Again, and last: what showed it may be far above, or cut off where others read this.
    for (title, failures) in &red {
        println!("failed: {title}");
        for failure in failures.iter().take(SHOWN) {
            println!("  {failure}");
        }
        if let Some(more) = failures.len().checked_sub(SHOWN).filter(|&more| more > 0) {
            println!("  and {more} more");
        }
    }
    println!("{total}");
    Ok(total.is_success())
}

fn lints(workspace: &Workspace) -> Result<Tally> {
    let mut clippy = workspace.cargo();
    clippy.args(["clippy", "--quiet", "--workspace", "--all-targets"]);
    command::run(clippy.args(["--", "--deny=warnings"]))?;
    let mut alone = 0;
    for (package, features) in workspace.published() {
        // In the workspace all crates have the features that any of them asks for, and what one
        // does not ask for itself is missed by its users only.
        for features in [None].into_iter().chain(features.iter().map(Some)) {
            let mut clippy = workspace.cargo();
            clippy.args(["clippy", "--quiet", "--package", package]);
            clippy.arg("--no-default-features");
            clippy.args(features.into_iter().flat_map(|name| ["--features", name]));
            command::run(clippy.args(["--", "--deny=warnings"]))?;
            alone += 1;
        }
    }
    let mut doc = workspace.cargo();
    doc.args(["doc", "--quiet", "--workspace", "--no-deps"]);
    command::run(doc.env("RUSTDOCFLAGS", "--deny=warnings"))?;
    Ok(Tally {
        passed: 2 + alone,
        ..Tally::default()
    })
}

/// Runs all tests, and adds up the summaries that cargo prints.
fn unit(workspace: &Workspace) -> Result<Tally> {
    let mut report = libtest::Report::default();
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--workspace", "--no-fail-fast"]);
    let success = command::tee(&mut cargo, |line| report.add_line(line))?;
    Ok(report.tally().finish(success))
}

/// The models in the crates, and those of their public types. They are built for themselves.
fn loom(workspace: &Workspace) -> Result<Tally> {
    let mut tally = Tally::default();
    let in_crates = ["--package", "sysgenid-sys", "--lib", "loom_models"];
    let of_types = ["--test", "loom*"];
    for models in [&in_crates[..], &of_types] {
        let mut cargo = workspace.cargo();
        cargo
            .env("RUSTFLAGS", "--cfg loom")
            .args(["test", "--release", "--target-dir"])
            .arg(workspace.target.join("loom"))
            .args(["--package", "sysgenid"])
            .args(models);
        let mut report = libtest::Report::default();
        let success = command::tee(&mut cargo, |line| report.add_line(line))?;
        let found = report.tally();
        // A filter that finds nothing is no success.
        let success = success && found.passed > 0;
        tally += found.finish(success);
    }
    Ok(tally)
}

/// Optimised, because a million of anything takes long otherwise.
fn bumps(workspace: &Workspace) -> Result<Tally> {
    let mut cargo = workspace.cargo();
    let package = ["--quiet", "--release", "--package", "sysgenid-conformance"];
    cargo.arg("run").args(package).args(["--", "bumps"]);
    let mut report = Report::default();
    let success = command::tee(&mut cargo, |line| report.add_line(line))?;
    if let Some(fault) = report.fault() {
        println!("{fault}");
    }
    Ok(report.tally().finish(success && report.fault().is_none()))
}

/// Each bench once, to see that it runs. Criterion prints `Testing name` and `Success` for each.
fn benches(workspace: &Workspace) -> Result<Tally> {
    let mut tally = Tally::default();
    // Built together, which takes less time than one by one.
    let packages: BTreeSet<_> = workspace.benches().map(|(package, _)| package).collect();
    for package in packages {
        let mut cargo = workspace.cargo();
        cargo.args(["bench", "--package", package, "--benches", "--", "--test"]);
        let mut passed = 0;
        let success = command::tee(&mut cargo, |line| passed += u64::from(line == "Success"))?;
        let passed = Tally {
            passed,
            ..Tally::default()
        };
        tally += passed.finish(success);
    }
    for (bench, mut command) in Python::open(workspace)?.benches()? {
        println!("Testing {bench}.py");
        command::run(command.arg("--test"))?;
        tally += Tally::ONE;
    }
    Ok(tally)
}
