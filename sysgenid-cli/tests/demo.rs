// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `sysgenid demo` shows what it promises, or fails and says at which step.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

mod common;

use std::collections::HashMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Running, eventually, failed, run, runs, send, sysgenid, text};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::{TempDir, tempdir};

fn demo(temporary: &Path) -> Command {
    let mut command = sysgenid();
    command.arg("demo").env("TMPDIR", temporary);
    command
}

/// A demonstration that is about to change the generation, and its processes by name.
fn started() -> (TempDir, Running, HashMap<String, u32>) {
    let temporary = tempdir().unwrap();
    let mut demo = Running::start(&mut demo(temporary.path()));
    while !demo.line().starts_with("process ") {}
    let mut processes = HashMap::new();
    while processes.len() < 5 {
        let line = demo.line();
        let mut words = line.split_whitespace();
        let name = words.next().unwrap().to_owned();
        processes.insert(name, words.next().unwrap().parse().unwrap());
    }
    assert_eq!(processes.remove("orchestrator"), Some(demo.pid()));
    (temporary, demo, processes)
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

fn events<'a>(lines: &'a [Value], name: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["event"] == name).collect()
}

#[test]
fn the_timeline_tells_who_noticed_who_rebuilt_and_who_held_up() {
    let temporary = tempdir().unwrap();
    let output = run(&mut demo(temporary.path()));
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output.stderr), "", "nothing to complain about");

    let only = |what: &str| {
        let lines: Vec<_> = shown.lines().filter(|line| line.contains(what)).collect();
        assert_eq!(lines.len(), 1, "{what}: {shown}");
        lines[0].to_owned()
    };
    let slow = only("the same, but needs 600 ms to rebuild");
    let slow = slow.split_whitespace().nth(1).unwrap().to_owned();
    let held_up = only("may not resume yet");
    assert!(
        held_up.contains(&format!("demo-slow (pid {slow})")),
        "{held_up}"
    );
    assert!(only("held up by").contains("demo-slow"), "{shown}");
    for who in ["watcher", "slow"] {
        assert!(
            shown
                .lines()
                .any(|line| line.contains(&format!("{who:<12}  woken, notices")))
        );
    }
    only("guarded       about to use its secret, notices generation 1");
    assert!(only("resumed  ").contains(" ms, "), "{shown}");
    assert_eq!(shown.matches("secret rebuilt, ").count(), 3, "{shown}");
    for rebuilt in shown.split("secret rebuilt, ").skip(1) {
        let (before, rest) = rebuilt.split_once(" -> ").unwrap();
        assert_ne!(before, &rest[..8], "{shown}");
        assert_eq!(before.len(), 8, "{shown}");
        assert!(
            before.bytes().all(|digit| digit.is_ascii_hexdigit()),
            "{shown}"
        );
    }
    assert!(is_empty(temporary.path()), "the temporary folder is left");
}

#[test]
fn the_json_tells_the_same_in_order_of_time() {
    let temporary = tempdir().unwrap();
    let output = run(demo(temporary.path()).arg("--json"));
    assert!(output.status.success(), "{output:?}");
    let shown = text(&output.stdout);
    let lines: Vec<Value> = shown
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();

    let times: Vec<_> = lines
        .iter()
        .map(|line| line["after_ns"].as_u64().unwrap())
        .collect();
    assert!(times.is_sorted(), "{shown}");
    assert_eq!(events(&lines, "trigger").len(), 1);
    assert_eq!(events(&lines, "changed")[0]["generation"], 1);
    let noticed = events(&lines, "noticed");
    let rebuilt = events(&lines, "rebuilt");
    for who in ["guarded", "watcher", "slow"] {
        assert!(
            noticed.iter().any(|line| line["who"] == who),
            "{who}: {shown}"
        );
        let line = rebuilt.iter().find(|line| line["who"] == who).unwrap();
        assert_ne!(line["before"], line["after"], "{shown}");
        assert_eq!(line["acknowledged"], who != "guarded", "{shown}");
    }
    let slow = rebuilt.iter().find(|line| line["who"] == "slow").unwrap();
    let stragglers = events(&lines, "held_up")[0]["stragglers"]
        .as_array()
        .unwrap();
    let mut named = stragglers.iter().filter(|one| one["pid"] == slow["pid"]);
    let straggler = named.next().unwrap();
    assert_eq!(straggler["command"], "demo-slow", "{shown}");
    assert_eq!(straggler["acknowledged"], 0, "{shown}");
    assert_eq!(lines.last().unwrap()["event"], "resumed");
}

#[test]
fn a_client_that_never_acknowledges_fails_it() {
    let (temporary, demo, processes) = started();
    send(processes["slow"], Signal::STOP);
    let error = failed(&demo.finish(), 1);
    assert!(
        error.contains("\"wait until all have acknowledged\" failed"),
        "{error}"
    );
    assert!(
        error.contains(&format!("demo-slow (pid {})", processes["slow"])),
        "{error}"
    );
    for (name, pid) in processes {
        assert!(
            !Path::new(&format!("/proc/{pid}")).exists(),
            "{name} was not reaped"
        );
    }
    assert!(is_empty(temporary.path()), "the temporary folder is left");
}

#[test]
fn a_client_that_dies_fails_it() {
    let (temporary, demo, processes) = started();
    send(processes["slow"], Signal::KILL);
    let error = failed(&demo.finish(), 1);
    assert!(
        error.contains("\"name who holds up the resume\" failed"),
        "{error}"
    );
    let dead = format!("slow (pid {}) ended, signal: 9", processes["slow"]);
    assert!(error.contains(&dead), "{error}");
    assert!(is_empty(temporary.path()), "the temporary folder is left");
}

#[test]
fn a_guarded_client_that_does_not_rebuild_fails_it() {
    let (_temporary, demo, processes) = started();
    send(processes["guarded"], Signal::STOP);
    let error = failed(&demo.finish(), 1);
    assert!(
        error.contains("\"see every client notice and rebuild\" failed"),
        "{error}"
    );
    assert!(
        error.contains("only these rebuilt their secret: watcher, slow"),
        "{error}"
    );
}

#[test]
fn a_driver_that_dies_fails_it() {
    let (_temporary, demo, processes) = started();
    send(processes["driver"], Signal::KILL);
    let error = failed(&demo.finish(), 1);
    assert!(error.contains("demo: step \""), "{error}");
    assert!(
        error.contains(&format!("driver (pid {}) ended", processes["driver"])),
        "{error}"
    );
}

#[test]
fn a_killed_demo_leaves_no_process() {
    let (_temporary, demo, processes) = started();
    demo.signal(Signal::KILL);
    for (name, pid) in processes {
        eventually(&name, || !runs(pid));
    }
}

#[test]
fn an_interrupted_demo_leaves_neither_process_nor_folder() {
    let (temporary, demo, processes) = started();
    demo.signal(Signal::INT);
    let output = demo.finish();
    assert_eq!(
        output.status.code(),
        None,
        "ended by the signal: {output:?}"
    );
    for (name, pid) in processes {
        eventually(&name, || !runs(pid));
    }
    eventually("no folder", || is_empty(temporary.path()));
}

#[test]
fn a_demo_that_nobody_saw_is_no_success_and_no_noise() {
    let temporary = tempdir().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(ours);
    let mut command = demo(temporary.path());
    let child = command
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .stderr(Stdio::piped())
        .spawn();
    let output = child.unwrap().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(text(&output.stderr), "");
    assert!(is_empty(temporary.path()), "the temporary folder is left");
}
