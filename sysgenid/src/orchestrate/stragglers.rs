// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Looking for the watchers of the kernel device that hold others up. The driver does not know
//! whose they are; `/proc` knows which process has which descriptor, and what state it is in.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rustix::fs::{FileType, stat};
use sysgenid_sys::fdinfo::WatcherState;

use crate::base::Generation;
use crate::orchestrate::Straggler;

/// How often a process is looked at again because its number was given to another one meanwhile.
const ATTEMPTS: u32 = 3;

/// The tracked and outdated watchers of `device` that can be seen in `proc`, ordered by process.
///
/// A process or a descriptor that is gone, or may not be looked at, is left out.
pub(crate) fn find(proc: &Path, device: u64) -> Vec<Straggler> {
    let mut processes: Vec<u32> = names(proc);
    processes.sort_unstable();
    let mut stragglers = Vec::new();
    for pid in processes {
        let folder = proc.join(pid.to_string());
        let look = || of_process(&folder, pid, device);
        stragglers.extend(same_process(&folder, look).unwrap_or_default());
    }
    stragglers
}

/// What `look` read from several files of a process, all of the same process: the kernel gives a
/// free number to another one. `None` if the process is gone.
fn same_process<T>(process: &Path, mut look: impl FnMut() -> T) -> Option<T> {
    for _ in 0..ATTEMPTS {
        let before = start_time(process)?;
        let seen = look();
        if start_time(process)? == before {
            return Some(seen);
        }
    }
    None
}

fn of_process(process: &Path, pid: u32, device: u64) -> Vec<Straggler> {
    let acknowledged: BTreeSet<u32> = names(&process.join("fd"))
        .into_iter()
        .filter_map(|descriptor| straggling(process, descriptor, device))
        .collect();
    if acknowledged.is_empty() {
        return Vec::new();
    }
    let (uid, command) = (user(process), command(process));
    let of = |generation| Straggler {
        pid: Some(pid),
        uid,
        command: command.clone(),
        acknowledged: Generation::from(generation),
    };
    acknowledged.into_iter().map(of).collect()
}

/// When the process was started: field 22 of its `stat`. The second field is the name of the command
/// in parentheses, which may have parentheses and spaces itself.
fn start_time(process: &Path) -> Option<Vec<u8>> {
    let stat = fs::read(process.join("stat")).ok()?;
    let end_of_name = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = stat.get(end_of_name..)?.split(u8::is_ascii_whitespace);
    // The name is the second.
    fields.nth(22 - 2).map(<[u8]>::to_vec)
}

/// The effective user. The owner of the files would be wrong: a process that makes itself undumpable
/// has files that belong to root.
fn user(process: &Path) -> Option<u32> {
    let status = fs::read(process.join("status")).ok()?;
    let mut lines = status.split(|byte| *byte == b'\n');
    let users = lines.find_map(|line| line.strip_prefix(b"Uid:\t"))?;
    let effective = users.split(u8::is_ascii_whitespace).nth(1)?;
    std::str::from_utf8(effective).ok()?.parse().ok()
}

/// What the watcher behind a descriptor has acknowledged, if it is one that holds others up.
///
/// The file itself is not asked, only `/proc`, until nothing but a watcher is left: most
/// descriptors are of other files, and one on a file server that is gone would not answer.
fn straggling(process: &Path, descriptor: u32, device: u64) -> Option<u32> {
    let descriptor = descriptor.to_string();
    let link = process.join("fd").join(&descriptor);
    // What has no path is a socket, a pipe, an epoll instance.
    fs::read_link(&link)
        .ok()
        .filter(|path| path.is_absolute())?;
    // It may be another file by now; then these are not a watcher's lines.
    let text = fs::read(process.join("fdinfo").join(&descriptor)).ok()?;
    let state = WatcherState::parse(&text)?;
    let holds_up = state.tracked && state.outdated && is_device(&link, device);
    holds_up.then_some(state.acknowledged)
}

fn is_device(link: &Path, device: u64) -> bool {
    stat(link).is_ok_and(|found| {
        FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
            && found.st_rdev == device
    })
}

