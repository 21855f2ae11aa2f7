// SPDX-License-Identifier: Apache-2.0 OR MIT
//! serve, status, watch, trigger and wait, with a real driver.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

mod common;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use common::{
    Running, eventually, failed, fails, hung_watcher, object, on, run, serve, sysgenid, text,
};
use rustix::process::Signal;
use serde_json::json;
use tempfile::tempdir;

#[test]
fn a_round_trip_in_json() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    let _driver = serve(folder);
    let status = |generation: u32, watchers: u32, tracked: u32, outdated: u32| {
        json!({
            "source": folder.to_str(), "kind": "broker", "generation": generation,
            "watchers": watchers, "tracked": tracked, "outdated": outdated,
            "dialect": null, "backend": null,
        })
    };
    assert_eq!(object(&mut on(folder, &["status"])), status(0, 0, 0, 0));

    let mut watch = Running::start(&mut on(folder, &["watch", "--json", "--count", "2"]));
    assert_eq!(
        watch.json(),
        json!({"event": "watching", "generation": 0, "source": folder.to_str(), "tracked": false})
    );
    assert_eq!(object(&mut on(folder, &["status"])), status(0, 1, 0, 0));

    assert_eq!(
        object(&mut on(folder, &["trigger"])),
        json!({"generation": 1})
    );
    assert_eq!(
        watch.json(),
        json!({"event": "changed", "generation": 1, "previous": 0})
    );
    assert_eq!(
        object(&mut on(folder, &["trigger", "--min", "4294967295"]))["generation"],
        u32::MAX
    );
    assert_eq!(
        watch.json(),
        json!({"event": "changed", "generation": u32::MAX, "previous": 1})
    );
    assert!(watch.finish().status.success(), "it ends after two");

    assert_eq!(
        object(&mut on(folder, &["wait"])),
        json!({"generation": u32::MAX, "settled": true, "outdated": 0, "stragglers": []})
    );
    eventually("the watcher is gone", || {
        object(&mut on(folder, &["status"])) == status(u32::MAX, 0, 0, 0)
    });
}

#[test]
fn a_round_trip_in_text() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    let _driver = serve(folder);
    let mut watch = Running::start(&mut on(folder, &["watch", "--count", "1", "--tracked"]));
    assert_eq!(
        watch.line(),
        format!("generation 0: watching {}\n", folder.display())
    );
    let status = text(&run(&mut on(folder, &["status"])).stdout);
    assert_eq!(
        status,
        format!(
            "source      {} (userspace driver)\n\
             generation  0\n\
             watchers    1, 1 of them tracked, 0 of these outdated\n",
            folder.display()
        )
    );
    assert_eq!(
        text(&run(&mut on(folder, &["trigger"])).stdout),
        "generation 1\n"
    );
    assert_eq!(watch.line(), "generation 1: changed, acknowledged\n");
    assert!(watch.finish().status.success());
    assert_eq!(
        text(&run(&mut on(folder, &["wait"])).stdout),
        "generation 1: acknowledged by every tracked watcher\n"
    );
}

#[test]
fn the_environment_names_the_source_and_the_option_overrides_it() {
    let (one, other) = (tempdir().unwrap(), tempdir().unwrap());
    let _drivers = (serve(one.path()), serve(other.path()));
    run(&mut on(other.path(), &["trigger"]));
    let generation = |command: &mut Command| {
        object(command.env("SYSGENID_SOURCE", other.path()))["generation"].clone()
    };
    assert_eq!(generation(sysgenid().arg("status")), 1);
    assert_eq!(generation(&mut on(one.path(), &["status"])), 0);
}

#[test]
fn a_wait_that_times_out_names_the_straggler() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    let _driver = serve(folder);
    let watcher = hung_watcher(folder);
    run(&mut on(folder, &["trigger"]));

    let error = fails(&mut on(folder, &["wait", "--timeout", "100ms"]), 5);
    let begin = format!(
        "sysgenid: {}: after 100ms, tracked watchers have not acknowledged generation 1: \
         sysgenid (pid {}); ",
        folder.display(),
        watcher.pid()
    );
    assert!(error.starts_with(&begin), "{error}");

    let output = run(&mut on(folder, &["wait", "--timeout", "100ms", "--json"]));
    failed(&output, 5);
    let straggler = json!({"pid": watcher.pid(), "command": "sysgenid", "acknowledged": 0});
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap(),
        json!({"generation": 1, "settled": false, "outdated": 1, "stragglers": [straggler]})
    );

    let waiting = Running::start(&mut on(folder, &["wait", "--timeout", "1m"]));
    watcher.signal(Signal::CONT);
    assert!(waiting.finish().status.success(), "it has acknowledged");
}

#[test]
fn an_untracked_watcher_holds_nobody_up() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    let _driver = serve(folder);
    let mut watcher = Running::start(&mut on(folder, &["watch"]));
    watcher.line();
    watcher.signal(Signal::STOP);
    run(&mut on(folder, &["trigger"]));
    assert!(
        run(&mut on(folder, &["wait", "--timeout", "10s"]))
            .status
            .success()
    );
}

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
fn a_killed_driver_that_is_started_again_continues_page_and_counter() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    let driver = serve(folder);
    run(&mut on(folder, &["trigger", "--min", "41"]));
    let page = fs::metadata(folder.join("page")).unwrap();
    driver.signal(Signal::KILL);
    drop(driver);
    assert!(folder.join("watch.sock").exists(), "nothing tidied up");
    let error = fails(&mut on(folder, &["status"]), 7);
    assert!(error.contains("start it with `sysgenid serve`"), "{error}");

    let _driver = serve(folder);
    assert_eq!(object(&mut on(folder, &["status"]))["generation"], 41);
    assert_eq!(
        object(&mut on(folder, &["trigger"])),
        json!({"generation": 42})
    );
    let after = fs::metadata(folder.join("page")).unwrap();
    assert_eq!(
        (after.dev(), after.ino()),
        (page.dev(), page.ino()),
        "the same file"
    );
}

