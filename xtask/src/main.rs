// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Everything a person or CI runs: `cargo xtask test`, `cargo xtask ci`, `cargo xtask vm …`.

mod bench;
mod command;
mod criu;
mod error;
mod failure;
mod fastpath;
mod libtest;
mod oldest_rust;
mod package;
mod python;
mod tally;
mod tap;
mod test;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Result;
use crate::test::Depth;
use crate::workspace::Workspace;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Runs the project's tests, in and out of a VM"
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// The tests that each change runs: formatting, lints, unit and documentation tests, the driver,
    /// the VM
    Test(test::Args),
    /// All tests: the same steps with nothing cut short, and those that take long
    Ci(test::Args),
    /// All benches, and the report on what they measured: docs/src/benchmarks.md
    Bench(bench::Args),
    /// The instructions of the fast paths, and what their machine code could call
    Fastpath(fastpath::Args),
    /// What is installed: a static program, and Debian packages, in target/package
    Package(package::Args),
    /// Processes that a real CRIU has copied, and their children; needs root
    Criu(criu::Args),
    /// The wheels for PyPI, built and checked: target/wheels
    Wheels,
    /// The kernel driver in a virtual machine
    Vm {
        #[command(subcommand)]
        task: vm::Task,
    },
}

fn main() -> ExitCode {
    let run = || -> Result<bool> {
        match Cli::parse().task {
            Task::Test(args) => test::run(&args, Depth::Daily),
            Task::Ci(args) => test::run(&args, Depth::Thorough),
            Task::Bench(args) => bench::run(&args),
            Task::Fastpath(args) => fastpath::run(&args),
            Task::Package(args) => package::run(&args),
            Task::Criu(args) => criu::run(&args),
            Task::Wheels => python::wheels(&Workspace::load()?).map(|tally| {
                println!("{tally}");
                tally.is_success()
            }),
            Task::Vm { task } => vm::run(&task),
        }
    };
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
