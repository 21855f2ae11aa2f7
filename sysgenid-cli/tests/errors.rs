// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Each thing that is wrong has its exit code and an error that says what to do.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{
    failed, fails, hung_watcher, object, on, run, serve, skipped, sysgenid, text, unprivileged,
};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Signal, geteuid};
use serde_json::{Value, json};
use tempfile::tempdir;

const CLIENTS: [&[&str]; 4] = [&["status"], &["watch"], &["trigger"], &["wait"]];

/// Every client command fails on this source with this code, and its error names the path.
#[track_caller]
fn all_fail(source: &Path, code: i32, says: &str) {
    for arguments in CLIENTS {
        let error = fails(&mut on(source, arguments), code);
        assert!(
            error.contains(source.to_str().unwrap()),
            "{arguments:?}: {error}"
        );
        assert!(error.contains(says), "{arguments:?}: {error}");
    }
}

fn make_fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

#[test]
fn no_source() {
    let folder = tempdir().unwrap();
    all_fail(
        &folder.path().join("absent"),
        3,
        "start the userspace driver (`sysgenid serve`)",
    );
    // A directory in which no driver ever ran.
    all_fail(folder.path(), 3, "sysgenid serve");
    if !Path::new("/dev/sysgenid").exists() && !Path::new("/run/sysgenid").exists() {
        let error = fails(sysgenid().arg("status"), 3);
        assert!(error.contains("/dev/sysgenid: not found"), "{error}");
    } else {
        skipped("discovery finds a source on this machine");
    }
}

