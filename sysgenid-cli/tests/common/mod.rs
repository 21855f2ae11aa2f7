// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs the real command. Everything has a deadline, and no process outlives its test.
#![allow(dead_code, reason = "each test file uses its share")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

#[allow(dead_code, reason = "a case is reported elsewhere")]
#[path = "../../../conformance/tests/common/skipped.rs"]
pub(crate) mod skipped;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;

pub(crate) use self::skipped::skipped;

/// More than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The command, which finds no source by itself but those of the machine.
pub(crate) fn sysgenid() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sysgenid"));
    command
        .env_remove("SYSGENID_SOURCE")
        .env_remove("XDG_RUNTIME_DIR")
        .stdin(Stdio::null());
    command
}

/// The command on the source at `path`.
pub(crate) fn on(path: &Path, arguments: &[&str]) -> Command {
    let mut command = sysgenid();
    command.args(arguments).arg("--source").arg(path);
    command
}

/// The command without root's rights; `None`, with the reason printed, if that cannot be had.
pub(crate) fn unprivileged() -> Option<Command> {
    if !geteuid().is_root() {
        return Some(sysgenid());
    }
    let nobody = || {
        let mut command = sysgenid();
        command.uid(65534).gid(65534);
        command
    };
    match nobody().arg("--version").output() {
        Ok(output) if output.status.success() => Some(nobody()),
        other => {
            skipped(format_args!(
                "root here, and an unprivileged user cannot run this: {other:?}"
            ));
            None
        }
    }
}

/// A process that is killed at the end of its test.
pub(crate) struct Running {
    pub(crate) child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: Option<BufReader<ChildStderr>>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    /// One whose standard output and standard error are what the caller has made them.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("it starts");
        let stdout = child.stdout.take().map(BufReader::new);
        let stderr = child.stderr.take().map(BufReader::new);
        Self {
            child,
            stdout,
            stderr,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output, which may have ended.
    pub(crate) fn stdout(&mut self) -> &mut BufReader<ChildStdout> {
        self.stdout.as_mut().expect("open")
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout
            .as_mut()
            .expect("open")
            .read_line(&mut line)
            .expect("text");
        assert!(!line.is_empty(), "its output has ended");
        line
    }

    /// The next line of its standard error.
    pub(crate) fn told(&mut self) -> String {
        let mut line = String::new();
        self.stderr
            .as_mut()
            .expect("piped")
            .read_line(&mut line)
            .expect("text");
        line
    }

    pub(crate) fn json(&mut self) -> Value {
        serde_json::from_str(&self.line()).expect("JSON")
    }

    /// What `… | head -1` does after the first line.
    pub(crate) fn close_stdout(&mut self) {
        self.stdout = None;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait().expect("wait") {
                Some(status) => return status,
                None if Instant::now() > deadline => panic!("it does not end"),
                None => thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// Waits for its end and returns what it said since it was last asked.
    pub(crate) fn finish(mut self) -> Output {
        let mut stderr = self.stderr.take().expect("piped");
        let errors = thread::spawn(move || {
            let mut text = Vec::new();
            stderr.read_to_end(&mut text).expect("stderr");
            text
        });
        // Its pipe holds all that a command prints.
        let status = self.ended();
        let mut stdout = Vec::new();
        if let Some(mut pipe) = self.stdout.take() {
            pipe.read_to_end(&mut stdout).expect("stdout");
        }
        Output {
            status,
            stdout,
            stderr: errors.join().expect("stderr"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A driver that serves `folder`, whose generation nothing but the test changes.
pub(crate) fn serve(folder: &Path) -> Running {
    let mut driver = Running::start(
        sysgenid()
            .args(["serve", "--follow", "none", "--dir"])
            .arg(folder),
    );
    assert!(driver.line().starts_with("serving generation "));
    driver
}

/// A tracked watcher that will never acknowledge: `sysgenid watch`, stopped.
pub(crate) fn hung_watcher(folder: &Path) -> Running {
    hang(on(folder, &["watch", "--tracked"]))
}

/// The same for a process that the kernel calls by the name of this file, a link to the command.
pub(crate) fn hung_watcher_called(link: &Path, folder: &Path) -> Running {
    symlink(env!("CARGO_BIN_EXE_sysgenid"), link).expect("a link");
    let mut command = Command::new(link);
    command.args(["watch", "--tracked", "--source"]).arg(folder);
    hang(command)
}

fn hang(mut watch: Command) -> Running {
    let mut watcher = Running::start(&mut watch);
    let told = watcher.told();
    assert!(told.contains(": watching "), "{told}");
    watcher.signal(Signal::STOP);
    let stat = format!("/proc/{}/stat", watcher.pid());
    eventually("it is stopped", || {
        fs::read_to_string(&stat)
            .expect("it lives")
            .contains(") T ")
    });
    watcher
}

/// An object without its time, which it must have.
pub(crate) fn timeless(mut object: Value) -> Value {
    let fields = object.as_object_mut().expect("an object");
    let time = fields.remove("time").expect("a time");
    assert!(
        time.as_str().is_some_and(|time| time.ends_with('Z')),
        "{time}"
    );
    object
}

pub(crate) fn run(command: &mut Command) -> Output {
    Running::start(command).finish()
}

/// Runs it, expects success and JSON.
pub(crate) fn object(command: &mut Command) -> Value {
    let output = run(command.arg("--json"));
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// Expects this exit code, and an error that begins as all errors do. Returns the error.
#[track_caller]
pub(crate) fn fails(command: &mut Command, code: i32) -> String {
    failed(&run(command), code)
}

#[track_caller]
pub(crate) fn failed(output: &Output, code: i32) -> String {
    let mut error = text(&output.stderr);
    // As it is said where JSON was asked for.
    if let Ok(object) = serde_json::from_str::<Value>(&error) {
        assert_eq!(
            object.get("code").and_then(Value::as_i64),
            Some(code.into()),
            "{object}"
        );
        error = format!(
            "sysgenid: {}",
            object.get("error").and_then(Value::as_str).expect("text")
        );
    }
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(error.starts_with("sysgenid: "), "{error}");
    assert!(!error.contains("panicked"), "{error}");
    error
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.try_into().expect("a pid")).expect("a pid");
    kill_process(pid, signal).expect("it lives");
}

/// Whether the process runs; one that nobody has reaped does not.
pub(crate) fn runs(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    !matches!(state, Some('Z' | 'X'))
}

#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
