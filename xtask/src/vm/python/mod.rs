// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `vm python`: the package on the kernel driver.

mod packages;
mod root;
mod system;
mod tests;

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
}

pub(crate) fn run(vm: &Vm, kernel: &Kernel, args: &Args) -> Result<Tally> {
    let system = System::new(vm, kernel)?;
    let mut tally = Tally::default();
    let dialects = args.dialect.map_or(Dialect::ALL.to_vec(), |one| vec![one]);
    for dialect in dialects {
        tally += tests::run(&system, dialect)?;
    }
    Ok(tally)
}
