// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel says about processes: a client's name, our own limit of descriptors.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The command name of a process, padded with zeros; empty if it cannot be read.
pub(crate) fn command(pid: u32) -> [u8; 16] {
    let mut command = [0; 16];
    let name = match pid {
        0 => Vec::new(),
        pid => fs::read(format!("/proc/{pid}/comm")).unwrap_or_default(),
    };
    let name = name.strip_suffix(b"\n").unwrap_or(&name);
    for (to, from) in command.iter_mut().zip(name) {
        *to = *from;
    }
    command
}

/// Raises the soft limit of open files to the hard one, and returns what it is then.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    // No limit at all is bounded by the size of the kernel's table.
    current.unwrap_or(1 << 31)
}

/// How many descriptors are open now; a guess where `/proc` is not mounted.
pub(crate) fn open_descriptors() -> u64 {
    match fs::read_dir("/proc/self/fd") {
        Ok(entries) => entries.count().try_into().unwrap_or(u64::MAX),
        Err(_) => 32,
    }
}

/// Whether a write to a pipe that nobody reads would end this process. Rust's runtime ignores that
/// signal, and so does Python's; a C program may not. A guess where `/proc` is not mounted.
pub(crate) fn dies_of_broken_pipes() -> bool {
    dies_by(&fs::read_to_string("/proc/self/status").unwrap_or_default())
}

fn dies_by(status: &str) -> bool {
    const SIGPIPE: u64 = 1 << (13 - 1);
    let mask = |name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    match (mask("SigIgn:"), mask("SigCgt:")) {
        (Some(ignored), Some(caught)) => (ignored | caught) & SIGPIPE == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_dies_of_broken_pipes_unless_it_ignores_or_catches_the_signal() {
        let status = |ignored, caught| {
            format!("Name:\tx\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n")
        };
        assert!(dies_by(&status(0, 0)));
        assert!(dies_by(&status(0x800, 0x2000)), "those are its neighbours");
        assert!(!dies_by(&status(0x1000, 0)));
        assert!(!dies_by(&status(0, 0x1000)));
        assert!(!dies_by(""), "nothing is known");
        assert!(!dies_of_broken_pipes(), "Rust's runtime ignores it");
    }
}
