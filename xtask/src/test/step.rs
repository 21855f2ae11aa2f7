// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The steps, and what each of them runs.

use clap::ValueEnum;

use super::msrv;
use crate::command;
use crate::criu;
use crate::error::Result;
use crate::fastpath;
use crate::libtest;
use crate::package;
use crate::python::{self, Python};
use crate::tally::Tally;
use crate::tap::Report;
use crate::vm::Vm;
use crate::workspace::Workspace;

/// How much is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// The tests that each change waits for: `cargo xtask test`.
    Daily,
    /// All of it: `cargo xtask ci`.
    Thorough,
}

impl Depth {
    /// The command that runs as much as this.
    pub(super) fn command(self) -> &'static str {
        match self {
            Self::Daily => "test",
            Self::Thorough => "ci",
        }
    }

    pub(crate) fn is_thorough(self) -> bool {
        self == Self::Thorough
    }
}

/// What two steps cannot use at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// `target/vm`, where one machine runs at a time.
    Vm,
    /// `target/python`, where each step replaces the wheels and environments.
    Python,
    /// `target/rust-1.85`, which the first that needs it fills.
    OldestRust,
}

/// In the order in which their results are summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
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
    /// A minute of guards under a million changes a second
    Hammer,
    /// The published crates with the oldest compiler that they promise to build with
    Msrv,
    /// The Python package: its wheel, installed and tested in new environments; types, stubs, ruff
    Python,
    /// The wheels for PyPI: for two machines and for all others, built, checked and run
    Wheels,
    /// Processes that a real CRIU copies, and forks of the copies
    Criu,
    /// The benches, run once each as tests
    Bench,
    /// The fast paths: instructions under callgrind, calls in the machine code, allocations
    Fastpath,
    /// The kernel driver, built with W=1 and sparse
    Driver,
    /// The conformance suites on the driver in a VM, and a restore of it
    Vm,
    /// The SDK's suites on a driver that loses wake-ups, as the third-party ones do
    LostWakeUps,
    /// Warm Python interpreters in two clones, and the package's tests, on the driver in a VM
    PythonVm,
    /// A hibernation, and a control
    Hibernate,
    /// The hypervisor's own counter, on a machine whose host keeps one
    Counter,
    /// DKMS, the udev rule and the rest, on a Debian in a VM
    Package,
    /// The userspace driver's package: installed, upgraded and purged under a systemd in namespaces
    Service,
    /// The program and the Debian packages, built twice with the same bytes
    Reproducible,
    /// Attacks on the userspace driver, on a kernel that cannot refuse sent file descriptors, in a VM
    Hostile,
}

