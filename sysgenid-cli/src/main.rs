// SPDX-License-Identifier: Apache-2.0 OR MIT
#![forbid(unsafe_code)]
//! The `sysgenid` command.

#[cfg(not(target_os = "linux"))]
compile_error!("the sysgenid command is for Linux only");

mod args;
mod child;
mod demo;
mod eof;
mod failure;
mod generate;
mod get;
mod output;
mod quiesce;
mod reseed;
mod run;
mod serve;
mod signals;
mod speech;
mod status;
mod supervisor;
mod time;
mod trigger;
mod virtual_machine;
mod wait;
mod watch;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use sysgenid::Source;

use crate::args::{Cli, Command};
use crate::failure::Failure;
use crate::output::Output;
use crate::speech::{Speech, To};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let serves = matches!(cli.command, Command::Serve(_));
    let is_json = cli.command.is_json();
    match run(cli) {
        Ok(code) => code,
        Err(failure) => {
            if let Some(message) = failure.message() {
                let text = match is_json {
                    true => output::failure_in_json(&message, failure.code()),
                    false => format!("sysgenid: {message}"),
                };
                complain(text, serves);
            }
            ExitCode::from(failure.code())
        }
    }
}

/// Prints why the command failed. A driver must end after that even if standard error blocks.
fn complain(message: String, serves: bool) {
    if serves {
        let speech = Speech::new();
        speech.voice().say(To::Stderr, message);
        speech.finish();
    } else {
        // Nothing is left to be told to if this fails too.
        let _ = writeln!(io::stderr(), "{message}");
    }
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let brings_its_own = matches!(
        cli.command,
        Command::Serve(_) | Command::Demo(_) | Command::Run(_) | Command::Reseed(_)
    );
    if brings_its_own && cli.source.is_some() {
        let message = "--source names what a client connects to; `serve`, `run` and `demo` bring \
                       their own, and `reseed` needs none";
        Cli::command()
            .error(clap::error::ErrorKind::ArgumentConflict, message)
            .exit();
    }
    let named = cli.source;
    let source = |named| match named {
        Some(path) => Source::at(path),
        None => Source::discover(),
    };
    match cli.command {
        Command::Run(args) => return run::run(&args),
        Command::Get(args) => get::run(named, &mut Output::new(args.json)),
        Command::Generate(args) => generate::run(&args.directory),
        Command::Serve(args) => serve::run(&args),
        Command::Status(args) => status::run(named, &mut Output::new(args.json)),
        Command::Watch(args) => watch::run(named, &args),
        Command::Reseed(args) => reseed::run(&args),
        Command::Trigger(args) => trigger::run(&source(named)?, &args),
        Command::Wait(args) => wait::run(&source(named)?, &args),
        Command::Quiesce(args) => quiesce::quiesce(&source(named)?, &args),
        Command::Resume(args) => quiesce::resume(&source(named)?, &args),
        Command::Demo(args) => demo::run(&mut Output::new(args.json)),
        Command::DemoWorker(args) => demo::worker(args.role, source(named)?),
    }?;
    Ok(ExitCode::SUCCESS)
}
