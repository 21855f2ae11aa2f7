// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is not a source, or a broken one, is told apart and never harms: no panic, no SIGBUS, no
//! hanging open.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

#[allow(dead_code, reason = "a case is reported elsewhere")]
#[path = "../../conformance/tests/common/skipped.rs"]
mod skipped;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use skipped::skipped;
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
    for length in [0, 3, 4, 4095] {
        fs::write(&path, &[0; 4095][..length]).unwrap();
        let error = Probe::open_at(&path).unwrap_err();
        assert!(error.is_broken(), "{length} bytes: {error:?}");
        assert_eq!(error.path(), Some(path.as_path()));
    }
}

/// What a broker's page has in it.
fn page(counter: u32) -> Vec<u8> {
    let mut page = vec![0; 4096];
    page[..4].copy_from_slice(&counter.to_ne_bytes());
    page
}

/// Every way in which a file becomes a source refuses it.
#[track_caller]
fn is_no_page(path: &Path) {
    let source = Source::at(path).unwrap();
    for error in [
        Probe::open_at(path).unwrap_err(),
        source.status(Duration::ZERO).unwrap_err(),
    ] {
        assert!(error.is_wrong_kind(), "{}: {error:?}", path.display());
        assert_eq!(error.path(), Some(path));
    }
}

#[test]
fn a_file_that_does_not_look_like_a_page_is_refused() {
    is_no_page(Path::new("/etc/passwd"));

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("page");
    let mut stray = page(7);
    for (at, size) in [
        (4, 4096),
        (7, 4096),
        (8, 4096),
        (4095, 4096),
        (4, 5),
        (99, 8192),
    ] {
        stray.resize(size, 0);
        stray[at] = 1;
        fs::write(&path, &stray).unwrap();
        is_no_page(&path);
        // As a broker's, too.
        let error = Probe::open_at(directory.path()).unwrap_err();
        assert!(error.is_wrong_kind(), "{at}: {error:?}");
        stray[at] = 0;
    }
    stray.resize(4097, 0);
    fs::write(&path, &stray).unwrap();
    is_no_page(&path);

    // The first page alone is checked.
    stray.resize(65_536, 1);
    stray[4096] = 1;
    fs::write(&path, &stray).unwrap();
    let probe = Probe::open_at(&path).unwrap();
    assert_eq!(probe.generation(), Generation::new(7));
}

#[test]
fn a_page_of_another_user_is_refused_unless_root_has_put_it_there() {
    if !rustix::process::geteuid().is_root() {
        skipped("only root can give a file to another user");
        return;
    }
    let give = |path: &Path, user| std::os::unix::fs::chown(path, Some(user), None).unwrap();
    let above = tempfile::tempdir().unwrap();
    fs::set_permissions(above.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let directory = above.path().join("broker");
    fs::create_dir(&directory).unwrap();
    let path = directory.join("page");
    fs::write(&path, page(3)).unwrap();
    give(&path, 65_534);
    is_no_page(&path);
    let is_refused = || match Probe::open_at(&directory) {
        Ok(_) => false,
        Err(error) => {
            assert!(error.is_wrong_kind(), "{error:?}");
            true
        }
    };
    assert!(is_refused(), "its directory is root's");

    give(&directory, 65_534);
    assert!(!is_refused(), "a service's own directory, which root made");
    give(&path, 65_533);
    assert!(is_refused(), "neither root's nor the service's");
    give(&path, 65_534);
    fs::set_permissions(above.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    assert!(is_refused(), "anyone can make such a directory");
    fs::set_permissions(above.path(), fs::Permissions::from_mode(0o755)).unwrap();
    give(above.path(), 65_533);
    assert!(is_refused(), "a user has put it there");
    give(above.path(), 0);
    is_no_page(&path);

    // The user's own is the user's to believe.
    let own = as_nobody(|| Probe::open_at(&path).map(|probe| probe.generation()));
    assert_eq!(own.unwrap(), Generation::new(3));
}

#[test]
fn a_page_that_root_has_mounted_is_a_page_whoever_owns_it() {
    let directory = tempfile::tempdir().unwrap();
    let (path, node) = (directory.path().join("page"), directory.path().join("node"));
    if std::env::var_os("SYSGENID_TEST_MOUNTED").is_some() {
        let node = std::env::var_os("SYSGENID_TEST_MOUNTED").unwrap();
        assert_eq!(
            Probe::open_at(&node).unwrap().generation(),
            Generation::new(5)
        );
        fs::set_permissions(
            Path::new(&node).parent().unwrap(),
            fs::Permissions::from_mode(0o777),
        )
        .unwrap();
        is_no_page(Path::new(&node));
        return;
    }
    fs::write(&path, page(5)).unwrap();
    fs::write(&node, "").unwrap();
    let script =
        "chown 65534 \"$1\" && mount --bind \"$1\" \"$2\" || exit 77; shift 2; exec \"$@\"";
    let child = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .args([&path, &node])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_page_that_root_has_mounted_is_a_page_whoever_owns_it",
        ])
        .env("SYSGENID_TEST_MOUNTED", &node)
        .output()
        .unwrap();
    match child.status.code() {
        Some(0) => {}
        Some(1 | 77) if !child.stderr.is_empty() && child.stdout.is_empty() => {
            let why = String::from_utf8_lossy(&child.stderr);
            skipped(format_args!("nothing can be mounted here: {why}"));
        }
        _ => panic!("{child:?}"),
    }
}

