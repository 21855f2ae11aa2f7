// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `sysgenid reseed`, and `trigger --reseed`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{failed, fails, object, on, run, serve, skipped, sysgenid, text, unprivileged};
use serde_json::json;
use tempfile::tempdir;

/// What is easily found in an output.
const SECRET: &[u8] = b"correct horse battery staple, and thirty-two bytes";

/// Whether this process may do it, which it may not in a container.
fn is_permitted(folder: &Path) -> bool {
    let file = folder.join("permitted");
    fs::write(&file, SECRET).unwrap();
    let output = run(sysgenid().args(["reseed", "--entropy"]).arg(&file));
    if output.status.code() == Some(4) {
        skipped(text(&output.stderr).trim());
        return false;
    }
    assert!(output.status.success(), "{output:?}");
    true
}

fn with_input(command: &mut Command, bytes: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that has refused already does not read.
    let _ = child.stdin.take().unwrap().write_all(bytes);
    child.wait_with_output().unwrap()
}

#[test]
fn bytes_that_are_given_are_mixed_in_and_never_shown() {
    let folder = tempdir().unwrap();
    if !is_permitted(folder.path()) {
        return;
    }
    let output = with_input(sysgenid().args(["reseed", "--entropy", "-"]), SECRET);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        text(&output.stdout),
        "the kernel's entropy is new, with bytes of standard input\n"
    );
    assert_eq!(text(&output.stderr), "");
    let file = folder.path().join("seed");
    fs::write(&file, SECRET).unwrap();
    let given = object(sysgenid().args(["reseed", "--entropy"]).arg(&file));
    assert_eq!(given, json!({"reseeded": [file]}));
    for byte in SECRET.windows(7) {
        assert!(!given.to_string().contains(&text(byte)));
    }
}

#[test]
fn without_bytes_nothing_is_renewed_and_nothing_changes() {
    let folder = tempdir().unwrap();
    let _driver = serve(folder.path());
    let short = folder.path().join("short");
    fs::write(&short, &SECRET[..31]).unwrap();
    let missing = folder.path().join("missing");
    for (file, why) in [
        (short.to_str().unwrap(), "31 of the 32"),
        (missing.to_str().unwrap(), "No such file"),
        ("/dev/zero", "all the same"),
        ("/dev/null", "0 of the 32"),
        ("/dev/urandom", "the kernel's own generator"),
        ("/dev/random", "the kernel's own generator"),
    ] {
        let error = fails(sysgenid().args(["reseed", "--entropy", file]), 10);
        assert!(error.contains(why), "{error}");
        let trigger = ["trigger", "--reseed", "--entropy", file];
        let error = fails(&mut on(folder.path(), &trigger), 10);
        assert!(error.contains(why), "{error}");
        // Bytes are given to be mixed in.
        fails(&mut on(folder.path(), &["trigger", "--entropy", file]), 10);
    }
    let nothing = with_input(sysgenid().args(["reseed", "--entropy", "-"]), b"");
    failed(&nothing, 10);
    let status = object(&mut on(folder.path(), &["status"]));
    assert_eq!(status["generation"], 0, "no change without new entropy");
}

#[test]
fn a_trigger_changes_the_generation_once_the_entropy_is_new() {
    let folder = tempdir().unwrap();
    if !is_permitted(folder.path()) {
        return;
    }
    let served = folder.path().join("served");
    let _driver = serve(&served);
    let mut trigger = on(
        &served,
        &["trigger", "--reseed", "--entropy", "-", "--json"],
    );
    let output = with_input(&mut trigger, SECRET);
    assert_eq!(
        text(&output.stdout),
        "{\"generation\":1,\"reseeded\":[\"standard input\"]}\n"
    );
    assert_eq!(text(&output.stderr), "", "there is nothing to warn of");
}

#[test]
fn a_machine_s_own_bytes_are_enough_where_there_are_any() {
    let folder = tempdir().unwrap();
    if !is_permitted(folder.path()) {
        return;
    }
    let output = run(sysgenid().args(["reseed", "--json"]));
    match output.status.code() {
        Some(0) => {
            let line = text(&output.stdout);
            assert!(line.contains("rd") || line.contains("hwrng"), "{line}");
        }
        _ => assert!(failed(&output, 10).contains("--entropy")),
    }
}

#[test]
fn without_privileges_nothing_changes() {
    let folder = tempdir().unwrap();
    let _driver = serve(folder.path());
    let Some(mut command) = unprivileged() else {
        return;
    };
    let output = with_input(command.args(["reseed", "--entropy", "-"]), SECRET);
    let error = failed(&output, 4);
    assert!(error.contains("CAP_SYS_ADMIN"), "{error}");
    assert!(!error.contains("horse"), "{error}");
}

#[test]
fn a_trigger_alone_warns_in_a_virtual_machine() {
    let folder = tempdir().unwrap();
    let _driver = serve(folder.path());
    let output = run(&mut on(folder.path(), &["trigger"]));
    assert!(output.status.success(), "{output:?}");
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap();
    if cfg!(target_arch = "x86_64") {
        let warned = text(&output.stderr).contains("warning: a trigger alone");
        assert_eq!(warned, processors.contains(" hypervisor "));
    }
}
