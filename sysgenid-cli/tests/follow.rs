// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `sysgenid serve --follow`, and what `status` shows of it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

mod common;

use std::fs;
use std::io::BufRead;
use std::path::Path;

use common::{Running, failed, fails, object, on, run, serve, skipped, sysgenid, text};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::tempdir;

/// A driver with these followers, and what it has said of them.
fn serve_following(folder: &Path, names: &str) -> (Running, String) {
    let mut command = sysgenid();
    command
        .args(["serve", "--follow", names, "--dir"])
        .arg(folder);
    let mut driver = Running::start(&mut command);
    assert!(driver.line().starts_with("serving generation 0 "));
    let mut said = String::new();
    loop {
        match driver.line() {
            line if line.starts_with("clients find it with") => return (driver, said),
            line => said += &line,
        }
    }
}

#[test]
fn auto_takes_what_works_and_says_why_not_the_rest() {
    let folder = tempdir().unwrap();
    let (driver, said) = serve_following(folder.path(), "auto");
    let followers = object(&mut on(folder.path(), &["status"]))["followers"].clone();
    for name in ["kmsg", "vmclock", "vmgenid", "gvisor"] {
        let is_followed = followers.as_array().unwrap().contains(&json!(name));
        let is_missing = said.contains(&format!("\n  not {name} ("));
        assert!(is_followed != is_missing, "{name}: {said}");
    }
    driver.signal(Signal::TERM);
    let warned = text(&driver.finish().stderr).contains("warning: nothing here announces restores");
    assert_eq!(warned, followers == json!([]));
}

#[test]
fn a_follower_that_is_named_must_work() {
    if Path::new("/proc/gvisor").exists() {
        return skipped("this is gVisor");
    }
    let parent = tempdir().unwrap();
    let folder = parent.path().join("new");
    let mut command = sysgenid();
    let error = fails(
        command
            .args(["serve", "--follow", "gvisor", "--dir"])
            .arg(&folder),
        6,
    );
    assert!(
        error.contains("cannot follow gvisor: /proc/gvisor"),
        "{error}"
    );
    assert!(!folder.join("watch.sock").exists());
    let output = run(sysgenid().args(["serve", "--follow", "kmsg,x"]));
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn a_driver_that_follows_nothing_says_so() {
    let folder = tempdir().unwrap();
    let (_driver, said) = serve_following(folder.path(), "none");
    assert_eq!(
        said,
        "follows nothing: whoever restores runs `sysgenid trigger`\n"
    );
}

/// The capability that opening the log takes.
const SYSLOG: u64 = 1 << 34;

#[test]
fn no_thread_keeps_the_capability_that_only_the_opening_takes() {
    let folder = tempdir().unwrap();
    let mut command = sysgenid();
    command
        .args(["serve", "--follow", "kmsg", "--dir"])
        .arg(folder.path());
    let mut driver = Running::start(&mut command);
    let mut line = String::new();
    driver.stdout().read_line(&mut line).unwrap();
    if line.is_empty() {
        let error = failed(&driver.finish(), 6);
        return skipped(error.trim());
    }
    let own = sets("/proc/self/status");
    if own.iter().all(|set| set & SYSLOG == 0) {
        return skipped("this process does not have the capability itself");
    }
    let tasks = format!("/proc/{}/task", driver.pid());
    let mut threads = 0;
    for task in fs::read_dir(tasks).unwrap() {
        let status = task.unwrap().path().join("status");
        // A thread that has printed its text may have ended.
        if !status.exists() {
            continue;
        }
        threads += 1;
        common::eventually("it is given up", || {
            !status.exists()
                || sets(status.to_str().unwrap())
                    .iter()
                    .all(|set| set & SYSLOG == 0)
        });
    }
    assert!(threads >= 2, "the log is followed by a thread");
}

/// The inheritable, permitted and effective capabilities of a thread.
fn sets(status: &str) -> [u64; 3] {
    let text = fs::read_to_string(status).unwrap_or_default();
    ["CapInh:", "CapPrm:", "CapEff:"].map(|name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |set| u64::from_str_radix(set.trim(), 16).unwrap())
    })
}

#[test]
fn status_shows_the_last_change_its_cause_and_its_time() {
    let folder = tempdir().unwrap();
    let _driver = serve(folder.path());
    let status = || object(&mut on(folder.path(), &["status"]));
    assert_eq!(status()["cause"], Value::Null);
    assert_eq!(status()["changed"], Value::Null);
    run(&mut on(folder.path(), &["trigger"]));
    assert_eq!(status()["cause"], "trigger");
    let changed = status()["changed"].as_str().unwrap().to_owned();
    assert!(
        changed.starts_with("20") && changed.ends_with('Z'),
        "{changed}"
    );
    let shown = text(&run(&mut on(folder.path(), &["status"])).stdout);
    assert!(
        shown.ends_with(&format!("\nchanged     {changed}: triggered\n")),
        "{shown}"
    );
}
