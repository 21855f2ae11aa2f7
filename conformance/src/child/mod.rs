// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What only another process can do: share a descriptor over a fork, die with one, be root in a
//! user namespace. The program runs itself again with a role.

mod changer;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::{Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use rustix::thread::UnshareFlags;
use sysgenid_sys::device::{self, Device};

use crate::background::PATIENCE;

/// What a child does, with the open file that is its standard input or with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Acknowledges what it reads.
    Acknowledge,
    /// Keeps it open until it is killed.
    Hold,
    /// Opens a tracked watcher on the path, and keeps it until it is killed.
    HoldWatcher,
    /// Serves the folder at the path, until it is killed.
    ServeFolder,
    /// Changes the page at the path a million times a second until it is killed.
    ChangePage,
    /// Triggers as root of a user namespace of its own.
    TriggerAsNamespaceRoot,
    /// Waits for the watchers, once and without a limit. The error is its exit code.
    WaitForWatchers,
    /// Waits for the watchers of the source at the path with the SDK. The exit code is 0 if none is
    /// outdated.
    Settle,
    /// Forks while another thread looks for the first time whether it is unique.
    ForkDuringSetUp,
}

/// A child at work. Dropping it kills it.
pub(crate) struct Child {
    process: process::Child,
    said: String,
}

impl Child {
    /// Starts a child with this open file, and waits until it has done its part.
    pub(crate) fn start(role: Role, file: OwnedFd) -> Self {
        Self::spawn(role, |command| command.stdin(Stdio::from(file)))
    }

    /// Starts a child with this path, and waits until it has done its part.
    pub(crate) fn start_on(role: Role, path: &Path) -> Self {
        Self::spawn(role, |command| command.arg(path).stdin(Stdio::null()))
    }

    fn spawn(role: Role, prepare: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let name = role.to_possible_value().expect("no role is hidden");
        let mut command = Command::new(program);
        command
            .arg("child")
            .arg(name.get_name())
            .stdout(Stdio::piped());
        let mut process = prepare(&mut command).spawn().expect("a child starts");
        let mut said = String::new();
        BufReader::new(process.stdout.take().expect("it was piped"))
            .read_line(&mut said)
            .expect("the child can be read");
        Self {
            process,
            said: said.trim().to_owned(),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Stops and continues it until it ends, and returns its exit code. None if a signal ended
    /// it.
    pub(crate) fn stop_until_it_ends(&mut self) -> Option<i32> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            self.stop_and_continue();
            if let Some(status) = self.process.try_wait().expect("it can be waited for") {
                return status.code();
            }
        }
        panic!("a child that is stopped and continued has not ended after {PATIENCE:?}");
    }

    /// Stops it for a moment, and lets it run for another one.
    pub(crate) fn stop_and_continue(&self) {
        let pid = Pid::from_child(&self.process);
        for signal in [Signal::STOP, Signal::CONT] {
            kill_process(pid, signal).expect("a child can be stopped");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        let ended = self.process.try_wait().expect("it can be waited for");
        ended.is_some()
    }

    /// Its exit code, once it has ended. None if a signal ended it.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        self.process.wait().expect("it can be waited for").code()
    }

    /// How its part ended: `ok`, or an error.
    pub(crate) fn said(&self) -> &str {
        &self.said
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Plays a role; the body of the subcommand. Prints one line: `ok`, or an error.
pub fn play(role: Role, path: Option<PathBuf>) {
    let file = std::io::stdin();
    match role {
        Role::Acknowledge => report(
            device::read_generation(&file)
                .and_then(|generation| device::acknowledge(&file, generation))
                .map_err(name_of),
        ),
        Role::Hold => {
            report(Ok(()));
            wait_to_be_killed();
        }
        Role::HoldWatcher => {
            let watcher = sysgenid::Watcher::open_at(path.unwrap_or_default());
            report(watcher.as_ref().map(drop).map_err(ToString::to_string));
            wait_to_be_killed();
        }
        Role::ServeFolder => {
            if let Err(error) = serve(&path.unwrap_or_default()) {
                report(Err(error.to_string()));
            }
        }
        Role::ChangePage => {
            let path = path.unwrap_or_default();
            if let Err(error) = changer::change(&path, || report(Ok(()))) {
                report(Err(error.to_string()));
            }
        }
        Role::TriggerAsNamespaceRoot => report(
            become_namespace_root()
                .and_then(|()| detect(&file))
                .and_then(|device| device.trigger_gen_update(0))
                .map_err(name_of),
        ),
        Role::WaitForWatchers => match detect(&file) {
            Ok(device) => {
                report(Ok(()));
                let waited = device.wait_watchers(0);
                process::exit(waited.err().map_or(0, Errno::raw_os_error));
            }
            Err(errno) => report(Err(name_of(errno))),
        },
        Role::Settle => match sysgenid::Orchestrator::open_at(path.unwrap_or_default()) {
            Ok(orchestrator) => {
                report(Ok(()));
                let waited = orchestrator.wait_for_watchers(PATIENCE);
                process::exit(i32::from(waited.is_err()));
            }
            Err(error) => report(Err(error.to_string())),
        },
        Role::ForkDuringSetUp => report(fork_during_set_up()),
    }
}

fn detect(file: impl AsFd) -> Result<Device, Errno> {
    let file = file
        .as_fd()
        .try_clone_to_owned()
        .map_err(|_| Errno::MFILE)?;
    Device::detect(file).map_err(|refused| refused.errno)
}

fn serve(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let server = sysgenid_broker::Server::bind(folder)?;
    report(Ok(()));
    Ok(server.run()?)
}

/// The child must get through with its own set-up, and must not take a mark for its own that was
/// there when it was forked.
fn fork_during_set_up() -> Result<(), String> {
    static MARK: OnceLock<sysgenid::Uniqueness> = OnceLock::new();

    let start = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            let _ = MARK.set(sysgenid::uniqueness());
        });
        start.wait();
        // SAFETY: The child allocates, which the C library sees to, and ends below.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: Its effect is that a child which hangs is ended.
            unsafe { libc::alarm(20) };
            let copied = MARK.get();
            let own = sysgenid::uniqueness();
            let is_right = Some(&own) != copied && sysgenid::uniqueness() == own;
            // SAFETY: It ends the child and runs nothing of the parent's.
            unsafe { libc::_exit(i32::from(!is_right)) };
        }
        let mut status = 0;
        // SAFETY: The child is this process's own, and the status a place of its own.
        let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        if waited == pid && status == 0 {
            Ok(())
        } else {
            Err(format!("the child ended with {status:#x}"))
        }
    })
}

fn report(done: Result<(), String>) {
    let word = done.err().unwrap_or_else(|| "ok".to_owned());
    let mut out = std::io::stdout();
    // Nobody is left to be told if this fails.
    let _ = writeln!(out, "{word}").and_then(|()| out.flush());
}

fn wait_to_be_killed() -> ! {
    loop {
        std::thread::park();
    }
}

fn name_of(errno: Errno) -> String {
    match errno {
        Errno::ACCESS => "EACCES".into(),
        errno => errno.to_string(),
    }
}

fn become_namespace_root() -> Result<(), Errno> {
    // SAFETY: Only unsharing the descriptor table makes this call unsafe.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER) }?;
    fs::write("/proc/self/uid_map", "0 0 1")
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}
