// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs a conformance suite and prints TAP. The exit code is 0 only if every case passed.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::exit;

use clap::{Parser, Subcommand};
use sysgenid_conformance::suite::{self, Case, Summary};
use sysgenid_conformance::{child, raw};

#[derive(Parser)]
#[command(about, version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// System calls on the kernel driver's node; needs root
    Raw {
        #[command(flatten)]
        filter: Filter,
        /// The node
        #[arg(long)]
        device: PathBuf,
    },
    /// What the program runs itself again for
    #[command(hide = true)]
    Child { role: child::Role },
}

#[derive(clap::Args)]
struct Filter {
    /// Run only the cases whose name contains this
    #[arg(long = "case", default_value = "")]
    part: String,
    /// Print the names and run nothing
    #[arg(long)]
    list: bool,
}

impl Filter {
    fn run<S: Clone + Send + 'static>(
        &self,
        subject: &S,
        cases: impl Iterator<Item = &'static Case<S>>,
    ) -> io::Result<Summary> {
        let cases: Vec<_> = cases
            .filter(|case| case.name.contains(&self.part))
            .collect();
        let mut out = io::stdout().lock();
        if self.list {
            for case in &cases {
                writeln!(out, "{}", case.name)?;
            }
            return Ok(Summary {
                cases: cases.len(),
                failed: 0,
            });
        }
        suite::run(&mut out, subject, &cases)
    }
}

fn main() {
    let run = match Cli::parse().command {
        Command::Raw { device, filter } => {
            for note in raw::NOTES {
                println!("# note: {note}");
            }
            filter.run(&raw::Node::new(device), raw::cases())
        }
        Command::Child { role } => return child::play(role),
    };
    let is_success = run.is_ok_and(Summary::is_success);
    // Does not wait for the threads of cases that hung.
    exit(i32::from(!is_success));
}
