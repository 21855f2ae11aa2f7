// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The commands together: status, watch and trigger, with a real driver.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use common::{
    Running, eventually, failed, object, on, run, serve, skipped, sysgenid, text, timeless,
};
use serde_json::{Value, json};
use tempfile::tempdir;

#[test]
fn a_round_trip_in_json() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    let _driver = serve(folder);
    let status = |generation: u32, watchers: u32, tracked: u32, outdated: u32| {
        json!({
            "source": folder.to_str(), "kind": "broker", "generation": generation, "running": true,
            "watchers": watchers, "tracked": tracked, "outdated": outdated,
            "dialect": null, "backend": null, "followers": [], "failed": [],
        })
    };
    let object = |command: &mut Command| {
        let mut object = object(command);
        // Why and when it changed last: another test's.
        for field in ["cause", "changed"] {
            object.as_object_mut().unwrap().remove(field);
        }
        object
    };
    assert_eq!(object(&mut on(folder, &["status"])), status(0, 0, 0, 0));

    let mut watch = Running::start(&mut on(folder, &["watch", "--json", "--count", "2"]));
    assert_eq!(
        timeless(watch.json()),
        json!({"event": "watching", "generation": 0, "source": folder.to_str(), "tracked": false})
    );
    assert_eq!(object(&mut on(folder, &["status"])), status(0, 1, 0, 0));

    assert_eq!(
        object(&mut on(folder, &["trigger"])),
        json!({"generation": 1})
    );
    assert_eq!(
        timeless(watch.json()),
        json!({"event": "changed", "generation": 1, "previous": 0, "cause": "unknown"})
    );
    assert_eq!(
        object(&mut on(folder, &["trigger", "--min", "4294967295"]))["generation"],
        u32::MAX
    );
    assert_eq!(
        timeless(watch.json()),
        json!({"event": "changed", "generation": u32::MAX, "previous": 1, "cause": "unknown"})
    );
    assert!(watch.finish().status.success(), "it ends after two");

    assert_eq!(
        object(&mut on(folder, &["wait", "--min-watchers", "0"])),
        json!({
            "generation": u32::MAX, "settled": true, "watchers": 0, "outdated": 0, "stragglers": [],
        })
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
        watch.told(),
        format!("sysgenid: generation 0: watching {}\n", folder.display())
    );
    let status = text(&run(&mut on(folder, &["status"])).stdout);
    assert_eq!(
        status,
        format!(
            "source      {} (userspace driver)\n\
             generation  0\n\
             watchers    1, 1 of them tracked, 0 of these outdated\n\
             followers   none: whoever restores runs `sysgenid trigger`\n",
            folder.display()
        )
    );
    assert_eq!(
        text(&run(&mut on(folder, &["trigger"])).stdout),
        "generation 1\n"
    );
    let changed = watch.line();
    let (time, changed) = changed.split_once(' ').unwrap();
    assert_eq!(time.len(), "2026-01-31T23:59:59.999Z".len(), "{time}");
    assert_eq!(changed, "generation 1: changed\n");
    let watched = watch.finish();
    assert!(watched.status.success());
    let note = format!(
        "sysgenid: {}: acknowledges each change when it prints it, before anything has handled it; \
         an orchestrator that waits for this watcher learns only that the change was seen; --exec \
         has a command handle it first\n",
        folder.display()
    );
    assert_eq!(text(&watched.stderr), note);
    assert_eq!(
        text(&run(&mut on(folder, &["wait", "--min-watchers", "0"])).stdout),
        "generation 1: no tracked watcher has to acknowledge it\n"
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
fn a_closed_pipe_is_quiet_everywhere_else_too() {
    let folder = tempdir().unwrap();
    let _driver = serve(folder.path());
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["trigger"],
        &["wait", "--min-watchers", "0"],
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
        let complaints = text(&output.stderr);
        // In a virtual machine, whatever becomes of the output.
        let is_warning = |line: &&str| line.starts_with("sysgenid: warning: a trigger alone");
        let other: Vec<_> = complaints
            .lines()
            .filter(|line| !is_warning(line))
            .collect();
        assert!(other.is_empty(), "{arguments:?}: {complaints}");
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
fn a_path_of_any_bytes_survives_in_text_and_json() {
    let parent = tempdir().unwrap();
    let name = b"it's \\ \x1b[2J \xff7\n\xe2\x80\xae $HOME";
    let folder = parent.path().join(OsStr::from_bytes(name));
    let mut driver = Running::start(sysgenid().arg("serve").arg("--dir").arg(&folder));
    let shown = r"it's \\ \x1b[2J \xff7\n\u{202e} $HOME";
    assert!(driver.line().contains(&format!("/{shown}, with room for ")));
    let export = loop {
        let line = driver.line();
        if line.trim_start().starts_with("export ") {
            break line;
        }
    };
    let script = format!("{}\nexec \"$0\" status --json", export.trim());
    match Command::new("bash").arg("--version").output() {
        Ok(_) => {
            let mut shell = Command::new("bash");
            let output = run(shell
                .arg("-c")
                .arg(script)
                .arg(env!("CARGO_BIN_EXE_sysgenid")));
            let status: Value = serde_json::from_slice(&output.stdout).unwrap();
            let told = status["source_bytes"].as_array().unwrap();
            assert!(
                told.iter().map(|byte| byte.as_u64().unwrap()).eq(folder
                    .as_os_str()
                    .as_bytes()
                    .iter()
                    .map(|byte| u64::from(*byte))),
                "{status}"
            );
            assert!(
                status["source"].as_str().unwrap().ends_with(shown),
                "{status}"
            );
        }
        Err(error) => skipped(format_args!("no shell here knows such quotes: {error}")),
    }
    let status = text(&run(&mut on(&folder, &["status"])).stdout);
    assert!(
        status.contains(&format!("/{shown} (userspace driver)\n")),
        "{status}"
    );
    let mut watch = Running::start(&mut on(&folder, &["watch", "--json"]));
    let watching = watch.json();
    assert!(watching["source_bytes"].is_array(), "{watching}");

    // JSON has a path that is UTF-8 as it is, whatever characters it has.
    let odd = parent.path().join("a\\ \x1b \u{202e} ü");
    let _driver = serve(&odd);
    let output = run(&mut on(&odd, &["status", "--json"]));
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["source"], odd.to_str().unwrap());
    assert_eq!(status["source_bytes"], Value::Null);
    let line = text(&output.stdout);
    assert!(
        !line
            .trim_end()
            .contains(|c: char| c.is_control() || c == '\u{202e}'),
        "{line:?}"
    );
    assert!(line.contains('ü'), "{line}");
}
