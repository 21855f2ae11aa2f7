// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Brokers that end, and those that follow them.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use sysgenid_broker::spawn;
use sysgenid_sys::wire::{CONTROL_SOCKET, PAGE_FILE, WATCH_SOCKET};

use crate::child::Process;
use crate::client::{Client, Watcher, readable};

#[test]
fn a_restarted_broker_continues_the_same_page_and_counter() {
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join(PAGE_FILE);
    let broker = spawn(directory.path()).unwrap();
    let inode = std::fs::metadata(&page).unwrap().ino();
    let watcher = Watcher::tracked(broker.dir());
    Client::control(broker.dir()).trigger(41);
    drop(broker);

    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    assert_eq!(control.status().generation, 41);
    control.trigger(0);
    assert_eq!(watcher.map.load(), 42, "a mapping of before sees it");
    assert_eq!(std::fs::metadata(&page).unwrap().ino(), inode);
}

#[test]
fn the_counter_wraps_across_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut watcher = Watcher::tracked(broker.dir());
    Client::control(broker.dir()).trigger(u32::MAX);
    assert_eq!(watcher.map.load(), u32::MAX);
    watcher.acknowledge(u32::MAX).unwrap();
    drop(broker);

    let broker = spawn(directory.path()).unwrap();
    let resumed = Watcher::resumed(broker.dir(), u32::MAX);
    assert!(!resumed.is_readable());
    let reply = Client::control(broker.dir()).trigger(0);
    assert_eq!((reply.generation, reply.outdated), (0, 1));
    assert_eq!(watcher.map.load(), 0);
    assert!(resumed.is_readable());
}

#[test]
fn a_watcher_that_resumes_with_an_older_generation_is_outdated_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    Client::control(broker.dir()).trigger(5);
    let current = Watcher::resumed(broker.dir(), 5);
    assert_eq!(current.opened.outdated, 0);
    assert!(!current.is_readable());
    let mut older = Watcher::resumed(broker.dir(), 4);
    assert_eq!(older.opened.outdated, 1);
    older.wait_readable();
    older.acknowledge(5).unwrap();
    assert_eq!(Client::watch(broker.dir()).status().outdated, 0);
}

#[test]
fn a_killed_broker_hangs_up_and_leaves_the_page_readable() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Process::serve(directory.path());
    let watcher = Watcher::tracked(directory.path());
    Client::control(directory.path()).trigger(3);
    broker.kill();

    let patience = Timespec::try_from(Duration::from_secs(10)).unwrap();
    let mut fds = [PollFd::new(&watcher.client.socket, PollFlags::empty())];
    poll(&mut fds, Some(&patience)).unwrap();
    assert!(fds[0].revents().contains(PollFlags::HUP));
    assert_eq!(watcher.map.load(), 3);
    assert!(watcher.read_notice().is_some(), "what was sent stays there");
    let refused = Client::connect(directory.path(), WATCH_SOCKET).err();
    assert_eq!(refused, Some(Errno::CONNREFUSED), "the sockets are left");

    let next = spawn(directory.path()).unwrap();
    Watcher::resumed(next.dir(), 0).wait_readable();
    Client::control(next.dir()).trigger(0);
    assert_eq!(watcher.map.load(), 4);
}

#[test]
fn a_stopped_broker_hangs_up_and_takes_its_sockets_but_not_the_page() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let watcher = Watcher::tracked(broker.dir());
    drop(broker);
    assert!(readable(&watcher.client.socket, Duration::from_secs(10)));
    assert!(watcher.client.is_closed_by_broker());
    for name in [WATCH_SOCKET, CONTROL_SOCKET] {
        let gone = Client::connect(directory.path(), name).err();
        assert_eq!(gone, Some(Errno::NOENT));
    }
    assert!(directory.path().join(PAGE_FILE).exists());
}
