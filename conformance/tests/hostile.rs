// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs the hostile suite. As root, or where a user namespace can have several users, nothing is
//! left out.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::process::Command;

use sysgenid_conformance::hostile;

#[test]
fn the_hostile_suite_passes() {
    let output = Command::new(env!("CARGO_BIN_EXE_sysgenid-conformance"))
        .args(["hostile", "--broker"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // With what the attackers could do.
    println!("{text}");
    assert!(output.status.success(), "{text}");
    let plan = text.lines().find_map(|line| line.strip_prefix("1.."));
    let passed = text.lines().filter(|line| line.starts_with("ok ")).count();
    assert_eq!(plan.unwrap(), passed.to_string(), "{text}");
    let left_out = text.lines().any(|line| line.starts_with("# left out, "));
    assert!(!left_out || !hostile::Subject::new().has_users(), "{text}");
}
