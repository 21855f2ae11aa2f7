// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `sysgenid wait`, with a real driver.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

mod common;

use std::path::Path;
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use common::{
    Running, eventually, failed, fails, hung_watcher, hung_watcher_called, object, on, run, serve,
    text,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::tempdir;

#[test]
fn a_wait_says_how_many_have_acknowledged() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    let _driver = serve(folder);
    let mut watches = Vec::new();
    for said in ["the one tracked watcher", "all 2 tracked watchers"] {
        let mut watch = Running::start(&mut on(folder, &["watch", "--tracked"]));
        watch.told();
        watches.push(watch);
        let output = run(&mut on(folder, &["wait"]));
        assert!(output.status.success(), "{output:?}");
        let expected = format!("generation 0: acknowledged by {said}\n");
        assert_eq!(text(&output.stdout), expected);
    }
    assert_eq!(
        object(&mut on(folder, &["wait", "--min-watchers", "2"])),
        json!({"generation": 0, "settled": true, "watchers": 2, "outdated": 0, "stragglers": []})
    );
    let arguments = ["wait", "--min-watchers", "3", "--timeout", "100ms"];
    let error = fails(&mut on(folder, &arguments), 8);
    assert!(
        error.contains("2 tracked watchers have acknowledged, and 3 are required"),
        "{error}"
    );
}

#[test]
fn a_wait_for_no_watcher_is_no_success() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    let driver = serve(folder);
    let mut watcher = Running::start(&mut on(folder, &["watch", "--tracked"]));
    watcher.told();
    // Nobody is connected to a driver that has just been started again.
    driver.signal(Signal::KILL);
    drop(driver);
    let _driver = serve(folder);
    let output = run(&mut on(folder, &["wait", "--timeout", "100ms", "--json"]));
    let error = failed(&output, 8);
    assert!(
        error.contains("with --min-watchers 0, `wait` succeeds without them"),
        "{error}"
    );
    assert_eq!(
        serde_json::from_slice::<Value>(&output.stdout).unwrap(),
        json!({"generation": 0, "settled": false, "watchers": 0, "outdated": 0, "stragglers": []})
    );

    // It waits for one to come.
    let waiting = Running::start(&mut on(folder, &["wait", "--timeout", "30s"]));
    let mut watcher = Running::start(&mut on(folder, &["watch", "--tracked"]));
    watcher.told();
    let output = waiting.finish();
    assert!(output.status.success(), "{output:?}");
}

/// A wait that is too short. A busy machine may be too late to name the stragglers; it is asked again
/// then.
fn unsettled(folder: &Path, more: &[&str]) -> Output {
    let mut output = None;
    eventually("it names them", || {
        let last = run(on(folder, &["wait", "--timeout", "100ms"]).args(more));
        let is_named = !text(&last.stderr).contains("does not say whose");
        output = Some(last);
        is_named
    });
    output.unwrap()
}

#[test]
fn a_wait_that_times_out_names_the_straggler() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    let _driver = serve(folder);
    let watcher = hung_watcher(folder);
    run(&mut on(folder, &["trigger"]));

    let error = failed(&unsettled(folder, &[]), 9);
    let begin = format!(
        "sysgenid: {}: after 100ms, tracked watchers have not acknowledged generation 1: ",
        folder.display(),
    );
    let rest = error.strip_prefix(&begin).unwrap();
    let straggler = format!("sysgenid (pid {}); ", watcher.pid());
    assert!(rest.contains(&straggler), "{error}");

    let output = unsettled(folder, &["--json"]);
    failed(&output, 9);
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    let uid = line["stragglers"][0]["uid"].clone();
    let straggler =
        json!({"pid": watcher.pid(), "uid": uid, "command": "sysgenid", "acknowledged": 0});
    assert_eq!(
        line,
        json!({
            "generation": 1, "settled": false, "watchers": 1, "outdated": 1,
            "stragglers": [straggler],
        })
    );

    let waiting = Running::start(&mut on(folder, &["wait", "--timeout", "1m"]));
    watcher.signal(Signal::CONT);
    assert!(waiting.finish().status.success(), "it has acknowledged");
}

