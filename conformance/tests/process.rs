// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs the suite about processes, in each sandbox.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::process::Command;

fn expect_all_passed(sandbox: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_sysgenid-conformance"))
        .args(["process", "--sandbox", sandbox])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let plan = text.lines().find_map(|line| line.strip_prefix("1.."));
    let passed = text.lines().filter(|line| line.starts_with("ok ")).count();
    assert_eq!(plan.unwrap(), passed.to_string(), "{text}");
    let left_out = text.lines().find(|line| line.starts_with("# left out"));
    println!("{}", left_out.unwrap_or("# nothing left out"));
    // Who may make namespaces leaves nothing out.
    assert!(left_out.is_none() || !has_cap_sys_admin(), "{text}");
}

fn has_cap_sys_admin() -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = u64::from_str_radix(effective.unwrap().trim(), 16).unwrap();
    effective >> CAP_SYS_ADMIN & 1 == 1
}

#[test]
fn the_process_suite_passes() {
    expect_all_passed("none");
}

#[test]
fn the_process_suite_passes_where_the_advice_is_refused() {
    expect_all_passed("refuses");
}

#[test]
fn the_process_suite_passes_where_the_advice_is_ignored() {
    expect_all_passed("lies");
}
