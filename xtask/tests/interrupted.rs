// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A run that is killed leaves no process behind.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// Stands in for cargo. It knows the workspace, with a build directory where it harms nothing, and works
/// for ten minutes on anything else.
const CARGO: &str = r#"#!/bin/sh
if [ "$1" = metadata ]; then
    CARGO_TARGET_DIR="$FOLDER/target" exec "$REAL_CARGO" "$@"
fi
echo $$ > "$FOLDER/pid.$$.new"
mv "$FOLDER/pid.$$.new" "$FOLDER/$$.pid"
exec sleep 600
"#;

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}");
        sleep(Duration::from_millis(20));
    }
}

/// The processes at work.
fn working(folder: &Path) -> Vec<String> {
    let entries = folder
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let pids = entries.filter(|path| path.extension().is_some_and(|it| it == "pid"));
    pids.map(|path| fs::read_to_string(path).unwrap().trim().to_owned())
        .collect()
}

/// Whether there is such a process; one that is dead and not waited for is none.
fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| {
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| !rest.starts_with('Z'))
    })
}

#[test]
fn the_steps_of_a_run_that_is_killed_end_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let cargo = folder.path().join("cargo");
    fs::write(&cargo, CARGO).unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(folder.path().join("target")).unwrap();
    let real = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut run = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["test", "--only", "format", "--only", "unit"])
        .env("CARGO", &cargo)
        .env("REAL_CARGO", real)
        .env("FOLDER", folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let at_work = eventually("two steps should be at work", || {
        let at_work = working(folder.path());
        (at_work.len() == 2).then_some(at_work)
    });
    assert!(at_work.iter().all(|pid| lives(pid)), "{at_work:?}");
    run.kill().unwrap();
    run.wait().unwrap();
    eventually("what the steps started should end", || {
        at_work.iter().all(|pid| !lives(pid)).then_some(())
    });
}
