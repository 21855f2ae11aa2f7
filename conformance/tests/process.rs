// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs the suite about processes, in each sandbox.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod common;

/// A process that may make namespaces skips nothing.
fn expect_all_passed(sandbox: &str) {
    common::expect_all_passed(&["process", "--sandbox", sandbox], has_cap_sys_admin());
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
