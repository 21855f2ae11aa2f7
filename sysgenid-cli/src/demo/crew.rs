// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The processes of the demonstration: started, listened to, and always ended and reaped.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use sysgenid::Deadline;

use super::member::Member;

/// How long a process may take to end once it is told to.
const GRACE: Duration = Duration::from_secs(2);

/// What a process said.
pub(super) enum Said {
    Line(String),
    /// Its output has ended, and so has it.
    End,
}

pub(super) struct Crew {
    processes: Vec<(Member, Child)>,
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
        let mut process = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let stdout = process.stdout.take();
        self.processes.push((member, process));
        let sender = self.sender.clone();
        let listen = move || listen(member, stdout, &sender);
        thread::Builder::new()
            .spawn(listen)
            .map(drop)
            .map_err(failed)
    }

    pub(super) fn pid(&self, member: Member) -> Option<u32> {
        self.processes
            .iter()
            .find(|(started, _)| *started == member)
            .map(|(_, process)| process.id())
    }

    /// The next thing that one of them says.
    pub(super) fn next(&mut self, deadline: Deadline) -> Option<(Member, Said)> {
        let left = deadline.remaining().unwrap_or(Duration::MAX);
        self.receiver.recv_timeout(left).ok()
    }

    /// How a process ended whose output has.
    pub(super) fn obituary(&mut self, member: Member) -> String {
        let Some((_, process)) = self
            .processes
            .iter_mut()
            .find(|(found, _)| *found == member)
        else {
            return format!("{member} was not started");
        };
        let pid = process.id();
        match reap(process) {
            Some(status) => format!("{member} (pid {pid}) ended: {status}"),
            None => format!("{member} (pid {pid}) closed its output and does not end"),
        }
    }

    /// Who has ended, if anybody has.
    pub(super) fn ended(&mut self) -> Option<String> {
        let ended = self
            .processes
            .iter_mut()
            .find_map(|(member, process)| process.try_wait().ok().flatten().map(|_| *member))?;
        Some(self.obituary(ended))
    }

    /// Ends and reaps all, the last that was started first. Returns who had to be killed, or did
    /// not end well.
    pub(super) fn dismiss(&mut self) -> Vec<String> {
        let mut complaints = Vec::new();
        for (member, mut process) in self.processes.drain(..).rev() {
            let pid = process.id();
            // The end of its input tells it to end.
            drop(process.stdin.take());
            match reap(&mut process) {
                Some(status) if status.success() => {}
                Some(status) => complaints.push(format!("{member} (pid {pid}): {status}")),
                None => {
                    let _ = process.kill();
                    let _ = process.wait();
                    complaints.push(format!("{member} (pid {pid}) did not end and was killed"));
                }
            }
        }
        complaints
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
