// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `sysgenid serve`: how it starts, what it says, and how it ends.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

mod common;

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use common::{
    PATIENCE, Running, eventually, fails, object, on, run, serve, skipped, sysgenid, text,
};
use rustix::process::{Signal, geteuid};
use serde_json::json;
use tempfile::tempdir;

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

/// What systemd hears until this is in it.
fn heard(systemd: &UnixDatagram, wanted: &str) -> String {
    systemd.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut packet = [0; 512];
    loop {
        let length = systemd.recv(&mut packet).unwrap();
        let said = text(&packet[..length]);
        if said.lines().any(|line| line == wanted) {
            return said;
        }
    }
}

#[test]
fn systemd_is_told_that_the_driver_serves_and_answers() {
    let folder = tempdir().unwrap();
    let directory = folder.path().join("driver");
    let socket = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    let mut driver = sysgenid();
    driver.arg("serve").arg("--dir").arg(&directory);
    driver.env("NOTIFY_SOCKET", &socket);
    driver.env("WATCHDOG_USEC", "200000");
    let driver = Running::start(&mut driver);
    let said = heard(&systemd, "READY=1");
    let status = format!("STATUS=serving generation 0 in {}", directory.display());
    assert!(said.lines().any(|line| line == status), "{said}");
    assert!(run(&mut on(&directory, &["status"])).status.success());
    for _ in 0..3 {
        heard(&systemd, "WATCHDOG=1");
    }

    // Systemd does not listen: its queue is full, and stays so.
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    while filler.send_to(b"WATCHDOG=1", &socket).is_ok() {}
    assert!(run(&mut on(&directory, &["trigger"])).status.success());
    drop(driver);
    let mut deaf = sysgenid();
    deaf.arg("serve").arg("--dir").arg(&directory);
    deaf.env("NOTIFY_SOCKET", &socket);
    let mut deaf = Running::start(&mut deaf);
    assert!(deaf.line().starts_with("serving generation 1 in "));
    assert!(run(&mut on(&directory, &["trigger"])).status.success());
    deaf.signal(Signal::TERM);
    assert!(deaf.ended().success());
}

/// Its caller would choose which directory its owner's driver serves, and locks.
#[test]
fn a_driver_with_more_rights_than_its_caller_ignores_the_environment() {
    if !geteuid().is_root() {
        skipped("only root can give a program to another user");
        return;
    }
    let (owner, caller) = (65_534, 65_533);
    let directory = tempdir().unwrap();
    let program = directory.path().join("program");
    // By another process: a child of another test could hold the copy open for writing.
    let mut copy = Command::new("cp");
    let copied = copy.arg(env!("CARGO_BIN_EXE_sysgenid")).arg(&program);
    assert!(copied.status().unwrap().success());
    chown(directory.path(), Some(owner), None).unwrap();
    chown(&program, Some(owner), None).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(&program);
    command.arg("serve").uid(caller).gid(caller);
    let error = fails(command.env("XDG_RUNTIME_DIR", directory.path()), 2);
    assert!(error.contains("XDG_RUNTIME_DIR is not set"), "{error}");
    assert!(!directory.path().join("sysgenid").exists());
}

