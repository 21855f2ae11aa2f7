// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Looking for the watchers of the kernel device that hold others up. The driver does not know
//! whose they are; `/proc` knows which process has which descriptor, and what state it is in.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rustix::fs::{FileType, stat};
use sysgenid_sys::fdinfo::WatcherState;

use crate::{Generation, Straggler};

/// The tracked and outdated watchers of `device` that can be seen in `proc`, ordered by process.
///
/// A process or a descriptor that is gone, or may not be looked at, is left out.
pub(crate) fn find(proc: &Path, device: u64) -> Vec<Straggler> {
    let mut processes: Vec<u32> = names(proc);
    processes.sort_unstable();
    let mut stragglers = Vec::new();
    for pid in processes {
        let folder = proc.join(pid.to_string());
        let acknowledged: BTreeSet<u32> = names(&folder.join("fd"))
            .into_iter()
            .filter_map(|descriptor| straggling(&folder, descriptor, device))
            .collect();
        stragglers.extend(acknowledged.into_iter().map(|generation| Straggler {
            pid: Some(pid),
            command: command(&folder),
            acknowledged: Generation::from(generation),
        }));
    }
    stragglers
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
    String::from_utf8_lossy(name.strip_suffix(b"\n").unwrap_or(&name)).into_owned()
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
    #![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

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
        assert_eq!(names, ["a b (c)", "\u{fffd}\u{fffd}", "", ""]);
    }
}
