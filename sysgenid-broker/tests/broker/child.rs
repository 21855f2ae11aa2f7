// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Brokers and clients in processes of their own, which can be killed or have limits: this test
//! binary again, with a role in its environment.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use sysgenid_broker::Server;

use crate::client::Watcher;

const ROLE: &str = "SYSGENID_TEST_ROLE";
const DIR: &str = "SYSGENID_TEST_DIR";
const FILES: &str = "SYSGENID_TEST_FILES";
const FILE_SIZE: &str = "SYSGENID_TEST_FILE_SIZE";
const MARK: &str = "child says: ";

/// Not a test: what a child does.
#[test]
fn child() {
    let Ok(role) = env::var(ROLE) else { return };
    let dir = env::var(DIR).expect("a folder");
    let dir = Path::new(&dir);
    limit(FILES, Resource::Nofile);
    limit(FILE_SIZE, Resource::Fsize);
    match role.as_str() {
        "serve" => serve(dir),
        "watch" => {
            let watcher = Watcher::tracked(dir);
            println!("\n{MARK}ready");
            wait_for_end();
            drop(watcher);
        }
        role => panic!("no such role: {role}"),
    }
}

fn serve(dir: &Path) {
    let server = match Server::bind(dir) {
        Ok(server) => server,
        Err(error) => {
            return println!("\n{MARK}full={} {error}", error.is_disk_full());
        }
    };
    println!("\n{MARK}ready {}", server.capacity());
    let stopper = server.stopper();
    std::thread::spawn(move || {
        wait_for_end();
        stopper.stop();
    });
    server.run().expect("run");
}

fn wait_for_end() {
    // The parent's end is closed when it is done, or dies.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

fn limit(variable: &str, resource: Resource) {
    if let Ok(value) = env::var(variable) {
        let value = Some(value.parse().expect("a limit"));
        let limit = Rlimit {
            current: value,
            maximum: value,
        };
        setrlimit(resource, limit).expect("set the limit");
    }
}

/// A child that has said its first word.
pub(crate) struct Process {
    child: Child,
    _stdin: ChildStdin,
    pub(crate) said: String,
}

impl Process {
    pub(crate) fn serve(dir: &Path) -> Self {
        Self::start(command("serve", dir)).ready()
    }

    pub(crate) fn serve_with_files(dir: &Path, files: u64) -> Self {
        let mut command = command("serve", dir);
        command.env(FILES, files.to_string());
        Self::start(command).ready()
    }

    pub(crate) fn serve_with_file_size(dir: &Path, bytes: u64) -> Self {
        let mut command = command("serve", dir);
        command.env(FILE_SIZE, bytes.to_string());
        Self::start(command)
    }

    pub(crate) fn watch(dir: &Path) -> Self {
        Self::start(command("watch", dir)).ready()
    }

    /// Serves in a mount namespace of its own after this shell script; `Err` says why not.
    pub(crate) fn serve_after(dir: &Path, script: &str) -> Result<Self, String> {
        let inner = command("serve", dir);
        let mut outer = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            outer.args(["--user", "--map-root-user"]);
        }
        let script = format!("{script} && exec \"$@\"");
        outer.args(["--mount", "sh", "-c", &script, "sh"]);
        outer.arg(inner.get_program()).args(inner.get_args());
        for (name, value) in inner.get_envs() {
            outer.env(name, value.expect("a value"));
        }
        let mut process = Self::start_any(outer).map_err(|error| error.to_string())?;
        if process.said.is_empty() {
            let mut said = String::new();
            let stderr = process.child.stderr.take();
            stderr
                .expect("stderr")
                .read_to_string(&mut said)
                .expect("read");
            return Err(said);
        }
        Ok(process)
    }

    fn start(command: Command) -> Self {
        Self::start_any(command).expect("start a child")
    }

    fn start_any(mut command: Command) -> std::io::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take().expect("stdin");
        let stdout = BufReader::new(child.stdout.take().expect("stdout"));
        let said = stdout
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix(MARK).map(str::to_owned));
        Ok(Self {
            child,
            _stdin: stdin,
            said: said.unwrap_or_default(),
        })
    }

    fn ready(self) -> Self {
        assert!(self.said.starts_with("ready"), "{:?}", self.said);
        self
    }

    /// Lets it neither run nor end.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("signal the child");
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How many watchers the broker says it has room for.
    pub(crate) fn capacity(&self) -> u64 {
        let capacity = self.said.strip_prefix("ready ").expect("a broker");
        capacity.parse().expect("a number")
    }

    /// `SIGKILL`.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Processor time it has used, in the kernel's ticks.
    pub(crate) fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("stat");
        let (_, fields) = stat.rsplit_once(')').expect("a command");
        let mut fields = fields.split_whitespace().skip(11);
        let mut next = || -> u64 { fields.next().expect("a field").parse().expect("a number") };
        next() + next()
    }

    /// Resident memory in KiB.
    pub(crate) fn resident(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let value = line.expect("VmRSS").trim().trim_end_matches(" kB");
        value.parse().expect("a number")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

fn command(role: &str, dir: &Path) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["--exact", "child::child", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role).env(DIR, dir);
    command
}

/// Raises the limit of open files of this process and its children as far as it may, and returns
/// it.
pub(crate) fn raise_files_to(wanted: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let maximum = limit.maximum.unwrap_or(u64::MAX).max(wanted);
    for maximum in [maximum, limit.maximum.unwrap_or(u64::MAX)] {
        let raised = Rlimit {
            current: Some(maximum),
            maximum: Some(maximum),
        };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            return maximum;
        }
    }
    limit.current.unwrap_or(u64::MAX)
}
