// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A watch whose changes a command handles.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use signal_hook::consts::SIGKILL;
use signal_hook::low_level::emulate_default_handler;
use sysgenid::{Acknowledged, Change, Deadline, SOURCE_VARIABLE};

use super::lines::Line;
use super::{steadily, timed_out};
use crate::args::WatchArgs;
use crate::child::{self, Job};
use crate::failure::Failure;
use crate::output::{Output, cause_text};
use crate::signals::{self, Caught};
use crate::speech::{To, Voice};
use crate::time::Timeout;

/// What the command is told, beside the source.
const GENERATION_VARIABLE: &str = "SYSGENID_GENERATION";
const CAUSE_VARIABLE: &str = "SYSGENID_CAUSE";

pub(super) fn run(
    named: Option<PathBuf>,
    args: &WatchArgs,
    command: &OsStr,
    voice: &Voice,
) -> Result<(), Failure> {
    let job = Job::default();
    end_with_the_command(&job)?;
    let deadline = args.timeout.deadline();
    let mut changes = steadily::open(named, true);
    let (start, mut previous) = steadily::begin(&changes, true);
    let report = Report {
        out: Output::new(args.format.json),
        voice,
    };
    report.say(To::Stderr, &start);

    let mut handled = 0_u64;
    while args.count != Some(handled) {
        let change = match changes.wait(deadline) {
            Ok(change) => change,
            Err(error) if error.is_timeout() => return Err(timed_out(args)),
            Err(error) => return Err(error.into()),
        };
        let (generation, cause) = (change.generation(), change.cause());
        let handling = handle(&job, command, &change, args.exec_timeout);
        if let Err(reason) = handling {
            // It is reported again, after a pause that grows.
            report.say(To::Stdout, &Line::failed(generation, reason));
            continue;
        }
        match change.acknowledge() {
            Ok(Acknowledged::Yes) => {}
            Ok(Acknowledged::Overtaken) => continue,
            Err(error) => {
                report.say(To::Stdout, &Line::failed(generation, error.to_string()));
                continue;
            }
        }
        report.say(To::Stdout, &Line::changed(generation, previous, cause));
        previous = Some(generation);
        handled += 1;
    }
    Ok(())
}

/// Runs the command once. What it leaves running when its time is over is killed.
fn handle(job: &Job, command: &OsStr, change: &Change, time: Timeout) -> Result<(), String> {
    let mut shell = Command::new("/bin/sh");
    shell
        .arg("-c")
        .arg(command)
        .env(GENERATION_VARIABLE, change.generation().to_string())
        .env(CAUSE_VARIABLE, &*cause_text(change.cause()))
        .stdin(Stdio::null())
        // So that all of it can be killed.
        .process_group(0);
    if let Some(source) = change.source() {
        shell.env(SOURCE_VARIABLE, source.path());
    }
    job.start(&mut shell)
        .map_err(|error| format!("/bin/sh: {error}"))?;
    let ended = job.wait(time.deadline()).map_err(|error| error.to_string());
    match ended? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("{}; it is run again", child::ending(status))),
        None => {
            job.signal_group(SIGKILL);
            let _ = job.wait(Deadline::NEVER);
            Err(format!("it took longer than {time}; it is run again"))
        }
    }
}

/// Passes the signals that end this process to the command, which leads its own group.
fn end_with_the_command(job: &Job) -> Result<(), Failure> {
    let job = job.clone();
    Caught::new(&signals::ending())?.handle(move |signal| {
        job.signal_group(signal);
        let _ = emulate_default_handler(signal);
    })
}

/// Prints without waiting: a reader that does not read delays no change.
struct Report<'a> {
    out: Output,
    voice: &'a Voice,
}

impl Report<'_> {
    fn say(&self, to: To, line: &Line<'_>) {
        match self.out.json_of(line) {
            Some(Ok(json)) => self.voice.say(To::Stdout, json),
            Some(Err(failure)) => {
                let message = failure.message().unwrap_or_default();
                self.voice.say(To::Stderr, format!("sysgenid: {message}"));
            }
            None => self.voice.say(to, line.text()),
        }
    }
}
