// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is not a source, or a broken one, is told apart and never harms: no panic, no SIGBUS, no
//! hanging open.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;

use sysgenid::{Generation, Guarded, Orchestrator, Probe, Source, SourceKind, Watcher};

#[test]
fn nothing_there_is_absent_and_says_what_to_start() {
    for error in [
        Probe::open_at("/nonexistent/sysgenid").unwrap_err(),
        Watcher::open_at("/nonexistent/sysgenid").unwrap_err(),
        Orchestrator::open_at("/nonexistent/sysgenid").unwrap_err(),
    ] {
        assert!(error.is_absent(), "{error:?}");
        let message = error.to_string();
        assert!(message.starts_with("/nonexistent/sysgenid: "), "{message}");
        assert!(message.contains("modprobe sysgenid"), "{message}");
        assert!(message.contains("sysgenid serve"), "{message}");
    }
}

#[test]
fn a_folder_without_a_page_is_absent() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Source::at(folder.path()).unwrap_err().is_absent());
}

#[test]
fn an_empty_and_a_short_page_are_broken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page");
    for length in [0, 3] {
        fs::write(&path, &[0; 3][..length]).unwrap();
        let error = Probe::open_at(&path).unwrap_err();
        assert!(error.is_broken(), "{length} bytes: {error:?}");
        assert_eq!(error.path(), Some(path.as_path()));
    }
}

#[test]
fn a_folder_in_the_pages_place_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("page")).unwrap();
    let error = Probe::open_at(folder.path()).unwrap_err();
    assert!(error.is_wrong_kind(), "{error:?}");
}

#[test]
fn a_fifo_is_refused_and_does_not_hang() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("page");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert!(Source::at(&fifo).unwrap_err().is_wrong_kind());
    // As the page of a broker's folder it is opened, not only looked at.
    let error = Probe::open_at(folder.path()).unwrap_err();
    assert!(error.is_wrong_kind(), "{error:?}");
}

#[test]
fn a_socket_is_refused_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("watch.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let error = Source::at(&path).unwrap_err();
    assert!(error.is_wrong_kind());
    assert!(error.to_string().contains("folder"), "{error}");
}

#[test]
fn other_devices_are_refused() {
    // A device that maps, one that polls, and another "misc" one.
    for path in ["/dev/zero", "/dev/null", "/dev/fuse"] {
        if fs::metadata(path).is_err() {
            continue;
        }
        let error = Source::at(path).unwrap_err();
        assert!(error.is_wrong_kind(), "{path}: {error:?}");
    }
}

#[test]
fn a_dangling_link_is_absent() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link");
    symlink("nowhere", &link).unwrap();
    assert!(Source::at(&link).unwrap_err().is_absent());
}

#[test]
fn an_unreadable_page_is_a_question_of_permission() {
    // The superuser reads anything, so another user asks.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page");
    fs::write(&path, [0; 4096]).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    let error = as_nobody(|| Probe::open_at(&path).unwrap_err());
    assert!(error.is_permission(), "{error:?}");
    assert_eq!(
        error.raw_os_error(),
        Some(rustix::io::Errno::ACCESS.raw_os_error())
    );

    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o000)).unwrap();
    let error = as_nobody(|| Source::at(&path).unwrap_err());
    assert!(error.is_permission(), "{error:?}");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_page_that_was_replaced_or_cut_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page");
    fs::write(&path, [0; 4096]).unwrap();
    let probe = Probe::open_at(&path).unwrap();
    probe.verify().unwrap();

    fs::write(folder.path().join("new"), [1; 4096]).unwrap();
    fs::rename(folder.path().join("new"), &path).unwrap();
    let error = probe.verify().unwrap_err();
    assert!(error.is_broken(), "{error:?}");
    assert_eq!(
        probe.generation(),
        Generation::new(0),
        "the old mapping still reads"
    );

    let probe = Probe::open_at(&path).unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(0)
        .unwrap();
    assert!(probe.verify().unwrap_err().is_broken());
}

#[test]
fn a_page_file_is_probed_and_not_watched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page");
    fs::write(&path, [9, 0, 0, 0]).unwrap();
    let source = Source::at(&path).unwrap();
    assert_eq!(source.kind(), SourceKind::PageFile);
    let expected = Generation::from(u32::from_ne_bytes([9, 0, 0, 0]));
    assert_eq!(Probe::on(source).unwrap().generation(), expected);
    assert!(Watcher::open_at(&path).unwrap_err().is_unsupported());
    assert!(Orchestrator::open_at(&path).unwrap_err().is_unsupported());
}

#[test]
fn a_folder_whose_broker_ended_is_lost_for_watchers_and_read_by_probes() {
    let folder = tempfile::tempdir().unwrap();
    drop(sysgenid_broker::spawn(folder.path()).unwrap());
    let error = Watcher::open_at(folder.path()).unwrap_err();
    assert!(error.is_lost(), "{error:?}");
    assert!(error.to_string().contains("sysgenid serve"), "{error}");
    assert_eq!(
        Probe::open_at(folder.path()).unwrap().generation(),
        Generation::new(0)
    );
}

#[test]
fn the_variable_names_the_source() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page");
    if let Some(expected) = std::env::var_os("SYSGENID_TEST_EXPECTED") {
        assert_eq!(Source::discover().unwrap().path(), expected);
        return;
    }
    fs::write(&path, [0; 4]).unwrap();
    // The environment of a running test is everybody's, so a child looks.
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_variable_names_the_source"])
        .env("SYSGENID_SOURCE", &path)
        .env("SYSGENID_TEST_EXPECTED", &path)
        .status()
        .unwrap();
    assert!(child.success());
}

#[test]
fn a_replaced_page_does_not_break_a_guard() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page");
    fs::write(&path, [0; 4096]).unwrap();
    let mut guarded = Guarded::unwiped(Probe::open_at(&path).unwrap(), |generation| {
        Ok::<_, std::io::Error>(generation)
    });
    fs::remove_file(&path).unwrap();
    assert_eq!(*guarded.get().unwrap(), Generation::new(0));
    assert!(guarded.witness().verify().unwrap_err().is_absent());
}

/// Runs `call` on a thread that has given up the superuser's rights, if it has them.
fn as_nobody<T: Send>(call: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let nobody = scope.spawn(|| {
            if rustix::process::geteuid().is_root() {
                let nobody = rustix::fs::Uid::from_raw(65_534);
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            }
            call()
        });
        nobody.join().unwrap()
    })
}
