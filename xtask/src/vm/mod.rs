// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel driver in a virtual machine.
//!
//! Everything is unpacked under the build folder: nothing is installed, nothing needs root, and
//! the machine's own kernel does not matter. QEMU emulates, because KVM is often absent where
//! tests run.

mod acpi;
mod agent;
pub(crate) mod apt;
mod begin;
mod bzimage;
mod counter;
pub(crate) mod debian;
mod debug;
mod driver;
mod examples;
mod fault;
mod first_load;
mod guest;
mod hibernate;
mod hostile;
mod hypervisor;
mod initramfs;
mod kernel;
mod matrix;
mod modules;
mod package;
mod python;
mod qemu;
mod qmp;
mod ram;
mod restore;
mod series;
mod sourceless;
mod subject;
mod suites;
mod system;
mod tools;
mod vmclock;

use std::fs::File;
use std::path::PathBuf;

use clap::Subcommand;

use crate::command;
use crate::error::{Context, Result};
use crate::tally::Tally;
use crate::test::Depth;
use crate::workspace::Workspace;

pub(crate) use driver::Driver;
pub(crate) use kernel::Kernel;
use series::Series;
use subject::Dialect;
pub(crate) use tools::Instruments;
use tools::Tools;

#[derive(Subcommand)]
pub(crate) enum Task {
    /// Unpack QEMU, busybox and a kernel with its headers under target/vm
    Fetch {
        #[command(flatten)]
        on: OnSome,
        /// Fetch again, for the archive's newest kernel
        #[arg(long)]
        refresh: bool,
    },
    /// Build the driver, with the compiler's extra warnings and sparse
    Build(OnSome),
    /// Boot the driver with every backend and in every dialect that it has on a kernel, run the
    /// conformance suites, and restore
    Test {
        #[command(flatten)]
        on: OnSome,
        /// Plant a fault (a file of xtask/faults), and succeed only if the tests find it
        #[arg(long, value_name = "NAME", conflicts_with = "all")]
        fault: Option<String>,
        /// In one dialect only
        #[arg(long, value_enum, conflicts_with = "fault")]
        dialect: Option<Dialect>,
        /// How many random sequences to compare with the model, in each machine
        #[arg(long, default_value_t = suites::MODEL_CASES)]
        cases: u32,
    },
    /// Plant each fault in turn
    Faults(On),
    /// Restore a snapshot of a running guest: two clones, and a control that is no clone
    Restore {
        #[command(flatten)]
        on: On,
        /// What shows restores in the guest; all in turn if none is given
        #[arg(long, value_enum)]
        source: Option<restore::Source>,
    },
    /// Restore a stock Debian kernel without a module, whose userspace driver follows the kernel's log
    Stock(On),
    /// Restore warm Python interpreters as two clones, side by side, and run the package's tests
    Python {
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        args: python::Args,
    },
    /// Hibernate a guest, and read it from its disk on another machine
    Hibernate(On),
    /// Attack the userspace driver on a kernel that cannot refuse sent file descriptors
    Hostile {
        #[command(flatten)]
        on: On,
        #[command(flatten)]
        args: hostile::Args,
    },
    /// The hypervisor's own counter, on a machine whose host keeps one
    Counter(On),
    /// Mainline's vmclock on a 7.x kernel, on machines with and without a generation counter
    Vmclock,
    /// Run the suites, and more, on a kernel with detectors, then plant a fault for each of them
    Debug(debug::Part),
    /// Read the driver with checkpatch, sparse and coccinelle, then plant a blemish for each
    Static,
    /// Install the driver by DKMS on a Debian in the VM, with its group, udev rule and the rest
    Package(On),
}

/// Which kernel.
#[derive(clap::Args)]
pub(crate) struct On {
    /// The kernel's series
    #[arg(long, value_name = "SERIES", default_value = series::DEFAULT.name, value_parser = series::parser())]
    kernel: &'static Series,
}

/// Which kernels.
#[derive(clap::Args)]
pub(crate) struct OnSome {
    #[command(flatten)]
    on: On,
    /// Every kernel
    #[arg(long, conflicts_with = "kernel")]
    all: bool,
}

impl OnSome {
    fn kernels(&self) -> &[&'static Series] {
        if self.all {
            &series::ALL
        } else {
            std::slice::from_ref(&self.on.kernel)
        }
    }
}

