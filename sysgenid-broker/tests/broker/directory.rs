// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a broker does with its directory, and what it refuses.

use crate::skipped::skipped;
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use sysgenid_broker::{Error, Server, spawn};
use sysgenid_sys::wire::{CONTROL_SOCKET, PAGE_FILE, WATCH_SOCKET};

use crate::child::Process;
use crate::client::Client;

fn refused(dir: &Path) -> Error {
    Server::bind(dir).expect_err("a broker that should not start")
}

#[test]
fn a_missing_directory_is_created_with_the_documented_modes() {
    // Neither the strictest umask nor none must matter.
    for mask in [0o077, 0] {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("sysgenid");
        let _broker = Process::serve_with_umask(&dir, mask);
        check_modes(&dir);
    }
}

fn mode(path: &Path) -> u32 {
    let metadata = fs::symlink_metadata(path).unwrap();
    metadata.permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn check_modes(dir: &Path) {
    assert_eq!(mode(dir), 0o755);
    assert_eq!(mode(&dir.join(PAGE_FILE)), 0o644);
    assert_eq!(mode(&dir.join(WATCH_SOCKET)), 0o666);
    assert_eq!(mode(&dir.join(CONTROL_SOCKET)), 0o600);
    let lock = mode(&dir.join("lock"));
    assert_eq!(lock, 0o600, "who may read a file may lock it");
    let page = fs::metadata(dir.join(PAGE_FILE)).unwrap();
    assert_eq!(page.len(), 4096);
    assert!(page.blocks() > 0, "its blocks are reserved");
}

#[test]
fn two_brokers_on_one_directory() {
    let directory = tempfile::tempdir().unwrap();
    let first = spawn(directory.path()).unwrap();
    let error = refused(directory.path());
    assert!(error.is_in_use(), "{error}");
    let named = directory.path().to_str().unwrap();
    assert!(error.to_string().contains(named), "{error}");
    Client::control(first.dir()).trigger(0);

    drop(first);
    let second = spawn(directory.path()).unwrap();
    assert_eq!(Client::control(second.dir()).status().generation, 1);
}

#[test]
fn a_client_that_locks_the_page_keeps_no_broker_out() {
    let directory = tempfile::tempdir().unwrap();
    drop(spawn(directory.path()).unwrap());
    let page = fs::File::open(directory.path().join(PAGE_FILE)).unwrap();
    rustix::fs::flock(&page, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    drop(spawn(directory.path()).unwrap());
}

#[test]
fn a_page_that_is_too_short_is_extended_and_keeps_its_counter() {
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join(PAGE_FILE);
    for (left, generation) in [(&7_u32.to_ne_bytes()[..], 7), (&[], 0)] {
        fs::write(&page, left).unwrap();
        let inode = fs::metadata(&page).unwrap().ino();
        let broker = spawn(directory.path()).unwrap();
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
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join(PAGE_FILE);
    fs::write(&page, [1; 10_000]).unwrap();
    drop(spawn(directory.path()).unwrap());
    assert_eq!(fs::read(&page).unwrap(), [1; 10_000]);
}

#[test]
fn a_page_that_was_being_prepared_is_prepared_again() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("page.new"), b"half").unwrap();
    let broker = spawn(directory.path()).unwrap();
    assert_eq!(Client::control(broker.dir()).status().generation, 0);
    assert!(!directory.path().join("page.new").exists());
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
        let directory = tempfile::tempdir().unwrap();
        make(&directory.path().join(PAGE_FILE));
        let error = refused(directory.path());
        assert!(error.is_unfit(), "{what}: {error}");
        assert!(error.to_string().contains(PAGE_FILE), "{what}: {error}");
    }
    assert_eq!(target.path().metadata().unwrap().len(), 0);
}

#[test]
fn another_users_page_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join(PAGE_FILE);
    fs::write(&page, [0; 4096]).unwrap();
    set_mode(&page, 0o600);
    if let Err(error) = chown(&page, Some(1), None) {
        skipped(format_args!("only root gives files away: {error}"));
        return;
    }
    let error = refused(directory.path());
    assert!(error.is_unfit(), "{error}");
    assert!(error.to_string().contains("belongs to user 1"), "{error}");
    assert_eq!(mode(&page), 0o600);
}

#[test]
fn an_existing_directory_keeps_its_mode() {
    let directory = tempfile::tempdir().unwrap();
    set_mode(directory.path(), 0o711);
    drop(spawn(directory.path()).unwrap());
    assert_eq!(mode(directory.path()), 0o711);
}