fn command(process: &Path) -> String {
    let name = fs::read(process.join("comm")).unwrap_or_default();
    Straggler::name(name.strip_suffix(b"\n").unwrap_or(&name))
}

/// The entries of a folder that are numbers; none if it cannot be read.
fn names(folder: &Path) -> Vec<u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a failed expectation is a failed test"
    )]

    use std::os::unix::fs::symlink;

    use super::*;

    /// Stands in for the device: every machine has one, and it needs no privilege.
    const DEVICE: &str = "/dev/null";

    /// A folder that looks as `/proc` does to the search.
    struct Proc(tempfile::TempDir);

    impl Proc {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn process(&self, name: &str, command: &[u8]) {
            let folder = self.0.path().join(name);
            fs::create_dir_all(folder.join("fd")).unwrap();
            fs::create_dir(folder.join("fdinfo")).unwrap();
            fs::write(folder.join("comm"), command).unwrap();
            let command = command.strip_suffix(b"\n").unwrap_or(command);
            let stat = [b"7 (", command, b") S 1", &b" 0".repeat(17), b" 5150 0 0\n"].concat();
            fs::write(folder.join("stat"), stat).unwrap();
            let status = "Name:\tUid:\\n\nUmask:\t0022\nUid:\t1000\t1001\t1002\t1003\nGid:\t5\n";
            fs::write(folder.join("status"), status).unwrap();
        }

        fn descriptor(&self, process: &str, name: &str, file: &str, info: &str) {
            let folder = self.0.path().join(process);
            symlink(file, folder.join("fd").join(name)).unwrap();
            fs::write(folder.join("fdinfo").join(name), info).unwrap();
        }

        fn find(&self) -> Vec<(u32, String, u64)> {
            let device = rustix::fs::stat(DEVICE).unwrap().st_rdev;
            find(self.0.path(), device)
                .into_iter()
                .map(|found| (found.pid.unwrap(), found.command, found.acknowledged.get()))
                .collect()
        }
    }

    fn info(acked: u32, tracked: u8, outdated: u8) -> String {
        format!(
            "pos:\t0\nflags:\t02104002\nmnt_id:\t25\nino:\t5\nsysgenid-acked:\t{acked}\n\
             sysgenid-tracked:\t{tracked}\nsysgenid-outdated:\t{outdated}\n"
        )
    }

    #[test]
    fn only_tracked_and_outdated_watchers_are_found() {
        let proc = Proc::new();
        proc.process("40", b"settled\n");
        proc.descriptor("40", "3", DEVICE, &info(7, 1, 0));
        proc.process("300", b"straggler\n");
        proc.descriptor("300", "3", DEVICE, &info(7, 0, 1));
        proc.descriptor("300", "11", DEVICE, &info(6, 1, 1));
        proc.process("5", b"early one\n");
        proc.descriptor("5", "0", DEVICE, &info(0, 1, 1));
        assert_eq!(
            proc.find(),
            [(5, "early one".into(), 0), (300, "straggler".into(), 6)]
        );
    }

    #[test]
    fn duplicates_are_one_and_watchers_of_different_generations_are_not() {
        let proc = Proc::new();
        for process in ["10", "11"] {
            proc.process(process, b"forked\n");
            for descriptor in ["3", "4", "5"] {
                proc.descriptor(process, descriptor, DEVICE, &info(8, 1, 1));
            }
        }
        proc.descriptor("11", "6", DEVICE, &info(7, 1, 1));
        let name = || "forked".to_owned();
        assert_eq!(
            proc.find(),
            [(10, name(), 8), (11, name(), 7), (11, name(), 8)]
        );
    }

    #[test]
    fn another_file_with_the_same_lines_is_no_watcher() {
        let proc = Proc::new();
        proc.process("10", b"liar\n");
        for (descriptor, file) in ["/dev/zero", "/", "/proc/self/comm", "socket:[5]", "3"]
            .into_iter()
            .enumerate()
        {
            proc.descriptor("10", &descriptor.to_string(), file, &info(1, 1, 1));
        }
        // Not even looked at, though it leads to the device.
        let no_path = format!("{}{DEVICE}", "../".repeat(40));
        proc.descriptor("10", "9", &no_path, &info(1, 1, 1));
        assert_eq!(proc.find(), []);
    }

    #[test]
    fn what_is_hostile_or_half_gone_is_left_out() {
        let proc = Proc::new();
        let far = "9".repeat(40);
        for (number, name) in ["self", "-1", "0x10", "4294967296", far.as_str(), "10 "]
            .into_iter()
            .enumerate()
        {
            proc.process(name, b"no process\n");
            proc.descriptor(name, &number.to_string(), DEVICE, &info(1, 1, 1));
        }
        proc.process("20", b"odd\n");
        proc.descriptor("20", "1", DEVICE, "");
        proc.descriptor("20", "2", DEVICE, &info(1, 2, 1));
        proc.descriptor("20", "3", DEVICE, &info(1, 1, 1).repeat(2));
        proc.descriptor("20", "x", DEVICE, &info(1, 1, 1));
        // Its fdinfo went before it was read.
        symlink(DEVICE, proc.0.path().join("20/fd/4")).unwrap();
        // All of it went, or may not be looked at.
        fs::create_dir(proc.0.path().join("21")).unwrap();
        fs::write(proc.0.path().join("22"), "a file").unwrap();
        assert_eq!(proc.find(), []);
        assert_eq!(find(Path::new("/nonexistent"), 0), []);
    }

    #[test]
    fn a_name_is_taken_as_it_is() {
        let proc = Proc::new();
        for (process, comm) in [("1", &b"a b (c)\n"[..]), ("2", b"\xff\xfe"), ("3", b"")] {
            proc.process(process, comm);
            proc.descriptor(process, "0", DEVICE, &info(1, 1, 1));
        }
        proc.process("4", b"");
        fs::remove_file(proc.0.path().join("4/comm")).unwrap();
        proc.descriptor("4", "0", DEVICE, &info(1, 1, 1));
        let names: Vec<_> = proc.find().into_iter().map(|(_, name, _)| name).collect();
        assert_eq!(names, ["a b (c)", r"\xff\xfe", "", ""]);
    }

    #[test]
    fn a_hostile_name_is_escaped_and_does_not_hide_when_the_process_started() {
        let proc = Proc::new();
        let hostile = b"\x1b[2J) R (\n 9\n";
        proc.process("1", hostile);
        proc.descriptor("1", "0", DEVICE, &info(1, 1, 1));
        let names: Vec<_> = proc.find().into_iter().map(|(_, name, _)| name).collect();
        assert_eq!(names, [r"\x1b[2J) R (\n 9"]);
        let process = proc.0.path().join("1");
        assert_eq!(start_time(&process).unwrap(), b"5150");
        assert!(start_time(Path::new("/proc/self")).is_some());
    }

    #[test]
    fn the_user_is_the_effective_one() {
        let proc = Proc::new();
        proc.process("1", b"service\n");
        proc.descriptor("1", "0", DEVICE, &info(1, 1, 1));
        let device = rustix::fs::stat(DEVICE).unwrap().st_rdev;
        assert_eq!(find(proc.0.path(), device)[0].uid, Some(1001));
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(user(Path::new("/proc/self")), Some(own));
        fs::remove_file(proc.0.path().join("1/status")).unwrap();
        assert_eq!(find(proc.0.path(), device)[0].uid, None);
    }

    #[test]
    fn a_process_that_takes_the_number_of_another_is_not_taken_for_it() {
        let proc = Proc::new();
        proc.process("1", b"first\n");
        let process = proc.0.path().join("1");
        let become_another = |start: u32| {
            let stat = format!("7 (x) S 1{} {start} 0 0\n", " 0".repeat(17));
            fs::write(process.join("stat"), stat).unwrap();
        };
        let mut looks = 0;
        let seen = same_process(&process, || {
            looks += 1;
            if looks == 1 {
                become_another(1);
            }
            looks
        });
        assert_eq!(seen, Some(2), "looked at again");

        let mut looks = 0;
        let seen = same_process(&process, || {
            looks += 1;
            become_another(100 + looks);
        });
        assert_eq!((seen, looks), (None, ATTEMPTS));

        let gone = same_process(&process, || fs::remove_file(process.join("stat")).unwrap());
        assert_eq!(gone, None);
    }
}
