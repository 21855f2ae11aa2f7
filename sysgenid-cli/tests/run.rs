// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `sysgenid run` and `sysgenid get`.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use std::fs;
use std::path::Path;

use common::{Running, fails, on, run, serve, sysgenid, text};
use rustix::process::Signal;
use tempfile::tempdir;

#[test]
fn a_command_runs_with_a_driver_of_its_own() {
    let script = "\"$0\" trigger; \"$0\" get; echo \"$SYSGENID_SOURCE\"; exit 7";
    let mut command = sysgenid();
    command.args([
        "run",
        "--",
        "sh",
        "-c",
        script,
        env!("CARGO_BIN_EXE_sysgenid"),
    ]);
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let said = text(&output.stdout);
    let (numbers, directory) = said.split_once("\n1\n").unwrap();
    assert_eq!(numbers, "generation 1");
    assert!(!Path::new(directory.trim()).exists(), "it is left behind");
}

#[test]
fn the_end_of_the_command_is_the_end_of_the_run() {
    for (script, code) in [("kill -9 $$", 128 + 9), ("exit 0", 0)] {
        let output = run(sysgenid().args(["run", "sh", "-c", script]));
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
    let error = fails(sysgenid().args(["run", "/nowhere/at all"]), 127);
    assert!(error.contains("/nowhere/at all: "), "{error}");
    fails(sysgenid().args(["run", "/"]), 126);
}

#[test]
fn a_signal_reaches_the_command_and_leaves_nothing_behind() {
    let script = "trap 'exit 5' TERM; echo \"$SYSGENID_SOURCE\"; while :; do sleep 0.01; done";
    let mut running = Running::start(sysgenid().args(["run", "--", "sh", "-c", script]));
    let directory = running.line();
    running.signal(Signal::TERM);
    assert_eq!(running.ended().code(), Some(5));
    assert!(!Path::new(directory.trim()).exists(), "it is left behind");
}

#[test]
fn a_script_gets_the_number_also_without_the_driver() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    let driver = serve(folder);
    run(&mut on(folder, &["trigger"]));
    assert_eq!(text(&run(&mut on(folder, &["get"])).stdout), "1\n");
    driver.signal(Signal::KILL);
    drop(driver);
    assert_eq!(text(&run(&mut on(folder, &["get"])).stdout), "1\n");

    let output = run(&mut on(folder, &["status"]));
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let said = text(&output.stdout);
    let left = "generation  1, as it was left; the driver does not answer\nwatchers    not known\n";
    assert!(said.ends_with(left), "{said}");
    let output = run(&mut on(folder, &["status", "--json"]));
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&status["running"], &status["generation"]),
        (&false.into(), &1.into())
    );
}

#[test]
fn packages_get_pages_and_completions() {
    let folder = tempdir().unwrap();
    let made = folder.path().join("made");
    let output = run(sysgenid().arg("generate").arg(&made));
    assert!(output.status.success(), "{output:?}");
    let names: Vec<_> = fs::read_dir(&made)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for name in [
        "sysgenid.1",
        "sysgenid-watch.1",
        "sysgenid-run.1",
        "sysgenid.bash",
        "sysgenid.fish",
        "_sysgenid",
    ] {
        assert!(names.iter().any(|it| it == name), "{name}: {names:?}");
    }
    let hidden = |name: &String| name.contains("worker") || name.contains("generate");
    assert!(!names.iter().any(hidden), "{names:?}");
    let page = fs::read_to_string(made.join("sysgenid-watch.1")).unwrap();
    assert!(page.contains("acknowledged when it has"), "{page}");
}
