// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask bench`: all benches in one go, and the report of what they found.

mod chart;
mod curve;
mod machine;
mod report;
mod results;

use std::path::Path;
use std::process::Command;

use crate::command;
use crate::error::{Error, Result};
use crate::fastpath;
use crate::python::Python;
use crate::test::Depth;
use crate::workspace::Workspace;
use results::{Bound, Results};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write the report of the last run again, without measuring
    #[arg(long)]
    no_run: bool,
}

/// Says whether every bound is kept.
pub(crate) fn run(args: &Args) -> Result<bool> {
    let workspace = Workspace::load()?;
    let folder = workspace.target.join("bench");
    if !args.no_run {
        command::fresh_dir(&folder)?;
        measure(&workspace, &folder)?;
    }
    let mut results = Results::read(&folder)?;
    let instructions = fastpath::instructions(&workspace)?;
    results
        .bounds
        .extend(instructions.iter().filter_map(Bound::of_instructions));
    report::write(&results, &instructions, &workspace.root.join("docs/src"))?;
    println!();
    for bound in &results.bounds {
        let verdict = if bound.kept { "kept" } else { "BROKEN" };
        println!("{verdict:6} {}: {}", bound.name, bound.sentence());
    }
    println!("wrote docs/src/benchmarks.md");
    Ok(results.bounds.iter().all(|bound| bound.kept))
}

fn measure(workspace: &Workspace, folder: &Path) -> Result<()> {
    let mut silent = Vec::new();
    let mut measure = |bench: &str, command: &mut Command| {
        let results = folder.join(format!("{bench}.jsonl"));
        command.env("SYSGENID_BENCH_RESULTS", &results);
        // A broken bound ends a bench with a failure and stands in its results; so do the others
        // that it has. One that ends without any did not get that far.
        let succeeded = command::run(command);
        let bounds = Results::bounds_of(&results)?;
        if bounds.is_empty() {
            silent.push(bench.to_owned());
        }
        match bounds.iter().all(|bound| bound.kept) {
            true => succeeded,
            false => Ok(()),
        }
    };
    for (package, bench) in workspace.benches() {
        let mut cargo = workspace.cargo();
        cargo.args(["bench", "--package", package, "--bench", bench]);
        cargo.args(["--", "--noplot"]);
        cargo.env("CRITERION_HOME", folder.join("criterion"));
        measure(bench, &mut cargo)?;
    }
    for (bench, mut command) in Python::open(workspace)?.benches(Depth::Thorough)? {
        measure(&format!("python-{bench}"), &mut command)?;
    }
    if silent.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!(
        "no bound was measured by {}",
        silent.join(", ")
    )))
}
