// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Processes of their own: this bench again, started in a role.
//!
//! A broker that shares a process with its clients shares their limit of open files, their memory
//! and their processor time.
#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a bench that cannot run says why and ends"
)]

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const ROLE: &str = "SYSGENID_BENCH_ROLE";
const FOLDER: &str = "SYSGENID_BENCH_FOLDER";
const BROKER: &str = "broker";

/// What this process is to be, and on which folder; `None` for the bench itself.
#[must_use]
pub fn role() -> Option<(String, PathBuf)> {
    let role = std::env::var(ROLE).ok()?;
    Some((role, std::env::var_os(FOLDER)?.into()))
}

/// A process in a role. It ends with its standard input, and so with us.
#[derive(Debug)]
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts this binary again.
    #[must_use]
    pub fn start(role: &str, folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .env(ROLE, role)
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self {
            child,
            input,
            output,
        }
    }

    /// Starts a broker, and says how many watchers it has room for. The process's other role is
    /// [`serve`].
    #[must_use]
    pub fn broker(folder: &Path) -> (Self, u64) {
        let mut broker = Self::start(BROKER, folder);
        let capacity = broker.hear().parse().expect("a broker that has started");
        (broker, capacity)
    }

    /// Writes a line to it.
    pub fn tell(&mut self, line: &str) {
        let input = self.input.as_mut().expect("its input");
        writeln!(input, "{line}").expect("a process that listens");
    }

    /// The next line of its output.
    #[must_use]
    pub fn hear(&mut self) -> String {
        let line = self.output.next().expect("a process that has not ended");
        line.expect("a line")
    }

    /// Processor time that it has used, in clock ticks, a hundredth of a second each.
    #[must_use]
    pub fn processor_ticks(&self) -> f64 {
        processor_ticks(&self.proc())
    }

    /// Its resident memory in KiB.
    #[must_use]
    pub fn resident_kib(&self) -> f64 {
        status_number(&read(&self.proc(), "status"), "VmRSS")
    }

    /// Its folder in `/proc`.
    #[must_use]
    pub fn proc(&self) -> PathBuf {
        format!("/proc/{}", self.child.id()).into()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// Processor time that the process with this folder in `/proc` has used, in clock ticks.
#[must_use]
pub fn processor_ticks(proc: &Path) -> f64 {
    let stat = read(proc, "stat");
    // The command's name, in parentheses, may hold anything; the numbers follow it.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|tick| tick.parse::<f64>().ok())
        .sum()
}

/// The number in a line of a process's `status`.
#[must_use]
pub fn status_number(status: &str, name: &str) -> f64 {
    let mut lines = status.lines().filter_map(|line| line.strip_prefix(name));
    let value = lines.find_map(|line| line.strip_prefix(':'));
    value
        .and_then(|value| value.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .expect("a number in the status")
}

fn read(proc: &Path, file: &str) -> String {
    std::fs::read_to_string(proc.join(file)).expect("a file of /proc")
}

/// Raises the limit of open files of this process as far as it may, and returns what it is then.
pub fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    current.unwrap_or(u64::MAX)
}

/// Is a broker, until standard input ends.
#[must_use]
pub fn serve(folder: &Path) -> ExitCode {
    let server = sysgenid_broker::Server::bind(folder).expect("a broker");
    let stopper = server.stopper();
    thread::spawn(move || {
        let _ = std::io::stdin().lines().next();
        stopper.stop();
    });
    println!("{}", server.capacity());
    server.run().expect("a broker that runs");
    ExitCode::SUCCESS
}