#[test]
fn a_symlinked_directory_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let target = parent.path().join("target");
    fs::create_dir(&target).unwrap();
    let link = parent.path().join("link");
    symlink(&target, &link).unwrap();
    let dangling = parent.path().join("dangling");
    symlink("nowhere", &dangling).unwrap();
    for path in [&link, &link.join(""), &link.join("."), &dangling] {
        let error = refused(path);
        assert!(error.is_unfit(), "{error}");
        assert!(error.to_string().contains("symbolic link"), "{error}");
    }
    assert_eq!(names(&target), [""; 0]);
    assert_eq!(names(parent.path()), ["dangling", "link", "target"]);

    // A link further up is the caller's choice.
    drop(spawn(link.join("below")).unwrap());
}

#[test]
fn another_users_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    if !rustix::process::geteuid().is_root() {
        skipped("only root gives directories away");
        return;
    }
    chown(directory.path(), Some(65534), None).unwrap();
    let error = refused(directory.path());
    assert!(error.is_unfit(), "{error}");
    assert!(error.to_string().contains("user 65534"), "{error}");
    assert_eq!(names(directory.path()), [""; 0]);
}

#[test]
fn a_directory_that_others_can_write_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for (permissions, says) in [
        (0o770, "chmod go-w"),
        (0o2775, "mode 2775"),
        (0o757, "chmod go-w"),
        (0o1777, "name a new one inside it"),
    ] {
        set_mode(directory.path(), permissions);
        let error = refused(directory.path());
        assert!(error.is_unfit(), "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(mode(directory.path()), permissions);
        assert_eq!(names(directory.path()), [""; 0]);
    }
}

#[test]
fn a_symlink_in_the_directory_is_refused_and_its_target_untouched() {
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("secret");
    fs::write(&target, b"secret").unwrap();
    set_mode(&target, 0o600);
    for name in [WATCH_SOCKET, CONTROL_SOCKET, PAGE_FILE, "lock"] {
        let directory = tempfile::tempdir().unwrap();
        symlink(&target, directory.path().join(name)).unwrap();
        let error = refused(directory.path());
        assert!(error.is_unfit(), "{name}: {error}");
        assert!(error.to_string().contains(name), "{name}: {error}");
        assert_eq!(mode(&target), 0o600, "{name}");
        assert_eq!(fs::read(&target).unwrap(), b"secret", "{name}");
        assert_eq!(names(directory.path()), [name]);
    }

    // What is prepared under this name is the broker's, so it removes it: the link.
    let directory = tempfile::tempdir().unwrap();
    symlink(&target, directory.path().join("page.new")).unwrap();
    drop(spawn(directory.path()).unwrap());
    assert_eq!(mode(&target), 0o600);
    assert_eq!(fs::read(&target).unwrap(), b"secret");
}

#[test]
fn a_hard_linked_file_is_refused_and_keeps_its_mode() {
    for name in [PAGE_FILE, "lock"] {
        let directory = tempfile::tempdir().unwrap();
        let elsewhere = directory.path().join("elsewhere");
        fs::write(&elsewhere, b"secret").unwrap();
        set_mode(&elsewhere, 0o400);
        fs::hard_link(&elsewhere, directory.path().join(name)).unwrap();
        let error = refused(directory.path());
        assert!(error.is_unfit(), "{name}: {error}");
        let said = error.to_string();
        assert!(said.contains(name) && said.contains("hard link"), "{said}");
        assert_eq!(mode(&elsewhere), 0o400, "{name}");
        assert_eq!(fs::read(&elsewhere).unwrap(), b"secret", "{name}");
        assert_eq!(names(directory.path()), ["elsewhere", name]);
    }
}

/// A broker that died between the two steps in which it puts a page in place.
#[test]
fn a_page_that_still_has_its_first_name_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join(PAGE_FILE);
    fs::write(&page, 7_u32.to_ne_bytes()).unwrap();
    fs::hard_link(&page, directory.path().join("page.new")).unwrap();
    let broker = spawn(directory.path()).unwrap();
    assert_eq!(Client::control(broker.dir()).status().generation, 7);
    assert_eq!(fs::metadata(&page).unwrap().nlink(), 1);
}

#[test]
fn only_a_socket_is_replaced_by_a_socket() {
    for name in [WATCH_SOCKET, CONTROL_SOCKET] {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(name), b"mine").unwrap();
        let error = refused(directory.path());
        assert!(error.is_unfit(), "{name}: {error}");
        assert_eq!(fs::read(directory.path().join(name)).unwrap(), b"mine");
    }
}

#[test]
fn a_failed_start_leaves_the_directory_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let control = directory.path().join(CONTROL_SOCKET);
    fs::create_dir(&control).unwrap();
    fs::write(control.join("mine"), b"").unwrap();
    let error = refused(directory.path());
    assert!(error.is_unfit(), "{error}");
    assert_eq!(names(directory.path()), [CONTROL_SOCKET]);
    assert_eq!(names(&control), ["mine"]);
}

