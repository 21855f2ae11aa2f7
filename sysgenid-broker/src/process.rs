// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel says about processes: whose a watcher is, and what this process has room for.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A process, told from others that have its id later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// In this process's pid namespace; 0 if it cannot be seen from there.
    pid: u32,
    /// When it was started, in the kernel's ticks since the boot; `None` if the kernel does not say.
    started: Option<u64>,
}

impl Process {
    /// The process that has this id now.
    pub(crate) fn with_pid(pid: u32) -> Self {
        Self {
            pid,
            started: start_time(pid),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Its command's name, padded with zeros, and `None` if it has ended, or cannot be told from one
    /// that has its id by now. The process may have chosen any bytes.
    ///
    /// Only files of `/proc` are read that need no lock of the process's memory, which it could hold
    /// for as long as it likes.
    pub(crate) fn command(&self) -> Option<[u8; 16]> {
        let started = self.started?;
        let name = fs::read(format!("/proc/{}/comm", self.pid)).ok()?;
        // After it was read, so that it is not another one's.
        if start_time(self.pid) != Some(started) {
            return None;
        }
        let mut command = [0; 16];
        let name = name.strip_suffix(b"\n").unwrap_or(&name);
        for (to, from) in command.iter_mut().zip(name) {
            *to = *from;
        }
        Some(command)
    }
}

fn start_time(pid: u32) -> Option<u64> {
    if pid == 0 {
        return None;
    }
    started_in(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The start time in the text of a `stat` file. The second field is the command's name in
/// parentheses, which the process chose; the last closing one is the kernel's.
fn started_in(stat: &[u8]) -> Option<u64> {
    const FIELDS_BEHIND_NAME: usize = 22 - 2;
    let end_of_name = stat.iter().rposition(|&byte| byte == b')')?;
    let mut behind = stat.get(end_of_name + 1..)?.split(|&byte| byte == b' ');
    // Before the first of them is a space, so that the one before is empty.
    let field = behind.nth(FIELDS_BEHIND_NAME)?;
    std::str::from_utf8(field).ok()?.trim().parse().ok()
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

/// How many mappings this process can make yet: the kernel's limit for each process, without those it
/// has. A guess where `/proc` is not mounted.
pub(crate) fn free_mappings() -> u64 {
    let limit = read_number("/proc/sys/vm/max_map_count").unwrap_or(65_530);
    let used = fs::read("/proc/self/maps").map_or(200, |maps| {
        maps.iter().filter(|&&byte| byte == b'\n').count() as u64
    });
    limit.saturating_sub(used)
}

/// How many descriptors the kernel lets this user have in epoll instances.
pub(crate) fn epoll_watches() -> u64 {
    read_number("/proc/sys/fs/epoll/max_user_watches").unwrap_or(u64::MAX)
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_when_it_was_started() {
        let this = Process::with_pid(std::process::id());
        assert!(this.command().is_some());
        let reused = Process {
            started: this.started.map(|started| started - 1),
            ..this
        };
        assert_eq!(reused.command(), None, "another one had this id before");
        assert_eq!(Process::with_pid(0).command(), None);
    }

    #[test]
    fn a_name_with_parentheses_does_not_move_the_fields() {
        let fields: Vec<_> = (3..60).map(|field| field.to_string()).collect();
        let stat = format!("77 (a) b 1 2 ) S) {}\n", fields.join(" "));
        assert_eq!(started_in(stat.as_bytes()), Some(22));
        for broken in ["", ")", "1 (a", "1 (a) S 1 2 3"] {
            assert_eq!(started_in(broken.as_bytes()), None, "{broken:?}");
        }
    }
}
