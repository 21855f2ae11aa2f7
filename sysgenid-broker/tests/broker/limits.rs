// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Many watchers, and too many.

use std::time::Duration;

use rustix::io::Errno;
use sysgenid_broker::spawn;
use sysgenid_sys::wire::{OPEN_TRACKED, Op, Status, WATCH_SOCKET};

use crate::child::{Process, raise_files_to};
use crate::client::{Client, Watcher};

#[test]
fn without_descriptors_an_opening_says_so_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Process::serve_with_files(folder.path(), 100);
    let mut control = Client::control(folder.path());
    let mut watchers = Vec::new();
    let full = loop {
        assert!(watchers.len() < 100, "no limit");
        match Client::watch(folder.path()).into_watcher(OPEN_TRACKED, 0) {
            Ok(watcher) => watchers.push(watcher),
            Err(reply) => break reply,
        }
    };
    assert_eq!(full.status, Status::Full);
    assert_eq!(full.watchers as usize, watchers.len());
    // The control connection is one that the broker did not count.
    let capacity = usize::try_from(broker.capacity()).unwrap();
    assert!(watchers.len().abs_diff(capacity) <= 1, "{}", watchers.len());

    assert_eq!(control.trigger(0).generation, 1);
    watchers[0].acknowledge(1).unwrap();
    assert_eq!(
        control.stragglers(0).count as usize,
        watchers.len().min(33) - 1
    );
    watchers.truncate(5);
    control.status();
    Watcher::tracked(folder.path());
}

#[test]
fn connections_beyond_the_last_descriptor_are_closed_without_spinning() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Process::serve_with_files(folder.path(), 100);
    let mut first = Watcher::tracked(folder.path());
    let clients: Vec<_> = (0..200).map(|_| Client::watch(folder.path())).collect();
    first.client.status();
    let last = clients.last().unwrap();
    assert!(last.is_closed_by_broker());

    let before = broker.ticks();
    std::thread::sleep(Duration::from_millis(500));
    assert!(broker.ticks() - before < 10, "the broker spins");
    drop(clients);
    first.client.status();
    Watcher::tracked(folder.path());
}

#[test]
fn a_thousand_idle_watchers_cost_little_memory_and_no_time() {
    raise_files_to(0);
    let folder = tempfile::tempdir().unwrap();
    let broker = Process::serve(folder.path());
    let _watchers: Vec<_> = (0..1000)
        .map(|_| Watcher::tracked(folder.path()))
        .map(|watcher| (watcher.client, watcher.signal))
        .collect();
    let resident = broker.resident();
    eprintln!("1000 watchers: {resident} KiB resident");
    assert!(resident < 16 * 1024, "{resident} KiB");
    let before = broker.ticks();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(broker.ticks(), before);
}

#[test]
fn a_broker_that_is_not_running_yet_takes_connections() {
    let folder = tempfile::tempdir().unwrap();
    let server = sysgenid_broker::Server::bind(folder.path()).unwrap();
    let mut early = Client::watch(folder.path());
    let sequence = early.send(Op::Status, [0, 0]);
    let stopper = server.stopper();
    let thread = std::thread::spawn(move || server.run());
    assert_eq!(early.reply().sequence, sequence);
    stopper.stop();
    thread.join().unwrap().unwrap();
    let gone = Client::connect(folder.path(), WATCH_SOCKET).err();
    assert_eq!(gone, Some(Errno::NOENT));
    drop(spawn(folder.path()).unwrap());
}