#[test]
fn a_failed_start_leaves_no_directory() {
    let parent = tempfile::tempdir().unwrap();
    // Too long for a socket.
    refused(&parent.path().join("x".repeat(120)));
    // Without room for the page.
    let dir = parent.path().join("small");
    let broker = Process::serve_with_file_size(&dir, 4095);
    assert!(broker.said.starts_with("full=true"), "{:?}", broker.said);
    assert_eq!(names(parent.path()), [""; 0]);
}

/// It has made all but the sockets when it finds that no descriptors are left.
#[test]
fn a_start_that_fails_late_removes_only_what_it_made() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("new");
    let mut failed_late = 0;
    for files in 3..40 {
        let broker = Process::try_serve_with_files(&dir, files);
        if broker.said.starts_with("ready") {
            break;
        }
        if broker.said.contains("event loop") || broker.said.contains("socket") {
            failed_late += 1;
        }
        let said = broker.said.clone();
        drop(broker);
        assert_eq!(names(parent.path()), [""; 0], "{files} descriptors: {said}");
    }
    assert!(failed_late > 3, "{failed_late}");
    assert!(dir.join(PAGE_FILE).exists(), "the last one has started");

    // The same with a page that was there, and a socket that a killed broker left.
    let page = fs::metadata(dir.join(PAGE_FILE)).unwrap().ino();
    for files in 3..40 {
        let broker = Process::try_serve_with_files(&dir, files);
        if broker.said.starts_with("ready") {
            break;
        }
        assert_eq!(fs::metadata(dir.join(PAGE_FILE)).unwrap().ino(), page);
        assert!(dir.join("lock").exists(), "with {files} descriptors");
    }
}

#[test]
fn starts_that_race_never_leave_two_brokers_or_none() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("new");
    for _ in 0..50 {
        let starts: Vec<_> = (0..4)
            .map(|_| {
                let dir = dir.clone();
                std::thread::spawn(move || Server::bind(dir))
            })
            .collect();
        let started: Vec<_> = starts
            .into_iter()
            .map(|start| start.join().unwrap())
            .collect();
        assert_eq!(started.iter().filter(|it| it.is_ok()).count(), 1);
        for error in started.iter().filter_map(|it| it.as_ref().err()) {
            assert!(error.is_in_use(), "{error}");
        }
        for name in [WATCH_SOCKET, CONTROL_SOCKET] {
            let kind = fs::symlink_metadata(dir.join(name)).unwrap().file_type();
            assert!(kind.is_socket(), "{name} is the broker's");
        }
        drop(started);
        fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn a_broker_that_stops_leaves_a_socket_that_is_not_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let watch = directory.path().join(WATCH_SOCKET);
    fs::remove_file(&watch).unwrap();
    fs::write(&watch, b"mine").unwrap();
    drop(broker);
    assert_eq!(names(directory.path()), ["lock", PAGE_FILE, WATCH_SOCKET]);
}

#[test]
fn directories_that_cannot_be_used_are_named() {
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
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("full");
    fs::create_dir(&dir).unwrap();
    let path = dir.display();
    let script = format!(
        "mount -t tmpfs -o size=64k,mode=755 none '{path}' \
         && {{ dd if=/dev/zero of='{path}/filler' bs=4k 2>/dev/null || true; }}"
    );
    match Process::serve_after(&dir, &script) {
        Ok(broker) => assert!(broker.said.starts_with("full=true"), "{:?}", broker.said),
        Err(reason) => skipped(format_args!("no file system of its own here: {reason}")),
    }
}

#[test]
fn a_full_disk_is_an_error_also_if_the_page_has_a_hole() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("full");
    fs::create_dir(&dir).unwrap();
    let path = dir.display();
    let script = format!(
        "mount -t tmpfs -o size=64k,mode=755 none '{path}' && truncate -s 4096 '{path}/page' \
         && {{ dd if=/dev/zero of='{path}/filler' bs=4k 2>/dev/null || true; }}"
    );
    match Process::serve_after(&dir, &script) {
        Ok(broker) => assert!(broker.said.starts_with("full=true"), "{:?}", broker.said),
        Err(reason) => skipped(format_args!("no file system of its own here: {reason}")),
    }
}

/// The same without a file system of its own: a limit that the kernel would enforce by a signal.
#[test]
fn a_limit_of_the_file_size_is_an_error_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Process::serve_with_file_size(directory.path(), 4095);
    assert!(broker.said.starts_with("full=true"), "{:?}", broker.said);
    assert!(broker.said.contains("page"), "{:?}", broker.said);
    assert!(
        !directory.path().join(PAGE_FILE).exists(),
        "nothing half-made"
    );
    drop(broker);
    drop(spawn(directory.path()).unwrap());
}
