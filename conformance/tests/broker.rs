// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs the program, as a person or CI does, on a broker of its own.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sysgenid-conformance"))
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output, text)
}

/// Every case that was planned has passed, and none was skipped.
fn expect_all_passed(arguments: &[&str]) {
    let (output, text) = run(arguments);
    let plan = text
        .lines()
        .find_map(|line| line.strip_prefix("1.."))
        .unwrap();
    let passed = text.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(output.status.success(), "{text}");
    assert_eq!(plan, passed.to_string(), "{text}");
    assert!(!text.contains("# SKIP"), "{text}");
}

#[test]
fn the_typed_suite_passes() {
    expect_all_passed(&["typed", "--broker"]);
}

#[test]
fn the_async_suite_passes() {
    expect_all_passed(&["async", "--broker"]);
}

#[test]
fn the_broker_agrees_with_the_model() {
    expect_all_passed(&["model", "--broker", "--cases=512"]);
}

#[test]
fn the_broker_agrees_with_the_model_from_another_seed() {
    expect_all_passed(&["model", "--broker", "--cases=256", "--seed=20260"]);
}

#[test]
fn a_running_broker_is_tested_by_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let _broker = sysgenid_broker::spawn(folder.path()).unwrap();
    let folder = folder.path().to_str().unwrap();
    expect_all_passed(&[
        "typed",
        "--broker",
        folder,
        "--case",
        "watcher_starts_up_to_date",
    ]);
}

#[test]
fn what_cannot_run_is_no_success() {
    for arguments in [
        &["raw", "--device=/nonexistent", "--case=trigger_adds_one"][..],
        &["raw", "--device=/dev/null", "--case=trigger_adds_one"],
        &["typed", "--device=/nonexistent"],
        &["async", "--device=/nonexistent"],
        &["typed", "--broker", "--case=no such case"],
        &["typed", "--broker=/nonexistent"],
        &["model", "--device=/nonexistent"],
    ] {
        let (output, text) = run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
    }
}
