// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What only another process can do: share a descriptor over a fork, die with one, be root in a
//! user namespace. The program runs itself again with a role.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::process::{self, Command, Stdio};

use clap::ValueEnum;
use rustix::io::Errno;
use rustix::thread::UnshareFlags;
use sysgenid_sys::abi::Dialect;
use sysgenid_sys::device;

/// What a child does with the watcher that is its standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Acknowledges what it reads.
    Acknowledge,
    /// Keeps it open until it is killed.
    Hold,
    /// Triggers as root of a user namespace of its own.
    TriggerAsNamespaceRoot,
}

/// A child at work. Dropping it kills it.
pub(crate) struct Child {
    process: process::Child,
    said: String,
}

impl Child {
    /// Starts a child with a duplicate of `watcher`, and waits until it has done its part.
    pub(crate) fn start(role: Role, watcher: OwnedFd) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let name = role.to_possible_value().expect("no role is hidden");
        let mut process = Command::new(program)
            .arg("child")
            .arg(name.get_name())
            .stdin(Stdio::from(watcher))
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child starts");
        let mut said = String::new();
        BufReader::new(process.stdout.take().expect("it was piped"))
            .read_line(&mut said)
            .expect("the child can be read");
        Self {
            process,
            said: said.trim().to_owned(),
        }
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
pub fn play(role: Role) {
    let watcher = std::io::stdin();
    let done = match role {
        Role::Acknowledge => device::read_generation(&watcher)
            .and_then(|generation| device::acknowledge(&watcher, generation)),
        Role::Hold => Ok(()),
        Role::TriggerAsNamespaceRoot => become_namespace_root()
            .and_then(|()| device::trigger_gen_update(&watcher, Dialect::V6, 0)),
    };
    let word = match done {
        Ok(()) => "ok".to_owned(),
        Err(errno) => name_of(errno),
    };
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{word}").and_then(|()| out.flush());
    if role == Role::Hold {
        loop {
            std::thread::park();
        }
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
