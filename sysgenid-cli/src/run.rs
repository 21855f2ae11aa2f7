// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `sysgenid run`: runs a command beside its own userspace driver.

use std::ffi::c_int;
use std::io::ErrorKind;
use std::process::{Command, ExitCode};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use sysgenid::{Deadline, Printable, SOURCE_VARIABLE};

use crate::args::RunArgs;
use crate::child::{self, Job};
use crate::failure::Failure;
use crate::signals::Caught;

/// As a shell has it.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// What the command is told as well. The terminal sends it SIGINT and SIGQUIT itself.
const PASSED_ON: [c_int; 4] = [SIGHUP, SIGTERM, SIGUSR1, SIGUSR2];

pub(crate) fn run(args: &RunArgs) -> Result<ExitCode, Failure> {
    let Some((program, arguments)) = args.command.split_first() else {
        return Err(Failure::Usage("run: name a command".into()));
    };
    // Before the directory exists, so that no signal leaves it behind.
    let signals = Caught::new(&[&PASSED_ON[..], &[SIGINT, SIGQUIT]].concat())?;
    let directory = tempfile::Builder::new()
        .prefix("sysgenid-run-")
        .tempdir()
        .map_err(|error| Failure::call("making a temporary directory", error))?;
    let _broker = sysgenid_broker::spawn(directory.path())?;

    let job = Job::default();
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env(SOURCE_VARIABLE, directory.path());
    if let Err(error) = job.start(&mut command) {
        let message = format!("{}: {error}", Printable::new(program));
        let code = match error.kind() {
            ErrorKind::NotFound => NOT_FOUND,
            _ => NOT_EXECUTABLE,
        };
        return Err(Failure::Command(code, message));
    }
    let told = job.clone();
    signals.handle(move |signal| {
        if PASSED_ON.contains(&signal) {
            told.signal(signal);
        }
    })?;
    let ended = job
        .wait(Deadline::NEVER)
        .map_err(|error| Failure::call("waiting for the command", error))?;
    Ok(ended.map_or(ExitCode::FAILURE, |status| {
        ExitCode::from(child::exit_code(status))
    }))
}
