// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel's own log.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, read};
use sysgenid_broker::Server;
use sysgenid_broker::follow::{Choice, Follow, Followers};
use sysgenid_sys::wire::Cause;

use crate::client::{Client, PATIENCE};
use crate::follow::Broker;
use crate::played::TEXT;
use crate::skipped::skipped;

/// The records of the log: its descriptor, opened at the start of the ring.
struct Records(OwnedFd);

impl Iterator for Records {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut record = [0; 8192];
        loop {
            match read(&self.0, &mut record) {
                Ok(length) => return Some(String::from_utf8_lossy(&record[..length]).into_owned()),
                Err(Errno::PIPE | Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn records() -> Option<Records> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match open("/dev/kmsg", flags, Mode::empty()) {
        Ok(file) => Some(Records(file)),
        Err(error) => {
            skipped(format_args!(
                "the kernel's log cannot be read here: {error}"
            ));
            None
        }
    }
}

fn sequence(record: &str) -> u64 {
    record.split(',').nth(1).unwrap().parse().unwrap()
}

fn is_restore(record: &str) -> bool {
    let (header, text) = record.split_once(';').unwrap();
    let prefix: u64 = header.split(',').next().unwrap().parse().unwrap();
    prefix >> 3 == 0 && text.lines().next() == Some(TEXT)
}

/// The real log, whether or not this machine has a VMGENID device.
fn follow() -> Follow {
    let follow = Follow::new(Choice::Named(Followers::KMSG));
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    follow.log(open("/dev/kmsg", flags, Mode::empty()).unwrap())
}

/// The sequence number that the broker has got to, which it keeps in its directory.
fn followed(dir: &Path) -> u64 {
    let text = fs::read_to_string(dir.join("followed")).unwrap_or_default();
    let field = text.split(' ').nth(1).unwrap_or_default();
    field.parse().unwrap_or_default()
}

#[test]
fn what_a_process_writes_to_the_log_is_no_restore() {
    if records().is_none() {
        return;
    }
    let writing = File::options().write(true).open("/dev/kmsg");
    let setting = fs::read_to_string("/proc/sys/kernel/printk_devkmsg").unwrap_or_default();
    if writing.is_err() || setting.trim() == "off" {
        return skipped("the kernel's log cannot be written here (printk.devkmsg=off?)");
    }
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), follow());
    let restores = || {
        records()
            .unwrap()
            .filter(|record| is_restore(record))
            .count()
    };
    let before = restores();
    let mark = format!("{} of a test of sysgenid", std::process::id());
    // Each level, facilities that are the kernel's own, and texts that try to begin another line.
    for text in [
        TEXT.into(),
        format!("<0>{TEXT}"),
        format!("<5>{TEXT}"),
        format!("<7>{TEXT}\n"),
        format!("<4096>{TEXT}"),
        format!("<18446744073709551621>{TEXT}"),
        format!("x\n<5>{TEXT}\n5,1,1,-;{TEXT}"),
        // A record is complete with its line break.
        format!("{mark}\n"),
    ] {
        // One at a time: more than ten at once are dropped, each from its own opening.
        let mut log = File::options().write(true).open("/dev/kmsg").unwrap();
        log.write_all(text.as_bytes()).unwrap();
    }
    let last = records()
        .unwrap()
        .filter(|record| record.contains(&mark))
        .last();
    let last = sequence(&last.expect("it is in the log"));
    let forged = records().unwrap().filter(|record| record.contains(TEXT));
    assert!(forged.count() >= 6, "they are in the log as well");

    let end = Instant::now() + PATIENCE;
    while followed(folder.path()) <= last {
        assert!(Instant::now() < end, "the broker has not read it");
        std::thread::yield_now();
    }
    let status = Client::watch(&broker.dir).status();
    if restores() == before {
        assert_eq!((status.generation, status.cause), (0, Cause::NONE));
    } else {
        skipped("this machine was restored while the test ran");
    }
}

#[test]
fn a_real_record_is_a_restore() {
    let Some(records) = records() else { return };
    let Some(record) = records.filter(|record| is_restore(record)).last() else {
        return skipped("this machine's log has no record of a restore");
    };
    let folder = tempfile::tempdir().unwrap();
    // A page, and the word of a broker that ended just before the record.
    drop(Server::bind(folder.path()).unwrap());
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let unknown = "-".repeat(20);
    let word = format!(
        "{} {:020} {unknown} {unknown}\n",
        boot.trim(),
        sequence(&record)
    );
    fs::write(folder.path().join("followed"), word).unwrap();
    let broker = Broker::start(folder.path(), follow());
    assert_eq!(broker.reaches(1), Cause::RESTORE);
    drop(broker);
    // And not once more.
    let broker = Broker::start(folder.path(), follow());
    let next = Client::control(&broker.dir).trigger(0);
    assert_eq!(next.generation, 2);
}

#[test]
fn the_log_is_followed_where_the_kernel_logs_restores_and_else_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::bind(folder.path()).unwrap();
    let followed = server.follow(Follow::new(Choice::Named(Followers::KMSG)));
    let drivers = ["platform", "acpi"].map(|bus| format!("/sys/bus/{bus}/drivers/vmgenid"));
    let has_device = drivers.iter().any(|driver| {
        let entries = fs::read_dir(driver).into_iter().flatten().flatten();
        let links = entries.filter(|entry| entry.file_type().unwrap().is_symlink());
        links
            .map(|entry| entry.file_name())
            .any(|name| name != "module")
    });
    match followed {
        Ok(report) => {
            assert!(has_device);
            assert_eq!(report.followers, Followers::KMSG);
        }
        Err(error) => {
            assert!(error.is_no_follower());
            let readable = records().is_some();
            assert!(!(readable && has_device), "{error}");
        }
    }
}