impl Step {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Format => "formatting",
            Self::Lint => "lints",
            Self::Unit => "unit, integration and documentation tests",
            Self::Loom => "models of what threads share (loom)",
            Self::Bumps => "a million changes against 64 watchers in a runtime",
            Self::Hammer => "a minute of guards under a million changes a second",
            Self::Msrv => "the published crates with the oldest compiler",
            Self::Python => "the Python package, installed in new environments",
            Self::Wheels => "the wheels for PyPI",
            Self::Criu => "processes that CRIU has copied, and their forks",
            Self::Bench => "benches, as tests",
            Self::Fastpath => "the fast paths: instructions, calls, allocations",
            Self::Driver => "the kernel driver builds without warnings (W=1, sparse)",
            Self::Vm => "conformance and restore of the kernel driver, in a VM",
            Self::LostWakeUps => "the SDK on a driver that loses wake-ups, in a VM",
            Self::PythonVm => "a warm Python in a VM, cloned, and the package's tests",
            Self::Hibernate => "a VM that is read from its disk",
            Self::Counter => "the hypervisor's own counter, in a VM",
            Self::Package => "the driver's packaging, on a Debian in a VM",
            Self::Service => "the userspace driver as a service of systemd's",
            Self::Reproducible => "what is installed: reproducible, and hardened",
            Self::Hostile => "attacks on the userspace driver, in a VM",
        }
    }

    /// As it is written on the command line.
    pub(super) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub(super) fn needs_vm(self) -> bool {
        self.needs().contains(&Need::Vm)
    }

    /// Whether it is left out where a change waits for the result.
    pub(super) fn is_slow(self) -> bool {
        matches!(
            self,
            Self::Bumps
                | Self::Hammer
                | Self::Msrv
                | Self::Wheels
                | Self::Reproducible
                | Self::Hostile
        )
    }

    /// What no other step may use meanwhile.
    pub(super) fn needs(self) -> &'static [Need] {
        match self {
            Self::Python | Self::Criu | Self::Bench => &[Need::Python],
            Self::Wheels => &[Need::Python, Need::OldestRust],
            Self::Msrv => &[Need::OldestRust],
            Self::PythonVm => &[Need::Vm, Need::Python],
            Self::Driver
            | Self::Vm
            | Self::LostWakeUps
            | Self::Hibernate
            | Self::Counter
            | Self::Package
            | Self::Hostile => &[Need::Vm],
            Self::Format
            | Self::Lint
            | Self::Unit
            | Self::Loom
            | Self::Bumps
            | Self::Hammer
            | Self::Service
            | Self::Reproducible
            | Self::Fastpath => &[],
        }
    }

    pub(super) fn run(self, depth: Depth, workspace: &Workspace) -> Result<Tally> {
        let vm = || Vm::open(workspace.clone(), false);
        match self {
            Self::Format => {
                command::run(workspace.cargo().args(["fmt", "--all", "--check"]))?;
                Ok(Tally::ONE)
            }
            Self::Lint => lints(workspace),
            Self::Unit => unit(workspace),
            Self::Loom => loom(workspace),
            Self::Bumps => long(workspace, "bumps"),
            Self::Hammer => long(workspace, "hammer"),
            Self::Service => package::test_service(workspace),
            Self::Reproducible => package::test(workspace),
            Self::Msrv => msrv::test(workspace),
            Self::Python => python::test(workspace, depth),
            Self::Wheels => python::wheels(workspace),
            Self::Criu => criu::test(workspace),
            Self::Bench => benches(workspace, depth),
            Self::Fastpath => fastpath::check(workspace),
            Self::Driver => Ok(vm()?.driver()),
            Self::Vm => Ok(vm()?.suites(depth)),
            Self::LostWakeUps => vm()?.lost_wake_ups(),
            Self::PythonVm => vm()?.python(),
            Self::Hibernate => vm()?.hibernate(),
            Self::Counter => vm()?.counter(),
            Self::Package => vm()?.package(),
            Self::Hostile => vm()?.hostile(),
        }
    }
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
            .env("RUSTFLAGS", "--cfg sysgenid_loom")
            .args(["test", "--profile", "quick", "--target-dir"])
            .arg(workspace.target.join("loom"))
            .args(["--package", "sysgenid"])
            .args(models);
        let mut report = libtest::Report::default();
        let success = command::tee(&mut cargo, |line| report.add_line(line))?;
        let found = report.tally();
        // A filter that finds nothing is not a success.
        let success = success && found.passed > 0;
        tally += found.finish(success);
    }
    Ok(tally)
}

/// A suite that takes long. Optimised, because so many of anything take longer otherwise.
fn long(workspace: &Workspace, suite: &str) -> Result<Tally> {
    let mut cargo = workspace.cargo();
    let package = ["--quiet", "--release", "--package", "sysgenid-conformance"];
    cargo.arg("run").args(package).args(["--", suite]);
    let mut report = Report::default();
    let success = command::tee(&mut cargo, |line| report.add_line(line))?;
    if let Some(fault) = report.fault() {
        println!("{fault}");
    }
    Ok(report.tally().finish(success && report.fault().is_none()))
}

/// Each bench once, to see that it runs. Criterion prints `Testing name` and `Success` for each.
fn benches(workspace: &Workspace, depth: Depth) -> Result<Tally> {
    let mut cargo = workspace.cargo();
    let names = workspace
        .benches()
        .flat_map(|(_, bench)| ["--bench", bench]);
    if depth.is_thorough() {
        // Alone: they refuse to be measured with what only tests ask for.
        let packages = workspace.benches().map(|(package, _)| package);
        let packages = packages.collect::<std::collections::BTreeSet<_>>();
        cargo.arg("bench");
        cargo.args(packages.into_iter().flat_map(|name| ["--package", name]));
    } else {
        // The whole workspace, because its crates are built for the unit tests already.
        cargo.args(["test", "--workspace"]);
    }
    cargo.args(names);
    cargo.args(["--", "--test"]);
    let mut passed = 0;
    let success = command::tee(&mut cargo, |line| passed += u64::from(line == "Success"))?;
    let mut tally = Tally {
        passed,
        ..Tally::default()
    };
    // A filter that finds nothing is not a success.
    tally = tally.finish(success && passed > 0);
    for (bench, mut command) in Python::open(workspace)?.benches(depth)? {
        println!("Testing {bench}.py");
        command::run(command.arg("--test"))?;
        tally += Tally::ONE;
    }
    Ok(tally)
}
