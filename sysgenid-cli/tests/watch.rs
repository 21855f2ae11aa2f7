// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `sysgenid watch`, with a real driver.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

mod common;

use std::fs;
use std::path::Path;

use common::{Running, eventually, failed, fails, object, on, run, serve, text, timeless};
use rustix::process::{Pid, Signal, test_kill_process};
use serde_json::json;
use tempfile::tempdir;

#[test]
fn a_watch_that_sees_nothing_times_out() {
    let folder = tempdir().unwrap();
    let _driver = serve(folder.path());
    let error = fails(&mut on(folder.path(), &["watch", "--timeout", "50ms"]), 5);
    assert!(
        error.contains("did not change often enough within 50ms"),
        "{error}"
    );
}

#[test]
fn a_watch_ends_with_its_driver() {
    let folder = tempdir().unwrap();
    let driver = serve(folder.path());
    let mut watch = Running::start(&mut on(folder.path(), &["watch"]));
    watch.told();
    driver.signal(Signal::KILL);
    let error = failed(&watch.finish(), 7);
    assert!(error.contains("the broker has ended"), "{error}");
}

#[test]
fn a_closed_pipe_ends_a_watch_at_once_and_quietly() {
    let folder = tempdir().unwrap();
    let _driver = serve(folder.path());
    let mut watch = Running::start(&mut on(folder.path(), &["watch"]));
    watch.told();
    // Without a further change.
    watch.close_stdout();
    let output = watch.finish();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn a_watch_that_reconnects_outlives_its_driver() {
    let folder = tempdir().unwrap();
    let directory = folder.path().join("driver");
    let mut watch = Running::start(&mut on(&directory, &["watch", "--reconnect", "--json"]));
    let watching = timeless(watch.json());
    assert_eq!(watching["generation"], json!(null), "there is none yet");

    let driver = serve(&directory);
    // A source that appears counts as a change.
    assert_eq!(watch.json()["event"], "changed");
    let first = object(&mut on(&directory, &["trigger"]))["generation"].clone();
    let changed = watch.json();
    assert_eq!(changed["generation"], first);
    assert_eq!(changed["cause"], "trigger");

    driver.signal(Signal::KILL);
    drop(driver);
    let _driver = serve(&directory);
    let second = object(&mut on(&directory, &["trigger"]))["generation"].clone();
    let changed = watch.json();
    assert_eq!(changed["generation"], second);
    assert_eq!(changed["previous"], first);

    watch.close_stdout();
    let ended = watch.finish();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(Into::into).collect()
}

fn outdated(folder: &Path) -> u64 {
    object(&mut on(folder, &["status"]))["outdated"]
        .as_u64()
        .unwrap()
}

#[test]
fn a_change_is_acknowledged_when_the_command_has_succeeded() {
    let (folder, notes) = (tempdir().unwrap(), tempdir().unwrap());
    let folder = folder.path();
    let _driver = serve(folder);
    let (log, works) = (notes.path().join("log"), notes.path().join("works"));
    let command = format!(
        "echo \"$SYSGENID_GENERATION $SYSGENID_CAUSE $SYSGENID_SOURCE\" >>'{}'; test -e '{}'",
        log.display(),
        works.display()
    );
    let arguments = ["watch", "--json", "--exec", &command];
    let mut watch = Running::start(&mut on(folder, &arguments));
    watch.line();
    run(&mut on(folder, &["trigger"]));
    let told = timeless(watch.json());
    assert_eq!(
        told,
        json!({
            "event": "failed", "generation": 1, "reason": "it ended with code 1; it is run again",
        })
    );
    assert_eq!(outdated(folder), 1, "it is not acknowledged");
    fails(&mut on(folder, &["wait", "--timeout", "100ms"]), 9);

    fs::write(&works, "").unwrap();
    assert!(
        run(&mut on(folder, &["wait", "--timeout", "30s"]))
            .status
            .success()
    );
    while watch.json()["event"] != "changed" {}
    watch.signal(Signal::TERM);
    watch.ended();
    let log = lines(&log);
    assert!(log.len() >= 2, "{log:?}");
    let line = format!("1 trigger {}", folder.display());
    assert!(log.iter().all(|it| *it == line), "{log:?}");
}

#[test]
fn a_command_that_hangs_is_killed_with_all_that_it_started() {
    let (folder, notes) = (tempdir().unwrap(), tempdir().unwrap());
    let folder = folder.path();
    let _driver = serve(folder);
    let pids = notes.path().join("pids");
    // The second process is one that the shell waits for.
    let command = format!("sh -c 'echo $$ >>{}; sleep 1000' & wait", pids.display());
    let arguments = ["watch", "--exec-timeout", "300ms", "--exec", &command];
    let mut watch = Running::start(&mut on(folder, &arguments));
    watch.told();
    run(&mut on(folder, &["trigger"]));
    let told = watch.line();
    assert!(
        told.ends_with("not acknowledged: it took longer than 300ms; it is run again\n"),
        "{told}"
    );
    let first: i32 = lines(&pids)[0].parse().unwrap();
    eventually("it is gone", || {
        test_kill_process(Pid::from_raw(first).unwrap()).is_err()
    });
    assert_eq!(outdated(folder), 1);
}

#[test]
fn what_ends_the_watch_ends_the_command() {
    let (folder, notes) = (tempdir().unwrap(), tempdir().unwrap());
    let folder = folder.path();
    let _driver = serve(folder);
    let pids = notes.path().join("pids");
    let command = format!("sh -c 'echo $$ >>{}; sleep 1000' & wait", pids.display());
    let mut watch = Running::start(&mut on(folder, &["watch", "--exec", &command]));
    watch.told();
    run(&mut on(folder, &["trigger"]));
    eventually("it runs", || !lines(&pids).is_empty());
    watch.signal(Signal::TERM);
    watch.ended();
    let last: i32 = lines(&pids)[0].parse().unwrap();
    eventually("it is gone, too", || {
        test_kill_process(Pid::from_raw(last).unwrap()).is_err()
    });
}

#[test]
fn a_reader_who_has_gone_does_not_end_a_watch_that_handles() {
    let (folder, notes) = (tempdir().unwrap(), tempdir().unwrap());
    let folder = folder.path();
    let _driver = serve(folder);
    let log = notes.path().join("log");
    let command = format!("echo $SYSGENID_GENERATION >>'{}'", log.display());
    let mut watch = Running::start(&mut on(folder, &["watch", "--exec", &command]));
    watch.told();
    watch.close_stdout();
    for _ in 0..2 {
        run(&mut on(folder, &["trigger"]));
        let settled = run(&mut on(folder, &["wait", "--timeout", "30s"]));
        assert!(settled.status.success(), "{settled:?}");
    }
    assert_eq!(lines(&log), ["1", "2"]);
}

#[test]
fn an_error_is_json_where_json_is_asked_for() {
    let folder = tempdir().unwrap();
    let absent = folder.path().join("absent \u{202e}");
    for command in ["status", "get", "watch", "trigger", "wait"] {
        let output = run(&mut on(&absent, &[command, "--json"]));
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let line = text(&output.stderr);
        assert!(!line.contains('\u{202e}'), "{line}");
        let error: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(error["code"], 3, "{error}");
        let message = error["error"].as_str().unwrap();
        assert!(message.contains("not found"), "{message}");
    }
}
