// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Guards under a million changes a second. What happened is printed. `cargo xtask ci` has a minute of
//! it, on an optimised program.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::process::Command;

#[test]
fn no_guard_hands_out_a_stale_value() {
    let hammer = Command::new(env!("CARGO_BIN_EXE_sysgenid-conformance"))
        .args(["hammer", "--seconds", "15", "--threads", "8"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&hammer.stdout);
    println!("{said}");
    assert!(hammer.status.success(), "{said}");
    assert!(said.contains("stale = 0"), "{said}");
}