#[test]
fn a_watch_ends_with_its_driver() {
    let folder = tempdir().unwrap();
    let driver = serve(folder.path());
    let mut watch = Running::start(&mut on(folder.path(), &["watch"]));
    watch.line();
    driver.signal(Signal::KILL);
    let error = failed(&watch.finish(), 7);
    assert!(error.contains("the broker has ended"), "{error}");
}

#[test]
fn one_folder_has_one_driver() {
    let folder = tempdir().unwrap();
    let _driver = serve(folder.path());
    let error = fails(sysgenid().arg("serve").arg("--dir").arg(folder.path()), 1);
    assert!(
        error.contains("another broker serves this folder"),
        "{error}"
    );
    assert!(error.contains(folder.path().to_str().unwrap()), "{error}");
    assert!(
        run(&mut on(folder.path(), &["status"])).status.success(),
        "the first serves on"
    );
}

#[test]
fn signals_end_a_driver_in_order() {
    for signal in [Signal::INT, Signal::TERM] {
        let folder = tempdir().unwrap();
        let driver = serve(folder.path());
        driver.signal(signal);
        let output = driver.finish();
        assert!(output.status.success(), "{signal:?}: {output:?}");
        assert!(!folder.path().join("watch.sock").exists());
        assert!(!folder.path().join("control.sock").exists());
        assert!(folder.path().join("page").exists(), "the generation stays");
    }
}

#[test]
fn a_driver_can_end_with_its_input() {
    let folder = tempdir().unwrap();
    let mut command = sysgenid();
    command
        .args(["serve", "--until-eof", "--dir"])
        .arg(folder.path())
        .stdin(Stdio::piped());
    let mut driver = Running::start(&mut command);
    driver.line();
    drop(driver.child.stdin.take());
    assert!(driver.finish().status.success());
}

#[test]
fn the_line_to_export_works_in_a_shell() {
    let parent = tempdir().unwrap();
    let folder = parent.path().join("it's $HOME");
    let mut driver = Running::start(sysgenid().arg("serve").arg("--dir").arg(&folder));
    let export = loop {
        let line = driver.line();
        if line.trim_start().starts_with("export ") {
            break line;
        }
    };
    let script = format!("{}\nexec \"$0\" status --json", export.trim());
    let mut shell = Command::new("sh");
    let output = run(shell
        .arg("-c")
        .arg(script)
        .arg(env!("CARGO_BIN_EXE_sysgenid")));
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_driver_with_few_descriptors_says_how_many_watchers_fit() {
    let folder = tempdir().unwrap();
    let mut shell = Command::new("sh");
    let script = "ulimit -n 256; exec \"$0\" serve --dir \"$1\"";
    shell
        .args(["-c", script, env!("CARGO_BIN_EXE_sysgenid")])
        .arg(folder.path());
    let mut driver = Running::start(&mut shell);
    driver.line();
    driver.signal(Signal::TERM);
    let warning = text(&driver.finish().stderr);
    let (_, rest) = warning.split_once("leaves room for ").unwrap();
    let room: u32 = rest.split_whitespace().next().unwrap().parse().unwrap();
    assert!((80..128).contains(&room), "{warning}");
    assert!(warning.contains("fewer than 10000"), "{warning}");
}

#[test]
fn a_closed_pipe_ends_a_watch_at_once_and_quietly() {
    let folder = tempdir().unwrap();
    let _driver = serve(folder.path());
    let mut watch = Running::start(&mut on(folder.path(), &["watch"]));
    watch.line();
    // Without a further change.
    watch.close_stdout();
    let output = watch.finish();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn a_closed_pipe_is_quiet_everywhere_else_too() {
    let folder = tempdir().unwrap();
    let _driver = serve(folder.path());
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["trigger"],
        &["wait"],
    ] {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(ours);
        let mut command = on(folder.path(), arguments);
        let child = command
            .stdout(OwnedFd::from(theirs))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
    }
}

#[test]
fn a_full_disk_behind_standard_output_is_an_error() {
    let folder = tempdir().unwrap();
    let _driver = serve(folder.path());
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut command = on(folder.path(), &["status"]);
    let child = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    let error = failed(&child.wait_with_output().unwrap(), 1);
    assert!(error.contains("standard output: "), "{error}");
}

#[test]
fn a_driver_serves_on_when_nobody_reads_what_it_says() {
    let folder = tempdir().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(ours);
    let mut command = sysgenid();
    command
        .arg("serve")
        .arg("--dir")
        .arg(folder.path())
        .stdout(OwnedFd::from(theirs));
    let mut driver = command.stderr(Stdio::null()).spawn().unwrap();
    eventually("it serves", || {
        run(&mut on(folder.path(), &["status"])).status.success()
    });
    driver.kill().unwrap();
    driver.wait().unwrap();
}
