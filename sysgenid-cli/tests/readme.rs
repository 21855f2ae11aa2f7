// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The README says what the command does.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use std::collections::BTreeSet;

use common::{Running, on, run, serve, sysgenid, text};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::tempdir;

const README: &str = include_str!("../README.md");

/// The names of an object's fields, the nested ones included.
fn fields(line: &str) -> BTreeSet<String> {
    let value: Value = serde_json::from_str(line).unwrap();
    let mut names = BTreeSet::new();
    for (name, value) in value.as_object().unwrap() {
        for inner in value.as_array().into_iter().flatten() {
            let inner = inner.as_object().into_iter().flatten();
            names.extend(inner.map(|(inner, _)| format!("{name}.{inner}")));
        }
        names.insert(name.clone());
    }
    names
}

#[test]
fn every_object_that_is_printed_is_documented() {
    let documented: Vec<_> = README
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(fields)
        .collect();
    let folder = tempdir().unwrap();
    let folder = folder.path();
    let _driver = serve(folder);

    let mut printed = String::new();
    let mut watch = Running::start(&mut on(folder, &["watch", "--tracked", "--json"]));
    printed += &watch.line();
    watch.signal(Signal::STOP);
    for arguments in [
        &["status"][..],
        &["get"],
        &["trigger"],
        &["wait", "--timeout", "100ms"],
        &["quiesce", "--min-watchers", "0"],
        &["resume"],
    ] {
        printed += &text(&run(on(folder, arguments).arg("--json")).stdout);
    }
    watch.signal(Signal::CONT);
    printed += &watch.line();
    printed += &text(&run(&mut on(folder, &["wait", "--json"])).stdout);
    printed += &text(&run(sysgenid().args(["demo", "--json"])).stdout);

    assert!(printed.lines().count() >= 9 + 10, "{printed}");
    for line in printed.lines() {
        assert!(
            documented.contains(&fields(line)),
            "not in the README: {line}"
        );
    }
}

#[test]
fn every_exit_code_of_the_help_is_documented() {
    let help = text(&run(sysgenid().arg("--help")).stdout);
    let (_, codes) = help.split_once("Exit codes:\n").unwrap();
    for line in codes.lines() {
        let (code, meaning) = line.trim().split_once("  ").unwrap();
        let begin = format!("| {code} | {meaning}");
        assert!(
            README.lines().any(|line| line.starts_with(&begin)),
            "not in the README: {line}"
        );
    }
}

#[test]
fn every_command_of_the_help_is_documented() {
    let help = text(&run(sysgenid().arg("--help")).stdout);
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    for line in commands.lines().take_while(|line| !line.is_empty()) {
        let name = line.split_whitespace().next().unwrap();
        if name == "help" || line.starts_with("     ") {
            continue;
        }
        assert!(README.contains(&format!("\n## {name}\n")), "{name}");
    }
}
