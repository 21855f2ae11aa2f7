// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What each request does.

use std::os::fd::AsFd;

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{FdFlags, fcntl_getfd};
use sysgenid_broker::spawn;
use sysgenid_sys::wire::{OPEN_TRACKED, Op, Request, Status};

use crate::client::{Client, Packet, Stale, Watcher};

#[test]
fn a_change_reaches_the_page_and_the_watcher_until_it_acknowledges() {
    let folder = tempfile::tempdir().unwrap();
    let broker = spawn(folder.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let mut watcher = Watcher::tracked(broker.dir());
    assert_eq!((watcher.opened.generation, watcher.opened.tracked), (0, 1));
    assert!(!watcher.is_readable());

    let reply = control.trigger(0);
    assert_eq!((reply.generation, reply.outdated), (1, 1));
    assert_eq!(watcher.map.load(), 1, "the page comes before the reply");
    assert!(watcher.is_readable(), "the signal comes before the reply");

    assert_eq!(watcher.acknowledge(0), Err(Stale));
    assert!(watcher.is_readable());
    assert_eq!(watcher.acknowledge(1), Ok(()));
    assert!(!watcher.is_readable(), "at once, without the broker");
    assert_eq!(control.status().outdated, 0);
    assert!(!watcher.is_readable(), "and it stays so");
}

#[test]
fn a_stale_acknowledgement_that_reaches_the_broker_makes_the_watcher_readable() {
    let folder = tempfile::tempdir().unwrap();
    let broker = spawn(folder.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let mut watcher = Watcher::tracked(broker.dir());
    control.trigger(0);
    // As if the change had come between the client's two looks.
    rustix::io::read(&watcher.signal, &mut [0; 8]).unwrap();
    watcher.client.send(Op::Acknowledge, [0, 0]);
    watcher.wait_readable();
    assert_eq!(control.status().outdated, 1);
}

#[test]
fn the_descriptors_are_what_the_protocol_says() {
    let folder = tempfile::tempdir().unwrap();
    let broker = spawn(folder.path()).unwrap();
    let watcher = Watcher::tracked(broker.dir());
    let mode = fcntl_getfl(&watcher.page).unwrap() & OFlags::RWMODE;
    assert_eq!(
        mode,
        OFlags::RDONLY,
        "nobody but the broker writes the page"
    );
    let flags = fcntl_getfl(&watcher.signal).unwrap();
    assert!(flags.contains(OFlags::NONBLOCK));
    for fd in [watcher.page.as_fd(), watcher.signal.as_fd()] {
        assert!(fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC));
    }
}

#[test]
fn a_wait_ends_when_the_last_tracked_watcher_has_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let broker = spawn(folder.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let mut orchestrator = Watcher::untracked(broker.dir());
    assert_eq!(
        orchestrator.client.call(Op::Wait, [0, 0]).status,
        Status::Ok
    );

    let mut slow = [
        Watcher::tracked(broker.dir()),
        Watcher::tracked(broker.dir()),
    ];
    control.trigger(0);
    let outdated = orchestrator.client.call(Op::Wait, [0, 0]);
    assert_eq!(outdated.status, Status::Outdated, "its own comes first");

    orchestrator.acknowledge(1).unwrap();
    let wait = orchestrator.client.send(Op::Wait, [0, 0]);
    assert!(orchestrator.client.is_quiet());
    let again = orchestrator.client.call(Op::Wait, [0, 0]);
    assert_eq!(again.status, Status::Busy);

    slow[0].acknowledge(1).unwrap();
    assert!(orchestrator.client.is_quiet());
    slow[1].acknowledge(1).unwrap();
    let done = orchestrator.client.reply();
    assert_eq!((done.op, done.sequence), (Op::Wait, wait));
    assert_eq!((done.status, done.outdated), (Status::Ok, 0));
}

#[test]
fn a_wait_ends_when_the_waiter_becomes_outdated() {
    let folder = tempfile::tempdir().unwrap();
    let broker = spawn(folder.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let _slow = Watcher::resumed(broker.dir(), 9);
    let mut waiter = Watcher::untracked(broker.dir());
    waiter.client.send(Op::Wait, [0, 0]);
    assert!(waiter.client.is_quiet());
    control.trigger(0);
    assert_eq!(waiter.client.reply().status, Status::Outdated);
}

#[test]
fn a_cancelled_wait_is_not_answered_and_another_may_follow() {
    let folder = tempfile::tempdir().unwrap();
    let broker = spawn(folder.path()).unwrap();
    let mut slow = Watcher::resumed(broker.dir(), 9);
    let mut waiter = Watcher::untracked(broker.dir());
    waiter.client.send(Op::Wait, [0, 0]);
    waiter.client.send(Op::CancelWait, [0, 0]);
    waiter.client.status();
    slow.acknowledge(0).unwrap();
    assert!(waiter.client.is_quiet());
    assert_eq!(waiter.client.call(Op::Wait, [0, 0]).status, Status::Ok);
}

#[test]
fn tracking_can_be_changed_and_ends_waits() {
    let folder = tempfile::tempdir().unwrap();
    let broker = spawn(folder.path()).unwrap();
    let mut slow = Watcher::resumed(broker.dir(), 9);
    let mut waiter = Watcher::untracked(broker.dir());
    waiter.client.send(Op::Wait, [0, 0]);
    assert!(waiter.client.is_quiet());

    let reply = slow.client.call(Op::SetTracking, [0, 0]);
    assert_eq!((reply.status, reply.tracked), (Status::Ok, 0));
    assert_eq!(waiter.client.reply().status, Status::Ok);

    let reply = slow.client.call(Op::SetTracking, [1, 0]);
    assert_eq!((reply.tracked, reply.outdated), (1, 1), "it counts at once");
    let reply = slow.client.call(Op::SetTracking, [2, 0]);
    assert_eq!((reply.status, reply.tracked), (Status::Invalid, 1));
}

#[test]
fn only_the_control_socket_takes_triggers_and_lists_stragglers() {
    let folder = tempfile::tempdir().unwrap();
    let broker = spawn(folder.path()).unwrap();
    let mut watcher = Watcher::tracked(broker.dir());
    let denied = watcher.client.trigger(7);
    assert_eq!((denied.status, denied.generation), (Status::Denied, 0));
    let page = watcher.client.stragglers(0);
    assert_eq!((page.status, page.count), (Status::Denied, 0));

    let mut control = Client::control(broker.dir());
    assert_eq!(control.trigger(7).generation, 7);
    assert_eq!(control.trigger(7).generation, 8);
    let mut orchestrator = control.into_watcher(OPEN_TRACKED, 0).unwrap();
    assert_eq!(orchestrator.client.trigger(0).generation, 9);
    assert!(
        orchestrator.is_readable(),
        "its own watcher is outdated too"
    );
}

#[test]
fn stragglers_are_named_page_by_page() {
    let folder = tempfile::tempdir().unwrap();
    let broker = spawn(folder.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let mut watchers: Vec<_> = (0..70).map(|_| Watcher::tracked(broker.dir())).collect();
    let _untracked = Watcher::untracked(broker.dir());
    assert_eq!(control.stragglers(0).count, 0);
    control.trigger(5);
    for watcher in watchers.iter_mut().take(2) {
        watcher.acknowledge(5).unwrap();
    }

    let comm = std::fs::read_to_string("/proc/self/comm").unwrap();
    let mut numbers = Vec::new();
    let mut counts = Vec::new();
    let mut after = 0;
    loop {
        let page = control.stragglers(after);
        assert_eq!((page.status, page.generation), (Status::Ok, 5));
        counts.push(page.count);
        for straggler in page.filled() {
            assert_eq!(straggler.pid, std::process::id());
            assert_eq!(straggler.acknowledged, 0);
            let command = String::from_utf8_lossy(&straggler.command);
            assert_eq!(command.trim_end_matches('\0'), comm.trim_end());
            numbers.push(straggler.watcher);
        }
        match page.filled().last() {
            Some(last) if page.count == 32 => after = last.watcher,
            _ => break,
        }
    }
    assert_eq!(counts, [32, 32, 4]);
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}

#[test]
fn requests_that_make_no_sense_are_refused_or_close_the_connection() {
    let folder = tempfile::tempdir().unwrap();
    let broker = spawn(folder.path()).unwrap();
    let mut client = Client::watch(broker.dir());
    assert_eq!(client.status().status, Status::Ok, "before it is a watcher");
    assert_eq!(client.call(Op::Wait, [0, 0]).status, Status::Invalid);
    assert_eq!(client.call(Op::SetTracking, [1, 0]).status, Status::Invalid);
    let unknown_flag = client.call(Op::Open, [4, 0]);
    assert_eq!(
        (unknown_flag.status, unknown_flag.watchers),
        (Status::Invalid, 0)
    );

    let mut watcher = client.into_watcher(OPEN_TRACKED, 0).unwrap();
    let twice = watcher.client.call(Op::Open, [0, 0]);
    assert_eq!((twice.status, twice.watchers), (Status::Invalid, 1));

    for op in [Op::Acknowledge, Op::CancelWait] {
        let mut early = Client::watch(broker.dir());
        early.send(op, [0, 0]);
        assert!(early.is_closed_by_broker(), "{op:?} has no reply");
    }
    let good = Request {
        op: Op::Status,
        sequence: 0,
        arguments: [0, 0],
    }
    .encode();
    let other_version = [&[2], &good[1..]].concat();
    let no_such_op = [&good[..2], &[9], &good[3..]].concat();
    let long = [&good[..], &[0]].concat();
    for packet in [&good[..15], &[], &long, &other_version, &no_such_op] {
        let client = Client::watch(broker.dir());
        client.send_bytes(packet).unwrap();
        assert_eq!(client.receive().0, Packet::Closed, "{packet:?}");
    }
    assert_eq!(watcher.client.status().watchers, 1, "the others go on");
}
