// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Starts the processes of a case, exchanges lines with them, and ends them. Every wait has a
//! deadline, because the suite is for brokers that hang.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use clap::builder::PossibleValue;
use rustix::fd::AsFd;
use rustix::process::{
    DumpableBehavior, Gid, Pid, Resource, Rlimit, Signal, Uid, kill_process, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{
    LinkNameSpaceType, UnshareFlags, move_into_link_name_space, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use super::attack;
use super::client::is_readable;
use super::part::{self, How, Part, What};
use super::widened;

/// How long a process that was killed may take to end.
static END: LazyLock<Duration> = LazyLock::new(|| widened(Duration::from_secs(3)));

/// What a process is started as: the arguments of the hidden subcommand.
#[derive(Clone, Debug, clap::Args)]
pub struct Play {
    /// What it does
    part: Part,
    /// The broker's directory
    directory: PathBuf,
    /// The user it becomes
    #[arg(long)]
    uid: Option<u32>,
    /// Its limit of open files
    #[arg(long)]
    files: Option<u64>,
    /// Whether it becomes root of a new user namespace
    #[arg(long)]
    user_namespace: bool,
    /// What it sends, if it sends something
    #[arg(long, requires = "how")]
    what: Option<What>,
    /// How it sends that
    #[arg(long)]
    how: Option<How>,
}

impl Play {
    pub(super) fn new(part: Part, directory: &Path) -> Self {
        Self {
            part,
            directory: directory.to_owned(),
            uid: None,
            files: None,
            user_namespace: false,
            what: None,
            how: None,
        }
    }

    pub(super) fn user(self, uid: Option<u32>) -> Self {
        Self { uid, ..self }
    }

    pub(super) fn files(self, limit: u64) -> Self {
        Self {
            files: Some(limit),
            ..self
        }
    }

    pub(super) fn in_user_namespace(self) -> Self {
        Self {
            user_namespace: true,
            ..self
        }
    }

    pub(super) fn sending(self, what: What, how: How) -> Self {
        Self {
            what: Some(what),
            how: Some(how),
            ..self
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        let part = self.part.to_possible_value().expect("no part is hidden");
        command.args(["play", part.get_name()]).arg(&self.directory);
        if let (Some(what), Some(how)) = (self.what, self.how) {
            let name = |value: Option<PossibleValue>| value.expect("no value is hidden");
            let (what, how) = (
                name(what.to_possible_value()),
                name(how.to_possible_value()),
            );
            command.args(["--what", what.get_name(), "--how", how.get_name()]);
        }
        if let Some(uid) = self.uid {
            command.args(["--uid", &uid.to_string()]);
        }
        if let Some(limit) = self.files {
            command.args(["--files", &limit.to_string()]);
        }
        if self.user_namespace {
            command.arg("--user-namespace");
        }
        command
    }

    /// Does the part. The body of the subcommand, while this process has one thread.
    pub fn run(self) {
        let lines = Lines;
        if let Err(error) = self.prepare() {
            lines.say(format_args!("cannot start: {error}"));
            return;
        }
        let directory = self.directory.as_path();
        let done = match (self.part, self.what, self.how) {
            (Part::Serve, ..) => part::serve(directory, &lines),
            (Part::Honest, ..) => part::honest(directory, &lines),
            (Part::Trigger, ..) => part::trigger(directory, &lines),
            (Part::Return, ..) => part::return_with_watchers(directory, &lines),
            (Part::Splice, ..) => attack::splice(directory, &lines),
            (Part::Send, Some(what), Some(how)) => attack::send(directory, &lines, what, how),
            (Part::Send, ..) => Err("nothing to send".into()),
            (Part::Silent, ..) => attack::silent(directory, &lines),
            (Part::Quadratic, ..) => attack::quadratic(directory, &lines),
            (Part::Unread, ..) => attack::unread(directory, &lines),
            (Part::Packets, ..) => attack::packets(directory, &lines),
            (Part::Storm, ..) => attack::storm(directory, &lines),
            (Part::ForkedAcknowledgement, ..) => attack::forked_acknowledgement(directory, &lines),
            (Part::HostileName, ..) => attack::hostile_name(directory, &lines),
            (Part::LeaveToChild, ..) => attack::leave_to_child(directory, &lines),
        };
        if let Err(error) = done {
            lines.say(format_args!("failed: {error}"));
        }
    }

    fn prepare(&self) -> io::Result<()> {
        if let Some(limit) = self.files {
            let both = Some(limit);
            setrlimit(
                Resource::Nofile,
                Rlimit {
                    current: both,
                    maximum: both,
                },
            )?;
        }
        if let Some(id) = self.uid {
            let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
            set_thread_groups(&[])?;
            set_thread_res_gid(gid, gid, gid)?;
            set_thread_res_uid(uid, uid, uid)?;
            // Else its own files in /proc would be root's.
            set_dumpable_behavior(DumpableBehavior::Dumpable)?;
        }
        if self.user_namespace {
            let uid = rustix::process::geteuid().as_raw();
            // SAFETY: Only unsharing the descriptor table makes this call unsafe.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER) }?;
            std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
        }
        // Last, because a change of the user clears it. Each case runs on a separate thread, and
        // all its processes end with that thread.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        Ok(())
    }
}

/// A process of a case. Dropping it kills it.
pub(super) struct Helper {
    process: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    said: Vec<u8>,
}

impl Helper {
    pub(super) fn start(play: &Play) -> Self {
        let mut process = play
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process starts");
        Self {
            stdin: process.stdin.take().expect("it was piped"),
            stdout: process.stdout.take().expect("it was piped"),
            process,
            said: Vec::new(),
        }
    }

    /// The same, as the first process of a pid namespace.
    pub(super) fn start_in_pid_namespace(play: &Play) -> Result<Self, String> {
        let own = File::open("/proc/thread-self/ns/pid").map_err(|error| error.to_string())?;
        // SAFETY: Only unsharing the descriptor table makes this call unsafe.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWPID) }
            .map_err(|errno| format!("no pid namespace can be made: {errno}"))?;
        let helper = Self::start(play);
        // This thread's next children start in its own namespace again.
        move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::ProcessID))
            .map_err(|errno| format!("returning to the pid namespace: {errno}"))?;
        Ok(helper)
    }

    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The next line that it prints.
    pub(super) fn line(&mut self, patience: Duration) -> Result<String, String> {
        let end = Instant::now() + patience;
        loop {
            if let Some(length) = self.said.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.said.drain(..=length).collect();
                return Ok(String::from_utf8_lossy(&line[..length]).into_owned());
            }
            let left = end.saturating_duration_since(Instant::now());
            if !is_readable(self.stdout.as_fd(), left) {
                return Err(format!("it printed nothing for {patience:?}"));
            }
            let mut bytes = [0; 256];
            match self.stdout.read(&mut bytes) {
                Ok(0) => return Err("it has ended".into()),
                Ok(length) => self.said.extend(&bytes[..length]),
                Err(error) => return Err(format!("reading its output: {error}")),
            }
        }
    }

    /// Starts its next step, with an argument.
    pub(super) fn go_on(&mut self, word: impl std::fmt::Display) {
        writeln!(self.stdin, "{word}").expect("the process can be told");
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("it can be signalled");
    }

    pub(super) fn ends_within(&mut self, patience: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + patience;
        loop {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Some(status);
            }
            if Instant::now() > end {
                return None;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Processor time that it has used.
    pub(super) fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
        let ticks: u64 = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    /// Its state in the kernel, and the function in which it sleeps.
    pub(super) fn state(&self) -> String {
        let file = |name| {
            std::fs::read_to_string(format!("/proc/{}/{name}", self.id())).unwrap_or_default()
        };
        let stat = file("stat");
        let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
        format!("{} in {}", state.get(..1).unwrap_or("?"), file("wchan"))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.process.kill();
        if self.ends_within(*END).is_none() {
            println!("# process {} does not end: {}", self.id(), self.state());
        }
    }
}

/// A process's standard input and output.
pub(super) struct Lines;

impl Lines {
    pub(super) fn say(&self, line: impl std::fmt::Display) {
        let mut out = io::stdout();
        // If this fails, no process is left to read it.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }

    /// Waits for the next step, and returns its argument; `None` if the case is over.
    pub(super) fn wait(&self) -> Option<String> {
        let mut line = String::new();
        match io::stdin().lock().read_line(&mut line) {
            Ok(length) if length > 0 => Some(line.trim_end().to_owned()),
            _ => None,
        }
    }

    /// Holds everything as it is until the case is over.
    pub(super) fn hold(&self) {
        while self.wait().is_some() {}
    }
}