#[test]
fn a_process_takes_no_other_file_for_its_source() {
    if std::env::var_os("SYSGENID_SOURCE").is_some_and(|source| source == "/etc/passwd") {
        let error = sysgenid::ProcessWide.refresh().unwrap_err();
        assert!(error.is_wrong_kind(), "{error:?}");
        assert_eq!(sysgenid::protection().sources().count(), 0);
        return;
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_process_takes_no_other_file_for_its_source"])
        .env("SYSGENID_SOURCE", "/etc/passwd")
        .status()
        .unwrap();
    assert!(child.success());
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
    // As the page of a broker's directory it is opened, not only looked at.
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
    assert!(error.to_string().contains("directory"), "{error}");
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

    fs::write(folder.path().join("new"), page(1)).unwrap();
    fs::rename(folder.path().join("new"), &path).unwrap();
    let error = probe.verify().unwrap_err();
    assert!(error.is_broken(), "{error:?}");
    assert_eq!(
        probe.generation(),
        Generation::new(0),
        "the old mapping still reads"
    );

    for length in [4, 0] {
        fs::write(&path, page(1)).unwrap();
        let probe = Probe::open_at(&path).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(length).unwrap();
        assert!(probe.verify().unwrap_err().is_broken());
    }
}

#[test]
fn a_path_that_is_too_long_for_a_socket_is_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("d".repeat(120));
    fs::create_dir(&long).unwrap();
    fs::write(long.join("page"), page(0)).unwrap();
    let source = Source::at(&long).unwrap();
    for error in [
        Watcher::open_at(&long).unwrap_err(),
        Orchestrator::open_at(&long).unwrap_err(),
        source.status(Duration::ZERO).unwrap_err(),
        source.trigger(Duration::ZERO).unwrap_err(),
    ] {
        assert!(error.is_unsupported(), "{error:?}");
        assert!(error.to_string().contains("107 bytes"), "{error}");
        let expected = rustix::io::Errno::NAMETOOLONG.raw_os_error();
        assert_eq!(error.raw_os_error(), Some(expected));
    }
    // A probe needs no socket, and a shorter name is enough.
    Probe::open_at(&long).unwrap();
    symlink(&long, folder.path().join("short")).unwrap();
    let error = Watcher::open_at(folder.path().join("short")).unwrap_err();
    assert!(error.is_lost(), "{error:?}");
}

#[test]
fn a_page_file_is_probed_and_not_watched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page");
    fs::write(&path, page(9)).unwrap();
    let source = Source::at(&path).unwrap();
    assert_eq!(source.kind(), SourceKind::PageFile);
    let expected = Generation::new(9);
    assert_eq!(Probe::open_on(source).unwrap().generation(), expected);
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
    fs::write(&path, page(0)).unwrap();
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
    let mut guarded = Guarded::unwiped_with_witness(Probe::open_at(&path).unwrap(), Ok);
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
