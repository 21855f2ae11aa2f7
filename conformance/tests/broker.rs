// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs the program, as a person or CI does, on a broker of its own.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod common;

use common::run;

/// None of these cases needs anything that a machine may lack.
fn expect_all_passed(arguments: &[&str]) {
    common::expect_all_passed(arguments, true);
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
