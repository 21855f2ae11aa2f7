// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What each request does.

use std::os::fd::AsFd;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{FdFlags, fcntl_getfd};
use sysgenid_broker::spawn;
use sysgenid_sys::wire::{
    Answer, Awaited, Cause, OPEN_TRACKED, Op, PAYLOAD_LEN, Payload, Phase, Reason, Request,
};

use crate::client::{Client, Packet, Stale, Watcher};

#[test]
fn a_change_reaches_the_page_and_the_watcher_until_it_acknowledges() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let mut watcher = Watcher::tracked(broker.dir());
    assert_eq!((watcher.opened.generation, watcher.opened.tracked), (0, 1));
    assert!(!watcher.is_readable());

    let reply = control.trigger(0);
    assert_eq!((reply.generation, reply.outdated), (1, 1));
    assert_eq!(watcher.map.load(), 1, "the page comes before the reply");
    assert!(watcher.is_readable(), "the notice comes before the reply");

    assert_eq!(watcher.acknowledge(0), Err(Stale));
    assert!(watcher.is_readable());
    assert_eq!(watcher.acknowledge(1), Ok(()));
    assert!(!watcher.is_readable(), "at once, without the broker");
    assert_eq!(control.status().outdated, 0);
    assert!(!watcher.is_readable(), "and it stays so");
}

#[test]
fn a_stale_acknowledgement_that_reaches_the_broker_makes_the_watcher_readable() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let mut watcher = Watcher::tracked(broker.dir());
    control.trigger(0);
    // As if the change had come between the client's two looks.
    assert!(watcher.read_notice().is_some());
    watcher.client.send(Op::Acknowledge, [0, 0]);
    watcher.wait_readable();
    assert_eq!(control.status().outdated, 1);
}

#[test]
fn the_descriptors_are_what_the_protocol_says() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let watcher = Watcher::tracked(broker.dir());
    let mode = fcntl_getfl(&watcher.page).unwrap() & OFlags::RWMODE;
    assert_eq!(mode, OFlags::RDONLY, "only the broker writes the page");
    assert!(
        fcntl_getfd(watcher.page.as_fd())
            .unwrap()
            .contains(FdFlags::CLOEXEC)
    );
}

#[test]
fn tracking_can_be_changed_and_ends_waits() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut slow = Watcher::resumed(broker.dir(), 9);
    let mut waiter = Client::watch(broker.dir());
    assert_eq!(waiter.wait(0, Awaited::Generation).answer, Answer::Pending);

    slow.client.send(Op::SetTracking, [0, 0]);
    assert_eq!(waiter.reply().answer, Answer::Ok);
    assert_eq!(waiter.status().tracked, 0);

    slow.client.send(Op::SetTracking, [1, 0]);
    let status = waiter.status();
    assert_eq!(
        (status.tracked, status.outdated),
        (1, 1),
        "it counts at once"
    );
    assert!(slow.is_readable(), "its notice of before is unread");
    slow.notices();
    slow.client.send(Op::SetTracking, [2, 0]);
    assert_eq!(slow.client.reason(), Reason::Malformed);
    assert_eq!(waiter.status().watchers, 0);
}

#[test]
fn only_the_control_socket_takes_triggers_and_lists_stragglers() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut client = Client::watch(broker.dir());
    let denied = client.trigger(7);
    assert_eq!((denied.answer, denied.generation), (Answer::Denied, 0));
    let page = client.stragglers(0);
    assert_eq!((page.answer, page.count), (Answer::Denied, 0));
    let denied = client.set_phase(Phase::Quiesce);
    assert_eq!(
        (denied.answer, denied.phase),
        (Answer::Denied, Phase::Running)
    );

    let mut control = Client::control(broker.dir());
    assert_eq!(control.trigger(7).generation, 7);
    assert_eq!(control.trigger(7).generation, 8);
    assert_eq!(control.stragglers(0).answer, Answer::Ok);
}

#[test]
fn the_control_socket_has_no_watchers() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let reply = control.call(Op::Open, [OPEN_TRACKED, 0]);
    assert_eq!((reply.answer, reply.watchers), (Answer::Invalid, 0));
}

#[test]
fn stragglers_are_named_page_by_page() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
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
        assert_eq!((page.answer, page.generation), (Answer::Ok, 5));
        counts.push(page.count);
        for straggler in page.filled() {
            assert_eq!(straggler.pid, std::process::id());
            assert_eq!(straggler.uid, rustix::process::geteuid().as_raw());
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
    let opened: Vec<_> = watchers.iter().skip(2).map(Watcher::number).collect();
    assert_eq!(numbers, opened);
}

#[test]
fn a_status_and_a_notice_tell_the_cause_the_time_and_the_payload() {
    let now = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        u64::try_from(since.as_nanos()).unwrap()
    };
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let mut watcher = Watcher::untracked(broker.dir());
    let mut client = Client::watch(broker.dir());
    let status = client.status();
    assert_eq!((status.cause, status.time), (Cause::NONE, 0));
    assert_eq!(status.payload, Payload::EMPTY);

    for (cause, expected) in [(0, Cause::TRIGGER), (2, Cause::RESTORE), (77, Cause(77))] {
        let before = now();
        let reply = control.trigger_with(cause, b"a new name");
        let after = now();
        assert_eq!(reply.cause, expected);
        assert!((before..=after).contains(&reply.time), "{}", reply.time);
        assert_eq!(reply.payload.as_bytes(), b"a new name");

        let status = client.status();
        assert_eq!(
            (status.cause, status.time, status.payload),
            (reply.cause, reply.time, reply.payload)
        );
        let notice = watcher.read_notice().unwrap();
        assert_eq!(
            (notice.generation, notice.cause, notice.time),
            (reply.generation, reply.cause, reply.time)
        );
        watcher.acknowledge(reply.generation).unwrap();
    }
    control.trigger(0);
    assert_eq!(client.status().payload, Payload::EMPTY, "of the last only");
}

#[test]
fn a_payload_of_128_bytes_fits_and_one_of_129_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let longest = [b'x'; PAYLOAD_LEN];
    let reply = control.trigger_with(0, &longest);
    assert_eq!(reply.payload.as_bytes(), longest);

    let request = Request::new(Op::Trigger, 9).encode();
    for length in [PAYLOAD_LEN + 1, 4096] {
        let control = Client::control(broker.dir());
        control
            .send_bytes(&[&request[..], &vec![b'x'; length]].concat())
            .unwrap();
        assert_eq!(control.reason(), Reason::Malformed);
    }
    assert_eq!(control.status().generation, 1, "nothing was changed");
}

#[test]
fn requests_that_make_no_sense_are_invalid() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut client = Client::watch(broker.dir());
    assert_eq!(client.status().answer, Answer::Ok);
    assert_eq!(client.call(Op::Wait, [2, 0]).answer, Answer::Invalid);
    let unknown_flag = client.call(Op::Open, [8, 0]);
    assert_eq!(
        (unknown_flag.answer, unknown_flag.watchers),
        (Answer::Invalid, 0)
    );
    let mut control = Client::control(broker.dir());
    assert_eq!(control.call(Op::SetPhase, [2, 0]).answer, Answer::Invalid);
    control.send(Op::Stragglers, [2, 0]);
    let Packet::Stragglers(page) = control.receive().0 else {
        panic!("not a page of stragglers");
    };
    assert_eq!((page.answer, page.count), (Answer::Invalid, 0));
    assert_eq!(client.status().answer, Answer::Ok, "it goes on");
}
