// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A crate outside of the workspace that tests what it does after a restore: built as its users would
//! build it, with no feature that only this workspace has.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How often all its tests run, in eight threads; two of the runs at a time.
const RUNS: usize = 100;

/// Builds the tests, and returns the program.
fn build() -> PathBuf {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = examples.join("restore_test");
    // The same versions of what it needs: they are here already.
    fs::copy(
        examples.parent().unwrap().join("Cargo.lock"),
        folder.join("Cargo.lock"),
    )
    .unwrap();
    // Beside what the workspace is built to, because cargo would wait for that.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("restore_test");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--quiet", "--offline", "--no-run", "--lib"]);
    cargo.args(["--message-format", "json-render-diagnostics"]);
    cargo.current_dir(&folder).env("CARGO_TARGET_DIR", target);
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "0");
    let output = cargo.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "it does not build");
    let messages = String::from_utf8(output.stdout).unwrap();
    let programs = messages
        .lines()
        .filter(|line| line.contains("\"restore_test\"") || line.contains("#restore_test@"))
        .filter_map(|line| line.split_once("\"executable\":\""))
        .map(|(_, rest)| PathBuf::from(rest.split('"').next().unwrap()));
    let [program] = programs.collect::<Vec<_>>().try_into().unwrap();
    program
}

#[test]
fn an_outside_crate_tests_its_restores_in_parallel() {
    let program = build();
    let run = || {
        let mut command = Command::new(&program);
        command.args(["--test-threads", "8"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    for number in 0..RUNS / 2 {
        for child in [run(), run()] {
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "round {number}: {said}");
            assert!(said.contains("4 passed"), "round {number}: {said}");
        }
    }
}
