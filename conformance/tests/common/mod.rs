// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs the program, as a person or CI does.

#[allow(dead_code, reason = "each test file uses its share")]
pub(crate) mod skipped;

use std::process::{Command, Output};

pub(crate) fn run(arguments: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sysgenid-conformance"))
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output, text)
}

/// Every case that was planned passes. Where not every case `can_run`, it may also be skipped, for a
/// reason.
pub(crate) fn expect_all_passed(arguments: &[&str], can_run: bool) {
    let (output, text) = run(arguments);
    // With what the cases print besides, for a failure.
    println!("{text}");
    assert!(output.status.success(), "{text}");
    let plan = text.lines().find_map(|line| line.strip_prefix("1.."));
    let passed: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("ok "))
        .collect();
    assert_eq!(plan.unwrap(), passed.len().to_string(), "{text}");
    for line in passed {
        let Some((case, reason)) = line.split_once(" # SKIP ") else {
            assert!(!line.contains("# SKIP"), "without a reason: {line}");
            continue;
        };
        assert!(!can_run, "everything can run here: {line}");
        let name = case.split(' ').next_back().unwrap();
        skipped::report(name, reason);
    }
}
