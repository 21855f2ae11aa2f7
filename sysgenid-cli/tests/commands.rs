// SPDX-License-Identifier: Apache-2.0 OR MIT
//! serve, status, watch, trigger and wait, with a real driver.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    Running, eventually, failed, fails, hung_watcher, hung_watcher_called, object, on, run, serve,
    sysgenid, text,
};
use rustix::process::Signal;
use serde_json::{Value, json};
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
    let watched = watch.finish();
    assert!(watched.status.success());
    let note = format!(
        "sysgenid: {}: acknowledges each change when it prints it, before anything has handled it; \
         an orchestrator that waits for this watcher learns only that the change was seen\n",
        folder.display()
    );
    assert_eq!(text(&watched.stderr), note);
    assert_eq!(
        text(&run(&mut on(folder, &["wait", "--min-watchers", "0"])).stdout),
        "generation 1: no tracked watcher has to acknowledge it\n"
    );
}

#[test]
fn a_wait_says_how_many_have_acknowledged() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    let _driver = serve(folder);
    let mut watches = Vec::new();
    for said in ["the one tracked watcher", "all 2 tracked watchers"] {
        let mut watch = Running::start(&mut on(folder, &["watch", "--tracked"]));
        watch.line();
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
    watcher.line();
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
    watcher.line();
    let output = waiting.finish();
    assert!(output.status.success(), "{output:?}");
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

    let error = failed(&unsettled(folder, &[]), 5);
    let begin = format!(
        "sysgenid: {}: after 100ms, tracked watchers have not acknowledged generation 1: ",
        folder.display(),
    );
    let rest = error.strip_prefix(&begin).unwrap();
    let straggler = format!("sysgenid (pid {}); ", watcher.pid());
    assert!(rest.contains(&straggler), "{error}");

    let output = unsettled(folder, &["--json"]);
    failed(&output, 5);
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

    let error = failed(&unsettled(folder, &[]), 5);
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

    let error = failed(&unsettled(folder, &[]), 5);
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
    watcher.line();
    watcher.signal(Signal::STOP);
    run(&mut on(folder, &["trigger"]));
    let arguments = ["wait", "--min-watchers", "0", "--timeout", "10s"];
    assert!(run(&mut on(folder, &arguments)).status.success());
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
            println!("skipped: SIGHUP is ignored here, and so it is by the driver");
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
        Err(error) => println!("skipped: no shell here knows such quotes: {error}"),
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

#[test]
fn a_driver_says_what_becomes_of_its_directory() {
    let folder = tempdir().unwrap();
    let mut driver = serve(folder.path());
    let page = folder.path().join("page");
    fs::remove_file(&page).unwrap();
    let mut said = String::new();
    let mut stderr = BufReader::new(driver.child.stderr.as_mut().unwrap());
    stderr.read_line(&mut said).unwrap();
    assert!(said.starts_with("sysgenid: warning: "), "{said}");
    assert!(said.contains(page.to_str().unwrap()), "{said}");
    assert!(said.contains("removed or replaced"), "{said}");
}
