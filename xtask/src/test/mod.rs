// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask test` and `cargo xtask ci`: everything, two steps at a time, and one line at the end.

mod msrv;
mod part;
mod schedule;
mod step;

use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;

use crate::error::Result;
use crate::failure::Failure;
use crate::tally::Tally;
use crate::workspace::Workspace;
pub(crate) use step::{Depth, Step};

/// How many failures of a step are said again at the end.
const SHOWN: usize = 20;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave out what needs the VM: the driver's build, its suites and the restore
    #[arg(long)]
    no_vm: bool,
    /// Run this step only, and print its output as it comes; or these, if it is given again
    #[arg(long, value_name = "STEP")]
    only: Vec<Step>,
    /// Leave what the step found in this file, and end when the standard input does
    #[arg(long, value_name = "FILE", hide = true, requires = "only")]
    found: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, depth: Depth) -> Result<bool> {
    let workspace = Workspace::load()?;
    let steps = args.steps(depth);
    let mut results = match (steps.as_slice(), &args.found) {
        (&[step], Some(found)) => {
            part::end_with_the_run();
            let tally = run_step(step, depth, &workspace);
            part::leave(found, &tally)?;
            return Ok(tally.is_success());
        }
        (&[step], None) => {
            println!("\n== {}", step.title());
            let start = Instant::now();
            let tally = run_step(step, depth, &workspace);
            println!("-- {tally} in {:.0?}", start.elapsed());
            vec![(step, tally)]
        }
        _ => schedule::run(steps, depth, &workspace)?,
    };
    println!();
    if args.no_vm {
        println!("left out: the VM, so nothing was tested on the kernel driver");
    }
    Ok(sum_up(&mut results).is_success())
}

impl Args {
    fn steps(&self, depth: Depth) -> Vec<Step> {
        let is_wanted = |step: &Step| match self.only.as_slice() {
            [] => depth.is_thorough() || !step.is_slow(),
            only => only.contains(step),
        };
        let all = Step::value_variants().iter().copied();
        all.filter(is_wanted)
            .filter(|step| !(self.no_vm && step.needs_vm()))
            .collect()
    }
}

fn run_step(step: Step, depth: Depth, workspace: &Workspace) -> Tally {
    // The other steps still have something to say.
    let tally = step.run(depth, workspace).unwrap_or_else(|error| {
        println!("xtask: {error}");
        Tally::failed(Failure::new(error.to_string()))
    });
    if depth.is_thorough() {
        return tally.without_skips();
    }
    tally
}

/// Prints the failures again, and last: what showed them may be far above, or cut off where others
/// read this.
fn sum_up(results: &mut [(Step, Tally)]) -> Tally {
    // The order in which they ended is another one in each run.
    results.sort_by_key(|(step, _)| *step as usize);
    let mut total = Tally::default();
    for (step, tally) in results {
        // The last line has two numbers.
        for skipped in std::mem::take(&mut tally.skipped) {
            println!("skipped: {}: {skipped}", step.title());
        }
        let success = tally.is_success();
        if !success {
            println!("failed: {}", step.title());
            for failure in tally.failures.iter().take(SHOWN) {
                println!("  {failure}");
            }
            let more = tally.failures.len().saturating_sub(SHOWN);
            if more > 0 {
                println!("  and {more} more");
            }
        }
        total += tally.clone().finish(success);
    }
    println!("{total}");
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_ran_nothing_makes_the_run_red() {
        let mut results = [(Step::Unit, Tally::ONE), (Step::Format, Tally::default())];
        let total = sum_up(&mut results);
        assert_eq!((total.passed, total.failed), (1, 1));
        assert_eq!(sum_up(&mut []), Tally::default());
        assert!(!Tally::default().is_success());
    }
}