#[test]
fn one_folder_has_one_driver() {
    let folder = tempdir().unwrap();
    let _driver = serve(folder.path());
    let error = fails(sysgenid().arg("serve").arg("--dir").arg(folder.path()), 1);
    assert!(
        error.contains("another broker serves this directory"),
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
    for signal in [Signal::INT, Signal::TERM, Signal::QUIT, Signal::HUP] {
        if signal == Signal::HUP && ignores_hangups("self") {
            skipped("SIGHUP is ignored here, and so it is by the driver");
            continue;
        }
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

fn ignores_hangups(process: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let mut lines = status.lines();
    let ignored = lines
        .find_map(|line| line.strip_prefix("SigIgn:\t"))
        .unwrap();
    u64::from_str_radix(ignored, 16).unwrap() & 1 == 1
}

#[test]
fn a_driver_that_is_to_survive_the_hangup_does() {
    let folder = tempdir().unwrap();
    let mut shell = Command::new("sh");
    let script = "trap '' HUP; exec \"$0\" serve --dir \"$1\"";
    shell
        .args(["-c", script, env!("CARGO_BIN_EXE_sysgenid")])
        .arg(folder.path());
    let mut driver = Running::start(&mut shell);
    driver.line();
    assert!(ignores_hangups(&driver.pid().to_string()));
    driver.signal(Signal::HUP);
    assert!(run(&mut on(folder.path(), &["status"])).status.success());
    driver.signal(Signal::TERM);
    assert!(driver.finish().status.success());
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
    let (_, rest) = warning.split_once("leave room for ").unwrap();
    let room: u32 = rest.split_whitespace().next().unwrap().parse().unwrap();
    assert!((128..256).contains(&room), "{warning}");
    assert!(warning.contains("fewer than 10000"), "{warning}");
}

/// The writing end of a pipe that has lost its reader.
fn to_no_reader() -> (Option<UnixStream>, OwnedFd) {
    (None, UnixStream::pair().unwrap().1.into())
}

/// The writing end of a pipe that is full, and its reader, which does not read.
fn to_a_full_pipe() -> (Option<UnixStream>, OwnedFd) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    while (&theirs).write(&[b'x'; 4096]).is_ok() {}
    while (&theirs).write(b"x").is_ok() {}
    theirs.set_nonblocking(false).unwrap();
    (Some(ours), theirs.into())
}

fn to_a_full_disk() -> (Option<UnixStream>, OwnedFd) {
    let full = fs::OpenOptions::new().write(true).open("/dev/full");
    (None, full.unwrap().into())
}

#[test]
fn a_driver_serves_on_whatever_becomes_of_what_it_says() {
    // With so few descriptors that it has a warning to give.
    let script = "ulimit -n 256; exec \"$0\" serve --dir \"$1\"";
    for (stdout, stderr) in [
        (to_no_reader(), to_no_reader()),
        (to_a_full_disk(), to_a_full_disk()),
        (to_a_full_pipe(), to_a_full_pipe()),
    ] {
        let folder = tempdir().unwrap();
        let ((_out, stdout), (_err, stderr)) = (stdout, stderr);
        let mut command = Command::new("sh");
        command
            .args(["-c", script, env!("CARGO_BIN_EXE_sysgenid")])
            .arg(folder.path())
            .stdout(stdout)
            .stderr(stderr);
        let mut driver = Running::spawn(&mut command);
        eventually("it serves", || {
            let ended = driver.child.try_wait().unwrap();
            assert_eq!(ended, None, "it has ended");
            folder.path().join("page").exists()
                && run(&mut on(folder.path(), &["status"])).status.success()
        });
        driver.signal(Signal::TERM);
        assert!(driver.ended().success());
        assert!(!folder.path().join("watch.sock").exists());
    }
    // A full standard error does not keep the line from standard output.
    let folder = tempdir().unwrap();
    let (_err, stderr) = to_a_full_pipe();
    let mut command = Command::new("sh");
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_sysgenid")])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .stderr(stderr);
    let mut driver = Running::spawn(&mut command);
    assert!(driver.line().starts_with("serving generation 0 "));
}

#[test]
fn a_driver_that_cannot_serve_ends_even_if_it_cannot_say_why() {
    let (_err, stderr) = to_a_full_pipe();
    let mut command = sysgenid();
    command
        .args(["serve", "--dir", "/dev/null/no"])
        .stderr(stderr);
    let mut driver = Running::spawn(&mut command);
    assert_eq!(driver.ended().code(), Some(1));
}

#[test]
fn a_driver_says_what_becomes_of_its_directory() {
    let folder = tempdir().unwrap();
    let mut driver = serve(folder.path());
    let page = folder.path().join("page");
    fs::remove_file(&page).unwrap();
    let said = driver.told();
    assert!(said.starts_with("sysgenid: warning: "), "{said}");
    assert!(said.contains(page.to_str().unwrap()), "{said}");
    assert!(said.contains("removed or replaced"), "{said}");
}
