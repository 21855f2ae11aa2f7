// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel driver in a virtual machine.
//!
//! Everything is unpacked under the build folder: nothing is installed, nothing needs root, and
//! the machine's own kernel does not matter. QEMU emulates, because KVM is often absent where
//! tests run.

mod bzimage;
mod debian;
mod driver;
mod fault;
mod guest;
mod initramfs;
mod qemu;
mod qmp;
mod restore;
mod suites;

use std::path::PathBuf;

use clap::Subcommand;

use crate::error::Result;
use crate::tally::Tally;
use crate::workspace::Workspace;

pub(crate) use debian::Debian;
pub(crate) use driver::Driver;

#[derive(Subcommand)]
pub(crate) enum Task {
    /// Unpack QEMU, the kernel, its headers and busybox under target/vm
    Fetch {
        /// Fetch again, for the archive's newest kernel
        #[arg(long)]
        refresh: bool,
    },
    /// Build the driver, with the compiler's extra warnings and sparse
    Build,
    /// Boot the driver and run the conformance suites on it
    Test {
        /// Plant a fault (a file of xtask/faults), and succeed only if the tests find it
        #[arg(long, value_name = "NAME")]
        fault: Option<String>,
        /// How many random sequences to compare with the model
        #[arg(long, default_value_t = suites::MODEL_CASES)]
        cases: u32,
    },
    /// Plant each fault in turn
    Faults,
    /// Restore a snapshot of a running guest: two clones, and a control that is no clone
    Restore,
}

pub(crate) fn run(task: &Task) -> Result<bool> {
    let vm = Vm::open(
        Workspace::load()?,
        matches!(task, Task::Fetch { refresh: true }),
    )?;
    match task {
        Task::Fetch { .. } => {
            println!("kernel {} in {}", vm.debian.kernel, vm.dir.display());
            Ok(true)
        }
        Task::Build => {
            let driver = Driver::build(&vm, None)?;
            println!("{}", driver.module.display());
            Ok(true)
        }
        Task::Test { fault: None, cases } => finish(suites::run(&vm, *cases)?),
        Task::Test {
            fault: Some(fault),
            cases,
        } => fault::prove(&vm, fault, *cases),
        Task::Faults => fault::prove_all(&vm, suites::MODEL_CASES),
        Task::Restore => finish(restore::run(&vm)?),
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
    pub(crate) debian: Debian,
}

impl Vm {
    pub(crate) fn open(workspace: Workspace, refresh: bool) -> Result<Self> {
        let dir = workspace.target.join("vm");
        let debian = Debian::open(&dir, refresh)?;
        Ok(Self {
            workspace,
            dir,
            debian,
        })
    }

    pub(crate) fn suites(&self) -> Result<Tally> {
        suites::run(self, suites::MODEL_CASES)
    }

    pub(crate) fn restore(&self) -> Result<Tally> {
        restore::run(self)
    }
}
