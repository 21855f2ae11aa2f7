// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A program's `--cfg loom` is for the program's models, and changes nothing in the crates here.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::process::Command;

#[test]
fn a_users_cfg_loom_does_not_reach_the_published_crates() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let needs = |cfg: &str| {
        let mut tree = Command::new(&cargo);
        tree.args(["tree", "--locked", "--edges=normal", "--prefix=none"]);
        tree.args(["--package=sysgenid-sys", "--package=sysgenid"]);
        tree.args(["--package=sysgenid-tokio", "--package=sysgenid-broker"]);
        tree.current_dir(env!("CARGO_MANIFEST_DIR"));
        tree.env_remove("CARGO_ENCODED_RUSTFLAGS");
        let output = tree
            .env("RUSTFLAGS", format!("--cfg {cfg}"))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        text.lines().any(|line| line.starts_with("loom "))
    };
    assert!(!needs("loom"));
    // Else the test would find nothing, whatever is there.
    assert!(needs("sysgenid_loom"));
}
