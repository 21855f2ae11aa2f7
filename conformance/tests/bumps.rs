// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Watchers in a runtime under some thousand changes. What happened is printed. `cargo xtask ci` has a
//! million, on an optimised program.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::process::Command;

#[test]
fn no_wake_up_is_lost_and_no_generation_handled_twice() {
    let bumps = Command::new(env!("CARGO_BIN_EXE_sysgenid-conformance"))
        .args(["bumps", "--changes", "20000"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&bumps.stdout);
    println!("{said}");
    assert!(bumps.status.success(), "{said}");
    assert!(said.contains("lost = 0, duplicates = 0"), "{said}");
}