#[test]
fn a_wait_keeps_its_deadline_if_the_driver_hangs_meanwhile() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    let driver = serve(folder);
    let _watcher = hung_watcher(folder);
    run(&mut on(folder, &["trigger"]));
    let start = Instant::now();
    let waiting = Running::start(&mut on(folder, &["wait", "--timeout", "1s", "--json"]));
    // It is an untracked watcher, and waits soon after it has become one.
    eventually("it waits", || {
        object(&mut on(folder, &["status"]))["watchers"] == 2
    });
    thread::sleep(Duration::from_millis(200));
    driver.signal(Signal::STOP);
    let output = waiting.finish();
    let took = start.elapsed();
    let error = failed(&output, 5);
    assert!(error.contains("does not say whose"), "{error}");
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        line,
        json!({
            "generation": 1, "settled": false, "watchers": null, "outdated": null,
            "stragglers": null,
        })
    );
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn a_hostile_name_does_not_reach_the_terminal() {
    let (folder, links) = (tempdir().unwrap(), tempdir().unwrap());
    let folder = folder.path();
    let _driver = serve(folder);
    let watcher = hung_watcher_called(&links.path().join("a\x1b[2J\n\u{202e}\u{9b}"), folder);
    run(&mut on(folder, &["trigger"]));

    let error = failed(&unsettled(folder, &[]), 9);
    let straggler = format!(r#""a\x1b[2J\n\u{{202e}}\u{{9b}}" (pid {})"#, watcher.pid());
    assert!(error.contains(&straggler), "{error}");
    assert!(!error.trim_end().contains(char::is_control), "{error:?}");

    let output = unsettled(folder, &["--json"]);
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    let command = &line["stragglers"][0]["command"];
    assert_eq!(command, r"a\x1b[2J\n\u{202e}\u{9b}");
}

#[test]
fn many_watchers_do_not_hide_another_program() {
    let (folder, links) = (tempdir().unwrap(), tempdir().unwrap());
    let folder = folder.path();
    let _driver = serve(folder);
    let many: Vec<_> = (0..12).map(|_| hung_watcher(folder)).collect();
    let honest = hung_watcher_called(&links.path().join("honest"), folder);
    run(&mut on(folder, &["trigger"]));

    let error = failed(&unsettled(folder, &[]), 9);
    assert!(error.contains("sysgenid ×12 (pid "), "{error}");
    let straggler = format!("honest (pid {})", honest.pid());
    assert!(error.contains(&straggler), "{error}");
    let named = many
        .iter()
        .filter(|one| error.contains(&one.pid().to_string()));
    assert_eq!(named.count(), 3, "{error}");
}

#[test]
fn an_untracked_watcher_holds_nobody_up() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    let _driver = serve(folder);
    let mut watcher = Running::start(&mut on(folder, &["watch"]));
    watcher.told();
    watcher.signal(Signal::STOP);
    run(&mut on(folder, &["trigger"]));
    let arguments = ["wait", "--min-watchers", "0", "--timeout", "10s"];
    assert!(run(&mut on(folder, &arguments)).status.success());
}

#[test]
fn a_trigger_may_wait_for_those_who_handle_it() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    let _driver = serve(folder);
    // Nobody would handle it.
    let nobody = ["trigger", "--wait=100ms"];
    let error = fails(&mut on(folder, &nobody), 8);
    assert!(error.contains("and 1 are required"), "{error}");
    let output = run(&mut on(
        folder,
        &["trigger", "--wait", "--min-watchers", "0"],
    ));
    assert_eq!(
        text(&output.stdout),
        "generation 2: no tracked watcher has to acknowledge it\n"
    );

    let watcher = hung_watcher(folder);
    let error = fails(&mut on(folder, &["trigger", "--wait=500ms"]), 9);
    assert!(error.contains("generation 3: "), "{error}");
    let waiting = Running::start(&mut on(folder, &["trigger", "--wait=1m", "--json"]));
    watcher.signal(Signal::CONT);
    let output = waiting.finish();
    assert_eq!(
        serde_json::from_slice::<Value>(&output.stdout).unwrap(),
        json!({"generation": 4, "settled": true, "watchers": 1, "outdated": 0, "stragglers": []})
    );
}
