// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask test`: everything, one step after the other, and one line at the end.

use std::time::Instant;

use clap::ValueEnum;

use crate::command;
use crate::error::Result;
use crate::tally::Tally;
use crate::vm::{Driver, Vm};
use crate::workspace::Workspace;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave out what needs the VM: the driver's build, its suites and the restore test
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
    /// clippy over all targets, warnings denied
    Lint,
    /// Unit, integration and documentation tests
    Unit,
    /// The benches, run once each as tests
    Bench,
    /// The kernel driver, built with W=1 and sparse
    Driver,
    /// The conformance suites on the driver, in a VM
    Vm,
    /// A snapshot, two clones and a control
    Restore,
}

impl Step {
    fn title(self) -> &'static str {
        match self {
            Self::Format => "formatting",
            Self::Lint => "lints",
            Self::Unit => "unit, integration and documentation tests",
            Self::Bench => "benches, as tests",
            Self::Driver => "the kernel driver builds without warnings (W=1, sparse)",
            Self::Vm => "conformance of the kernel driver, in a VM",
            Self::Restore => "a restored VM: two clones and a control",
        }
    }

    fn needs_vm(self) -> bool {
        matches!(self, Self::Driver | Self::Vm | Self::Restore)
    }

    fn run(self, workspace: &Workspace, vm: Option<&Vm>) -> Result<Tally> {
        let check = |args: &[&str]| command::run(workspace.cargo().args(args)).map(|()| Tally::ONE);
        match (self, vm) {
            (Self::Format, _) => check(&["fmt", "--all", "--check"]),
            (Self::Lint, _) => {
                let scope = ["clippy", "--quiet", "--workspace", "--all-targets"];
                check(&[&scope[..], &["--", "--deny=warnings"]].concat())
            }
            (Self::Unit, _) => count(workspace, &["test", "--workspace", "--no-fail-fast"], &[]),
            (Self::Bench, _) => benches(workspace),
            (Self::Driver, Some(vm)) => Driver::build(vm, None).map(|_| Tally::ONE),
            (Self::Vm, Some(vm)) => vm.suites(),
            (Self::Restore, Some(vm)) => vm.restore(),
            (Self::Driver | Self::Vm | Self::Restore, None) => Ok(Tally::default()),
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
    let mut vm = None;
    for step in steps {
        println!("\n== {}", step.title());
        if step.needs_vm() && args.no_vm {
            println!("left out: --no-vm");
            continue;
        }
        let start = Instant::now();
        let outcome = if step.needs_vm() && vm.is_none() {
            Workspace::load()
                .and_then(|workspace| Vm::open(workspace, false))
                .map(|v| vm = Some(v))
        } else {
            Ok(())
        };
        let outcome = outcome.and_then(|()| step.run(&workspace, vm.as_ref()));
        // The other steps still have something to say.
        let tally = outcome.unwrap_or_else(|error| {
            println!("xtask: {error}");
            Tally {
                passed: 0,
                failed: 1,
            }
        });
        println!("-- {tally} in {:.0?}", start.elapsed());
        total += tally;
    }
    println!("\n{total}");
    Ok(total.is_success())
}

/// Runs a cargo command and adds up the summaries it prints.
fn count(workspace: &Workspace, args: &[&str], rest: &[&str]) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut cargo = workspace.cargo();
    cargo.args(args).args(rest);
    let success = command::tee(&mut cargo, |line| tally.add_cargo_line(line))?;
    Ok(tally.finish(success))
}

/// Each bench once, to see that it runs. Criterion prints `Testing name` and `Success` for each.
fn benches(workspace: &Workspace) -> Result<Tally> {
    let mut tally = Tally::default();
    for package in workspace.benches() {
        let mut cargo = workspace.cargo();
        cargo.args(["bench", "--package", package, "--benches", "--", "--test"]);
        let mut passed = 0;
        let success = command::tee(&mut cargo, |line| passed += u64::from(line == "Success"))?;
        tally += Tally { passed, failed: 0 }.finish(success);
    }
    Ok(tally)
}
