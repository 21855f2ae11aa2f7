// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A step as a process: what it prints goes to a file, and it does not outlive the run.
//!
//! Its standard input is a pipe that the run holds open and never writes to. Whatever ends the run,
//! be it Ctrl-C or SIGKILL, closes the pipe, and then the step kills its process group: cargo, the
//! tests, the machines.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, getpgrp, kill_process_group};
use serde_json::{Value, json};

use super::step::{Depth, Step};
use crate::error::{Context, Error, Result};
use crate::failure::Failure;
use crate::tally::Tally;

/// Ticks a second in `/proc/self/stat`, on every machine that Linux knows today.
const TICKS: u64 = 100;

/// A step that runs in a process, and its files.
pub(super) struct Part {
    pub(super) step: Step,
    pub(super) log: PathBuf,
    found: PathBuf,
}

/// How it ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) tally: Tally,
    /// Of its processes, on all processors.
    pub(super) processor_time: Option<Duration>,
}

impl Part {
    pub(super) fn new(step: Step, folder: &Path) -> Self {
        let path = |extension| folder.join(step.name()).with_extension(extension);
        Self {
            step,
            log: path("log"),
            found: path("json"),
        }
    }

    /// Runs it to its end.
    pub(super) fn run(&self, depth: Depth) -> Ended {
        let ended = self.spawn_and_wait(depth).and_then(|status| {
            let found = fs::read_to_string(&self.found)
                .ok()
                .context(|| format!("the step ended with {status} and without a result"))?;
            let (tally, processor_time) = parse(&found)?;
            // Whatever it found, it did not end as it should.
            if status.success() != tally.is_success() {
                return Err(Error::new(format!("the step ended with {status}: {tally}")));
            }
            Ok(Ended {
                tally,
                processor_time,
            })
        });
        ended.unwrap_or_else(|error| Ended {
            tally: Tally::failed(Failure::new(error.to_string())),
            processor_time: None,
        })
    }

    fn spawn_and_wait(&self, depth: Depth) -> Result<ExitStatus> {
        let cannot = || format!("cannot write to {}", self.log.display());
        let log = File::create(&self.log).context(cannot)?;
        let errors = log.try_clone().context(cannot)?;
        // By this name, because the step that builds the workspace replaces the program's file.
        let mut part = Command::new("/proc/self/exe");
        part.arg0("xtask");
        part.arg(depth.command())
            .arg("--only")
            .arg(self.step.name());
        part.arg("--found").arg(&self.found);
        part.stdin(Stdio::piped()).stdout(log).stderr(errors);
        let mut child = part.process_group(0).spawn();
        let child = child.as_mut().ok();
        let child = child.context(|| format!("cannot start the step {}", self.step.name()))?;
        // To wait would close it, and that ends the step.
        let _open = child.stdin.take();
        child.wait().context(|| "waiting for a step")
    }
}

/// Ends this process group when the run does.
pub(super) fn end_with_the_run() {
    thread::spawn(|| {
        let mut nothing = [0];
        let _ = std::io::stdin().read(&mut nothing);
        let _ = kill_process_group(getpgrp(), Signal::KILL);
    });
}

/// Leaves what the step found, for the run.
pub(super) fn leave(path: &Path, tally: &Tally) -> Result<()> {
    let failures = tally.failures.iter();
    let failures: Vec<_> = failures
        .map(|failure| {
            let Failure {
                name,
                reason,
                details,
            } = failure;
            json!({ "name": name, "reason": reason, "details": details })
        })
        .collect();
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let found = json!({
        "passed": tally.passed,
        "failed": tally.failed,
        "failures": failures,
        "skipped": tally.skipped,
        "ticks": ticks(&stat),
    });
    fs::write(path, found.to_string()).context(|| format!("cannot write {}", path.display()))
}

fn parse(found: &str) -> Result<(Tally, Option<Duration>)> {
    let unreadable = || format!("what the step found is unreadable: {found}");
    let found: Value = serde_json::from_str(found).context(unreadable)?;
    let number = |key| found.get(key).and_then(Value::as_u64);
    let text = |failure: &Value, key| Some(failure.get(key)?.as_str()?.to_owned());
    let texts = |value: &Value, key| {
        let texts = value.get(key)?.as_array()?.iter();
        texts
            .map(|text| Some(text.as_str()?.to_owned()))
            .collect::<Option<Vec<_>>>()
    };
    let failures = found.get("failures").and_then(Value::as_array);
    let failures = failures.into_iter().flatten().map(|failure| {
        Some(Failure {
            name: text(failure, "name")?,
            reason: text(failure, "reason")?,
            details: texts(failure, "details")?,
        })
    });
    let tally = Tally {
        passed: number("passed").context(unreadable)?,
        failed: number("failed").context(unreadable)?,
        failures: failures.collect::<Option<_>>().context(unreadable)?,
        skipped: texts(&found, "skipped").context(unreadable)?,
    };
    let processor_time = number("ticks").map(|ticks| Duration::from_millis(ticks * 1000 / TICKS));
    Ok((tally, processor_time))
}

/// The processor time in `/proc/self/stat`, of the process and of all children that ended.
fn ticks(stat: &str) -> Option<u64> {
    // The name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let numbers: Vec<u64> = fields
        .split_whitespace()
        .skip(11)
        .take(4)
        .map_while(|field| field.parse().ok())
        .collect();
    (numbers.len() == 4).then(|| numbers.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_step_leaves_is_what_the_run_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("found.json");
        let crashed = Failure {
            details: vec!["  File \"a.py\", line 1 in f".into()],
            ..Failure::new("b")
        };
        let tally = Tally {
            passed: 7,
            failed: 2,
            failures: vec![Failure::of("a \"test\"", "line one"), crashed],
            skipped: vec!["c: no privilege".into()],
        };
        leave(&path, &tally).unwrap();
        let (read, processor_time) = parse(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(read, tally);
        assert!(processor_time.is_some());
    }

    #[test]
    fn what_is_left_out_is_unreadable() {
        for found in [
            "",
            "{}",
            r#"{"passed": 1}"#,
            r#"{"passed": 1, "failed": 1, "failures": []}"#,
            r#"{"passed": 1, "failed": 1, "failures": [{}], "skipped": []}"#,
        ] {
            assert!(parse(found).is_err(), "{found:?}");
        }
    }

    #[test]
    fn processor_time_is_that_of_the_process_and_its_children() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 100 20 3 4000 20 0";
        assert_eq!(ticks(stat), Some(4123));
        assert_eq!(ticks("7 (a) S 1"), None);
    }
}
