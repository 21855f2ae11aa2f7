// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The processes of the demonstration: started, listened to, and always ended and reaped.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sysgenid::Deadline;

use super::member::Member;

/// How long a process may take to end once it is told to.
const GRACE: Duration = Duration::from_secs(2);
/// How long to look for one that has ended, after a failure.
const POST_MORTEM: Duration = Duration::from_millis(400);

/// What a process said.
pub(super) enum Said {
    Line(String),
    /// Its output has ended, and so has it.
    End,
}

struct Process {
    member: Member,
    child: Child,
    /// Reads its standard error, which is told only if it fails, into `complaint`.
    reader: Option<JoinHandle<String>>,
    complaint: String,
}

pub(super) struct Crew {
    processes: Vec<Process>,
    sender: Sender<(Member, Said)>,
    receiver: Receiver<(Member, Said)>,
}

impl Crew {
    pub(super) fn new() -> Self {
        let (sender, receiver) = channel();
        Self {
            processes: Vec::new(),
            sender,
            receiver,
        }
    }

    /// Starts this program anew with these arguments. Its standard input ends when this process
    /// does, by whatever cause.
    pub(super) fn start(&mut self, member: Member, arguments: &[&OsStr]) -> Result<(), String> {
        let failed = |error| format!("starting {member}: {error}");
        let program = env::current_exe().map_err(failed)?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        self.processes.push(Process {
            member,
            child,
            reader: None,
            complaint: String::new(),
        });
        let sender = self.sender.clone();
        let listen = move || listen(member, stdout, &sender);
        thread::Builder::new().spawn(listen).map_err(failed)?;
        let reader = thread::Builder::new()
            .spawn(move || last_line(stderr))
            .map_err(failed)?;
        if let Some(process) = self.processes.last_mut() {
            process.reader = Some(reader);
        }
        Ok(())
    }

    pub(super) fn pid(&self, member: Member) -> Option<u32> {
        let mut processes = self.processes.iter();
        processes
            .find(|process| process.member == member)
            .map(|process| process.child.id())
    }

    /// The next thing that one of them says.
    pub(super) fn next(&mut self, deadline: Deadline) -> Option<(Member, Said)> {
        let left = deadline.remaining().unwrap_or(Duration::MAX);
        self.receiver.recv_timeout(left).ok()
    }

    /// How a process ended whose output has.
    pub(super) fn obituary(&mut self, member: Member) -> String {
        match self
            .processes
            .iter_mut()
            .find(|process| process.member == member)
        {
            Some(process) => process.obituary(),
            None => format!("{member} was not started"),
        }
    }

    /// Who has ended, in the order in which they were started.
    pub(super) fn ended(&mut self) -> Vec<String> {
        let ended = |process: &mut Process| match process.child.try_wait() {
            Ok(Some(_)) => Some(process.obituary()),
            _ => None,
        };
        self.processes.iter_mut().filter_map(ended).collect()
    }

    /// The same, when something failed that the end of a process may have caused: its connections
    /// are closed a moment before it can be seen to have ended.
    pub(super) fn ended_just_now(&mut self) -> Vec<String> {
        let deadline = Instant::now() + POST_MORTEM;
        while self.ended().is_empty() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        // One may take others with it, and be seen after them.
        thread::sleep(POST_MORTEM / 4);
        self.ended()
    }

    /// Ends and reaps all, the last that was started first. Returns who had to be killed, or did
    /// not end well.
    pub(super) fn dismiss(&mut self) -> Vec<String> {
        let mut complaints = Vec::new();
        for mut process in self.processes.drain(..).rev() {
            // The end of its input tells it to end.
            drop(process.child.stdin.take());
            match reap(&mut process.child) {
                Some(status) if status.success() => {}
                Some(_) => complaints.push(process.obituary()),
                None => {
                    let (member, pid) = (process.member, process.child.id());
                    let _ = process.child.kill();
                    let _ = process.child.wait();
                    complaints.push(format!("{member} (pid {pid}) did not end and was killed"));
                }
            }
        }
        complaints
    }
}

impl Process {
    fn obituary(&mut self) -> String {
        let (member, pid) = (self.member, self.child.id());
        let Some(status) = reap(&mut self.child) else {
            return format!("{member} (pid {pid}) closed its output and does not end");
        };
        if let Some(reader) = self.reader.take() {
            self.complaint = reader.join().unwrap_or_default();
        }
        let complaint = &self.complaint;
        if status.success() || complaint.is_empty() {
            return format!("{member} (pid {pid}) ended, {status}");
        }
        format!("{member} (pid {pid}) ended, {status}, and said \"{complaint}\"")
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.dismiss();
    }
}

fn reap(process: &mut Child) -> Option<ExitStatus> {
    let end = Instant::now() + GRACE;
    loop {
        match process.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < end => thread::sleep(Duration::from_millis(1)),
            _ => return None,
        }
    }
}

fn last_line(stderr: Option<ChildStderr>) -> String {
    let mut said = Vec::new();
    if let Some(mut stderr) = stderr {
        // What was read until an error is what there is.
        let _ = stderr.read_to_end(&mut said);
    }
    String::from_utf8_lossy(&said)
        .lines()
        .last()
        .unwrap_or_default()
        .into()
}

fn listen(member: Member, stdout: Option<ChildStdout>, sender: &Sender<(Member, Said)>) {
    if let Some(stdout) = stdout {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send((member, Said::Line(line))).is_err() {
                return;
            }
        }
    }
    // Nobody listens any more if this fails.
    let _ = sender.send((member, Said::End));
}
