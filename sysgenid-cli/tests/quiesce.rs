// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `sysgenid quiesce` and `sysgenid resume`, with a real driver. The program that runs hooks is this test.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use common::{PATIENCE, Running, eventually, failed, fails, object, on, run, serve, text};
use rustix::process::Signal;
use serde_json::{Value, json};
use sysgenid::{Background, Changes, hooks};
use tempfile::tempdir;

/// One test, because the hooks are the process's.
#[test]
fn programs_come_to_rest_and_resume() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    let driver = serve(folder);
    let error = fails(&mut on(folder, &["quiesce", "--timeout", "100ms"]), 8);
    assert!(error.contains("with --min-watchers 0"), "{error}");
    let output = run(&mut on(folder, &["quiesce", "--min-watchers", "0"]));
    assert_eq!(
        text(&output.stdout),
        "generation 0: no program runs hooks, so none is at rest; `sysgenid resume` resumes them\n"
    );
    assert!(run(&mut on(folder, &["resume"])).status.success());

    let (may, runs) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
    let (succeed, counted) = (Arc::clone(&may), Arc::clone(&runs));
    hooks::before_snapshot(move |_| {
        let may = succeed.load(Ordering::SeqCst);
        may.then_some(()).ok_or("a transaction is open")
    });
    hooks::after_restore(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let changes = Changes::options().at(folder);
    let background = Background::options().changes(changes).start().unwrap();
    let mut other = Running::start(&mut on(folder, &["watch", "--tracked"]));
    other.told();

    let output = run(&mut on(folder, &["quiesce"]));
    assert_eq!(
        text(&output.stdout),
        "generation 0: the one program that runs hooks is at rest, and one tracked watcher was not \
         asked; `sysgenid resume` resumes it\n"
    );
    assert_eq!(runs.load(Ordering::SeqCst), 0, "it stays at rest");
    let output = run(&mut on(folder, &["resume"]));
    assert_eq!(
        text(&output.stdout),
        "generation 0: the one program that runs hooks has resumed, and one tracked watcher was not asked\n"
    );
    assert_eq!(runs.load(Ordering::SeqCst), 1);

    let settled = |phase| json!({"generation": 0, "phase": phase, "settled": true, "watchers": 1, "others": 1, "stragglers": []});
    assert_eq!(object(&mut on(folder, &["quiesce"])), settled("quiesce"));
    assert_eq!(object(&mut on(folder, &["resume"])), settled("running"));
    assert_eq!(runs.load(Ordering::SeqCst), 2);

    may.store(false, Ordering::SeqCst);
    let output = run(&mut on(
        folder,
        &["quiesce", "--timeout", "100ms", "--json"],
    ));
    let error = failed(&output, 9);
    let named = format!("(pid {})", std::process::id());
    assert!(
        error.contains(&named) && error.contains("do not take the snapshot"),
        "{error}"
    );
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(line["settled"], json!(false));
    assert_eq!(line["stragglers"][0]["pid"], json!(std::process::id()));
    eventually("it goes on", || runs.load(Ordering::SeqCst) == 3);

    // The driver ends in the midst of it.
    let waiting = Running::start(&mut on(folder, &["quiesce", "--timeout", "30s"]));
    eventually("it is asked", || background.last_error().is_some());
    driver.signal(Signal::KILL);
    failed(&waiting.finish(), 7);
    eventually("it goes on", || runs.load(Ordering::SeqCst) == 4);
    assert!(background.stop(PATIENCE));
}