pub(crate) fn run(task: &Task) -> Result<bool> {
    let vm = Vm::open(
        Workspace::load()?,
        matches!(task, Task::Fetch { refresh: true, .. }),
    )?;
    match task {
        Task::Fetch { on, .. } => {
            for &series in on.kernels() {
                let kernel = vm.kernel(series)?;
                println!("kernel {} in {}", kernel.release, vm.dir.display());
            }
            Ok(true)
        }
        Task::Build(on) => finish(matrix::build(&vm, on.kernels())),
        Task::Test {
            on,
            fault: Some(fault),
            cases,
            ..
        } => finish(fault::prove(&vm, &vm.kernel(on.on.kernel)?, fault, *cases)?),
        Task::Test {
            on, dialect, cases, ..
        } => {
            let dialects = dialect.map_or(Dialect::ALL.to_vec(), |dialect| vec![dialect]);
            let mut tally = matrix::test(&vm, on.kernels(), &dialects, *cases);
            if on.all {
                tally += matrix::others(&vm);
            }
            finish(tally)
        }
        Task::Faults(on) => fault::prove_all(&vm, &vm.kernel(on.kernel)?, suites::MODEL_CASES),
        Task::Static => debug::read::run(&vm),
        Task::Debug(part) => debug::run(&vm, part),
        Task::Hibernate(on) => finish(hibernate::run(&vm, &vm.kernel(on.kernel)?)?),
        Task::Python { on, args } => finish(python::run(&vm, &vm.kernel(on.kernel)?, args)?),
        Task::Hostile { on, args } => finish(hostile::run(&vm, &vm.kernel(on.kernel)?, args)?),
        Task::Stock(on) => finish(restore::run(
            &vm,
            &vm.kernel(on.kernel)?,
            restore::Source::Stock,
        )?),
        Task::Package(on) => finish(package::run(&vm, &vm.kernel(on.kernel)?)?),
        Task::Counter(on) => finish(counter::run(&vm, &vm.kernel(on.kernel)?)?),
        Task::Vmclock => finish(vmclock::run(&vm, &vm.kernel(series::NEWEST)?)?),
        Task::Restore { on, source } => {
            let sources = source.map_or(restore::Source::ALL.to_vec(), |source| vec![source]);
            let kernel = vm.kernel(on.kernel)?;
            let mut tally = Tally::default();
            for source in sources {
                tally += restore::run(&vm, &kernel, source)?;
            }
            finish(tally)
        }
    }
}

fn finish(tally: Tally) -> Result<bool> {
    println!("{tally}");
    Ok(tally.is_success())
}

/// What is needed to build the driver and to boot it.
pub(crate) struct Vm {
    pub(crate) workspace: Workspace,
    /// `target/vm`: the unpacked packages, the driver's builds, the images, the logs.
    pub(crate) dir: PathBuf,
    pub(crate) tools: Tools,
    refresh: bool,
    /// Held for as long as we live: nobody else may write to the folder.
    _lock: File,
}

impl Vm {
    /// With `refresh`, everything is fetched again.
    pub(crate) fn open(workspace: Workspace, refresh: bool) -> Result<Self> {
        let dir = workspace.target.join("vm");
        std::fs::create_dir_all(&dir).context(|| format!("cannot create {}", dir.display()))?;
        let lock = command::lock(&dir.join("lock"))?;
        let tools = Tools::open(&dir, refresh)?;
        Ok(Self {
            workspace,
            dir,
            tools,
            refresh,
            _lock: lock,
        })
    }

    /// Where machines have their images, their snapshots and their logs.
    pub(crate) fn run_dir(&self) -> Result<PathBuf> {
        let dir = self.dir.join("run");
        std::fs::create_dir_all(&dir).context(|| format!("cannot create {}", dir.display()))?;
        Ok(dir)
    }

    /// The newest kernel of a series, fetched when it is first asked for.
    pub(crate) fn kernel(&self, series: &'static Series) -> Result<Kernel> {
        Kernel::open(&self.dir, &self.tools, series, self.refresh)
    }

    /// A QEMU that has a vmclock, fetched when it is first asked for.
    pub(crate) fn newer_qemu(&self) -> Result<Tools> {
        Tools::newer_qemu(&self.dir, self.refresh)
    }

    /// What is run every day, of the driver's build.
    pub(crate) fn driver(&self) -> Tally {
        matrix::build(self, &series::DAILY)
    }

    /// Runs the suites and the restore on the kernels that are tested every day, but the older dialect
    /// on one of them only, unless everything is to be run.
    pub(crate) fn suites(&self, depth: Depth) -> Tally {
        let test = |kernels, dialects| matrix::test(self, kernels, dialects, suites::MODEL_CASES);
        if depth.is_thorough() {
            return test(&series::DAILY, &Dialect::ALL);
        }
        let mut tally = test(&series::DAILY, &[Dialect::V6]);
        tally += test(&[series::DEFAULT], &[Dialect::V5]);
        tally
    }

    /// The suites that get along with the shipped drivers, on a driver that loses wake-ups as they
    /// do.
    pub(crate) fn lost_wake_ups(&self) -> Result<Tally> {
        let kernel = self.kernel(series::DEFAULT)?;
        fault::prove(self, &kernel, fault::LOST_WAKE_UPS, suites::MODEL_CASES)
    }

    pub(crate) fn counter(&self) -> Result<Tally> {
        counter::run(self, &self.kernel(series::DEFAULT)?)
    }

    pub(crate) fn hibernate(&self) -> Result<Tally> {
        hibernate::run(self, &self.kernel(series::DEFAULT)?)
    }

    pub(crate) fn python(&self) -> Result<Tally> {
        python::run(
            self,
            &self.kernel(series::DEFAULT)?,
            &python::Args::default(),
        )
    }

    pub(crate) fn hostile(&self) -> Result<Tally> {
        let kernel = self.kernel(series::DEFAULT)?;
        hostile::run(self, &kernel, &hostile::Args::default())
    }

    pub(crate) fn package(&self) -> Result<Tally> {
        package::run(self, &self.kernel(series::DEFAULT)?)
    }
}
