// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A command that this one runs.

use std::ffi::c_int;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};
use sysgenid::Deadline;

/// The child that runs, if one does. Other threads may send it signals: it is waited for under the
/// lock, so no other process has its number while they hold it.
#[derive(Clone, Default)]
pub(crate) struct Job(Arc<Mutex<Option<Child>>>);

impl Job {
    /// Starts the command; the one before has ended.
    pub(crate) fn start(&self, command: &mut Command) -> io::Result<()> {
        let mut running = self.lock();
        *running = Some(command.spawn()?);
        Ok(())
    }

    /// Waits for the end of the child; `None` when the deadline has passed, and if none runs.
    pub(crate) fn wait(&self, deadline: Deadline) -> io::Result<Option<ExitStatus>> {
        let Some(pid) = self.pid() else {
            return Ok(None);
        };
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        loop {
            // A time that the kernel's type cannot hold never passes.
            let left = deadline
                .remaining()
                .and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], left.as_ref()) {
                Ok(0) if deadline.has_passed() => return Ok(None),
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return self.reap(),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Sends the child a signal.
    pub(crate) fn signal(&self, signal: c_int) {
        let running = self.lock();
        if let (Some(child), Some(signal)) = (&*running, Signal::from_named_raw(signal)) {
            let _ = kill_process(Pid::from_child(child), signal);
        }
    }

    /// Sends a signal to the group that the child leads.
    pub(crate) fn signal_group(&self, signal: c_int) {
        let running = self.lock();
        if let (Some(child), Some(signal)) = (&*running, Signal::from_named_raw(signal)) {
            let _ = kill_process_group(Pid::from_child(child), signal);
        }
    }

    fn reap(&self) -> io::Result<Option<ExitStatus>> {
        let ended = self.lock().take();
        ended.map(|mut child| child.wait()).transpose()
    }

    fn pid(&self) -> Option<Pid> {
        self.lock().as_ref().map(Pid::from_child)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        // Nothing under it can leave it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The exit code by which a shell reports how a child ended.
pub(crate) fn exit_code(status: ExitStatus) -> u8 {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    };
    u8::try_from(code).unwrap_or(1)
}

/// How it ended, for people.
pub(crate) fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with code {code}"),
        (None, Some(signal)) => format!("signal {signal} ended it"),
        (None, None) => "it ended".into(),
    }
}