#[test]
fn a_hostile_path_does_not_reach_the_terminal() {
    for arguments in CLIENTS {
        let error = fails(&mut on(Path::new("/no/\x1b[2J\nsource"), arguments), 3);
        assert!(error.contains(r"/no/\x1b[2J\nsource: not found"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn not_a_source() {
    let folder = tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    make_fifo(&fifo);
    all_fail(&fifo, 6, "neither a generation device");
    all_fail(Path::new("/dev/null"), 6, "another device");
    let socket = folder.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    all_fail(&socket, 6, "name the broker's directory");
}

#[test]
fn a_file_that_is_no_page() {
    let folder = tempdir().unwrap();
    for (name, length) in [("empty", 0), ("short", 3), ("shorter than a page", 4095)] {
        let path = folder.path().join(name);
        File::create(&path).unwrap().set_len(length).unwrap();
        all_fail(&path, 6, "");
        let error = fails(&mut on(&path, &["status"]), 6);
        assert!(error.contains("too short to be a counter page"), "{error}");
    }
    let random = folder.path().join("random");
    let mut bytes = [0; 4096];
    File::open("/dev/urandom")
        .unwrap()
        .read_exact(&mut bytes)
        .unwrap();
    fs::write(&random, bytes).unwrap();
    for path in [Path::new("/etc/passwd"), &random] {
        let error = fails(&mut on(path, &["status"]), 6);
        assert!(error.contains(": not a counter page: "), "{error}");
        let error = fails(sysgenid().arg("status").env("SYSGENID_SOURCE", path), 6);
        assert!(error.contains(": not a counter page: "), "{error}");
    }
    if geteuid().is_root() {
        let foreign = folder.path().join("foreign");
        fs::write(&foreign, [0; 4096]).unwrap();
        chown(&foreign, Some(65534), None).unwrap();
        let error = fails(&mut on(&foreign, &["status"]), 6);
        assert!(
            error.contains("a user other than root and the caller"),
            "{error}"
        );
    } else {
        skipped("only root can give a file to another user");
    }
}

#[test]
fn a_page_file_has_a_status_and_nothing_else() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("page");
    let mut page = vec![0; 4096];
    page.splice(..4, 7_u32.to_ne_bytes());
    fs::write(&path, page).unwrap();
    let status = object(&mut on(&path, &["status"]));
    assert_eq!(status["generation"], 7);
    assert_eq!(status["kind"], "page-file");
    assert!(status["watchers"].is_null(), "{status}");
    for (argument, says) in [
        ("watch", "takes no acknowledgements"),
        ("trigger", "takes no triggers"),
        ("wait", "takes no acknowledgements"),
    ] {
        let error = fails(&mut on(&path, &[argument]), 6);
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn a_folder_without_its_driver() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("page"), [0; 4096]).unwrap();
    all_fail(folder.path(), 7, "no broker is running there");
}

#[test]
fn a_driver_that_hangs() {
    let folder = tempdir().unwrap();
    let driver = serve(folder.path());
    driver.signal(Signal::STOP);
    let error = fails(&mut on(folder.path(), &["status"]), 7);
    let begin = format!(
        "sysgenid: {}: the broker did not answer",
        folder.path().display()
    );
    assert!(error.starts_with(&begin), "{error}");

    let start = Instant::now();
    let error = fails(&mut on(folder.path(), &["wait", "--timeout", "200ms"]), 7);
    assert!(error.starts_with(&begin), "{error}");
    let took = start.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn denied() {
    let folder = tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let _driver = serve(folder.path());
    let page = folder.path().join("secret-page");
    fs::write(&page, [0; 4096]).unwrap();
    fs::set_permissions(&page, Permissions::from_mode(0o000)).unwrap();
    if !geteuid().is_root() {
        // The owner's own mode denies it; root's is another user's anyway.
        let control = folder.path().join("control.sock");
        fs::set_permissions(control, Permissions::from_mode(0o000)).unwrap();
    }
    let Some(mut command) = unprivileged() else {
        return;
    };
    let error = fails(command.arg("status").arg("--source").arg(&page), 4);
    assert!(error.contains("permission denied; "), "{error}");

    let on_driver = |arguments: &[&str]| {
        let mut command = unprivileged().unwrap();
        command.args(arguments).arg("--source").arg(folder.path());
        command
    };
    let error = fails(&mut on_driver(&["trigger"]), 4);
    assert!(error.contains("permission denied; "), "{error}");
    let status = run(&mut on_driver(&["status"])).status;
    assert!(status.success(), "everybody may look");

    let _hung = hung_watcher(folder.path());
    let control = folder.path().join("control.sock");
    let before = fs::metadata(&control).unwrap().permissions();
    fs::set_permissions(&control, Permissions::from_mode(0o600)).unwrap();
    assert!(run(&mut on(folder.path(), &["trigger"])).status.success());
    fs::set_permissions(&control, before).unwrap();
    let output = run(&mut on_driver(&["wait", "--json", "--timeout", "50ms"]));
    let error = failed(&output, 9);
    assert!(
        error.contains("only the owner of the userspace driver is told whose"),
        "{error}"
    );
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        line,
        json!({
            "generation": 1, "settled": false, "watchers": 1, "outdated": 1, "stragglers": null,
        })
    );
}

#[test]
fn a_folder_that_cannot_be_served() {
    let folder = tempdir().unwrap();
    let serve = |path: &Path, code, says: &str| {
        let error = fails(sysgenid().arg("serve").arg("--dir").arg(path), code);
        assert!(
            error.contains(path.to_str().unwrap()) && error.contains(says),
            "{error}"
        );
    };
    serve(
        &folder.path().join("no/parent"),
        1,
        "create its parent directory first",
    );
    let file = folder.path().join("file");
    File::create(&file).unwrap();
    serve(&file, 1, "not a directory");
    let odd = folder.path().join("odd");
    fs::create_dir(&odd).unwrap();
    make_fifo(&odd.join("page"));
    serve(&odd, 1, "not a regular file");
    serve(
        &folder.path().join("x".repeat(110)),
        1,
        "choose a shorter path",
    );

    let Some(mut command) = unprivileged() else {
        return;
    };
    fs::set_permissions(folder.path(), Permissions::from_mode(0o555)).unwrap();
    let error = fails(
        command
            .arg("serve")
            .arg("--dir")
            .arg(folder.path().join("new")),
        4,
    );
    assert!(
        error.contains("choose a directory that this user can write"),
        "{error}"
    );
}

#[test]
fn no_folder_to_serve_by_default() {
    let Some(mut command) = unprivileged() else {
        return;
    };
    let error = fails(command.arg("serve"), 2);
    assert!(error.contains("name one with --dir"), "{error}");
}

#[test]
fn wrong_usage() {
    let lines: [&[&str]; 11] = [
        &[],
        &["unknown"],
        &["wait", "--timeout", "soon"],
        &["watch", "--count", "0"],
        &["trigger", "--min", "4294967296"],
        &["demo", "--source", "/dev/sysgenid"],
        &["serve", "--source", "/dev/sysgenid"],
        &["run"],
        &["run", "--source", "/dev/sysgenid", "true"],
        &["watch", "--exec-timeout", "5s"],
        &["trigger", "--min-watchers", "1"],
    ];
    for line in lines {
        let output = run(sysgenid().args(line));
        assert_eq!(output.status.code(), Some(2), "{line:?}: {output:?}");
    }
}

#[test]
fn the_help_documents_every_exit_code() {
    let output = run(sysgenid().arg("--help"));
    assert!(output.status.success());
    let help = text(&output.stdout);
    for code in 0..=9 {
        assert!(help.contains(&format!("\n  {code}  ")), "{code}: {help}");
    }
    assert!(!help.contains("demo-worker"), "{help}");
}
