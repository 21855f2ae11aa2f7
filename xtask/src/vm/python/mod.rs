// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `vm python`: the package on the kernel driver.
//!
//! Two warm interpreters are snapshotted and cloned, and the package's own tests are run.

mod clones;
mod packages;
mod root;
mod system;
mod table;
mod tests;
mod verdict;

use clap::ValueEnum;

use super::subject::Dialect;
use super::{Kernel, Vm};
use crate::error::Result;
use crate::tally::Tally;
use system::System;

#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// In one dialect only
    #[arg(long, value_enum)]
    dialect: Option<Dialect>,
    /// Run one part only
    #[arg(long, value_enum, value_name = "PART")]
    only: Option<Part>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Warm interpreters in two clones, side by side
    Clones,
    /// The package's tests
    Tests,
}

impl Args {
    fn includes(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }
}

pub(crate) fn run(vm: &Vm, kernel: &Kernel, args: &Args) -> Result<Tally> {
    let system = System::new(vm, kernel)?;
    let mut tally = Tally::default();
    for dialect in args.dialect.map_or(Dialect::ALL.to_vec(), |one| vec![one]) {
        if args.includes(Part::Clones) {
            tally += clones::run(&system, dialect)?;
        }
        if args.includes(Part::Tests) {
            tally += tests::run(&system, dialect)?;
        }
    }
    Ok(tally)
}
