// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a broker does with its folder, and what it refuses.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::process::umask;
use sysgenid_broker::{Error, Server, spawn};
use sysgenid_sys::wire::{CONTROL_SOCKET, PAGE_FILE, WATCH_SOCKET};

use crate::child::Process;
use crate::client::Client;

fn refused(dir: &Path) -> Error {
    Server::bind(dir).expect_err("a broker that should not start")
}

#[test]
fn a_missing_folder_is_created_with_the_documented_modes() {
    // Neither the strictest umask nor none must matter.
    for mask in [0o077, 0] {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("sysgenid");
        let before = umask(rustix::fs::Mode::from_raw_mode(mask));
        let broker = spawn(&dir);
        umask(before);
        let _broker = broker.unwrap();
        check_modes(&dir);
    }
}

fn check_modes(dir: &Path) {
    let mode = |name: &str| {
        let metadata = fs::symlink_metadata(dir.join(name)).unwrap();
        metadata.permissions().mode() & 0o7777
    };
    assert_eq!(mode("."), 0o755);
    assert_eq!(mode(PAGE_FILE), 0o644);
    assert_eq!(mode(WATCH_SOCKET), 0o666);
    assert_eq!(mode(CONTROL_SOCKET), 0o600);
    assert_eq!(mode("lock"), 0o600, "who may read a file may lock it");
    let page = fs::metadata(dir.join(PAGE_FILE)).unwrap();
    assert_eq!(page.len(), 4096);
    assert!(page.blocks() > 0, "its blocks are reserved");
}

#[test]
fn two_brokers_on_one_folder() {
    let folder = tempfile::tempdir().unwrap();
    let first = spawn(folder.path()).unwrap();
    let error = refused(folder.path());
    assert!(error.is_in_use(), "{error}");
    let named = folder.path().to_str().unwrap();
    assert!(error.to_string().contains(named), "{error}");
    Client::control(first.dir()).trigger(0);

    drop(first);
    let second = spawn(folder.path()).unwrap();
    assert_eq!(Client::control(second.dir()).status().generation, 1);
}

#[test]
fn a_client_that_locks_the_page_keeps_no_broker_out() {
    let folder = tempfile::tempdir().unwrap();
    drop(spawn(folder.path()).unwrap());
    let page = fs::File::open(folder.path().join(PAGE_FILE)).unwrap();
    rustix::fs::flock(&page, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    drop(spawn(folder.path()).unwrap());
}

#[test]
fn a_page_that_is_too_short_is_extended_and_keeps_its_counter() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join(PAGE_FILE);
    for (left, generation) in [(&7_u32.to_ne_bytes()[..], 7), (&[], 0)] {
        fs::write(&page, left).unwrap();
        let inode = fs::metadata(&page).unwrap().ino();
        let broker = spawn(folder.path()).unwrap();
        assert_eq!(
            Client::control(broker.dir()).status().generation,
            generation
        );
        let metadata = fs::metadata(&page).unwrap();
        assert_eq!((metadata.len(), metadata.ino()), (4096, inode));
    }
}

#[test]
fn a_longer_page_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join(PAGE_FILE);
    fs::write(&page, [1; 10_000]).unwrap();
    drop(spawn(folder.path()).unwrap());
    assert_eq!(fs::read(&page).unwrap(), [1; 10_000]);
}

#[test]
fn a_page_that_was_being_prepared_is_prepared_again() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("page.new"), b"half").unwrap();
    let broker = spawn(folder.path()).unwrap();
    assert_eq!(Client::control(broker.dir()).status().generation, 0);
    assert!(!folder.path().join("page.new").exists());
}

#[test]
fn a_page_that_is_no_regular_file_is_refused() {
    let target = tempfile::NamedTempFile::new().unwrap();
    type Make<'a> = &'a dyn Fn(&Path);
    let makes: [(&str, Make<'_>); 3] = [
        ("directory", &|path| fs::create_dir(path).unwrap()),
        ("symlink", &|path| symlink(target.path(), path).unwrap()),
        ("fifo", &|path| {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).unwrap();
        }),
    ];
    for (what, make) in makes {
        let folder = tempfile::tempdir().unwrap();
        make(&folder.path().join(PAGE_FILE));
        let error = refused(folder.path());
        assert!(error.is_unfit(), "{what}: {error}");
        assert!(error.to_string().contains(PAGE_FILE), "{what}: {error}");
    }
    assert_eq!(target.path().metadata().unwrap().len(), 0);
}

#[test]
fn another_users_page_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join(PAGE_FILE);
    fs::write(&page, [0; 4096]).unwrap();
    if let Err(error) = std::os::unix::fs::chown(&page, Some(1), None) {
        eprintln!("skipped: only root gives files away: {error}");
        return;
    }
    let error = refused(folder.path());
    assert!(error.is_unfit(), "{error}");
}

#[test]
fn folders_that_cannot_be_used_are_named() {
    let parent = tempfile::tempdir().unwrap();
    let missing = parent.path().join("no/such");
    let error = refused(&missing);
    assert!(error.is_not_found(), "{error}");
    assert!(error.to_string().contains("no/such"), "{error}");

    let file = parent.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = refused(&file);
    assert!(error.is_unfit(), "{error}");

    let long = parent.path().join("x".repeat(120));
    let error = refused(&long);
    assert!(error.is_unfit(), "{error}");
    assert!(error.to_string().contains("107"), "{error}");
}

#[test]
fn a_full_disk_is_an_error_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("full");
    fs::create_dir(&dir).unwrap();
    let path = dir.display();
    let script = format!(
        "mount -t tmpfs -o size=64k none '{path}' \
         && {{ dd if=/dev/zero of='{path}/filler' bs=4k 2>/dev/null || true; }}"
    );
    match Process::serve_after(&dir, &script) {
        Ok(broker) => assert!(broker.said.starts_with("full=true"), "{:?}", broker.said),
        Err(reason) => eprintln!("skipped: no file system of its own here: {reason}"),
    }
}

#[test]
fn a_full_disk_is_an_error_also_if_the_page_has_a_hole() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("full");
    fs::create_dir(&dir).unwrap();
    let path = dir.display();
    let script = format!(
        "mount -t tmpfs -o size=64k none '{path}' && truncate -s 4096 '{path}/page' \
         && {{ dd if=/dev/zero of='{path}/filler' bs=4k 2>/dev/null || true; }}"
    );
    match Process::serve_after(&dir, &script) {
        Ok(broker) => assert!(broker.said.starts_with("full=true"), "{:?}", broker.said),
        Err(reason) => eprintln!("skipped: no file system of its own here: {reason}"),
    }
}

/// The same without a file system of its own: a limit that the kernel would enforce by a signal.
#[test]
fn a_limit_of_the_file_size_is_an_error_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Process::serve_with_file_size(folder.path(), 4095);
    assert!(broker.said.starts_with("full=true"), "{:?}", broker.said);
    assert!(broker.said.contains("page"), "{:?}", broker.said);
    assert!(!folder.path().join(PAGE_FILE).exists(), "nothing half-made");
    drop(broker);
    drop(spawn(folder.path()).unwrap());
}
