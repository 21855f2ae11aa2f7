// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Waiting until others have acknowledged.

use sysgenid_broker::spawn;
use sysgenid_sys::wire::{Answer, Awaited, Op};

use crate::child::{as_user, open_directory};
use crate::client::{Client, Watcher};

#[test]
fn a_wait_ends_when_the_last_tracked_watcher_has_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let mut own = Watcher::untracked(broker.dir());
    let mut orchestrator = Client::watch(broker.dir());
    let mut wait = |own: &Watcher| orchestrator.wait(own.number(), Awaited::Generation).answer;
    assert_eq!(wait(&own), Answer::Ok, "at once, in one reply");

    let mut slow = [
        Watcher::tracked(broker.dir()),
        Watcher::tracked(broker.dir()),
    ];
    control.trigger(0);
    assert_eq!(wait(&own), Answer::Outdated, "its own comes first");

    own.acknowledge(1).unwrap();
    assert_eq!(wait(&own), Answer::Pending);
    assert!(orchestrator.is_quiet());
    slow[0].acknowledge(1).unwrap();
    assert!(orchestrator.is_quiet());
    slow[1].acknowledge(1).unwrap();
    let done = orchestrator.reply();
    assert_eq!((done.answer, done.outdated), (Answer::Ok, 0));
}

#[test]
fn the_second_reply_has_the_number_of_the_request_as_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut slow = Watcher::resumed(broker.dir(), 9);
    let mut waiter = Client::watch(broker.dir());
    waiter.status();
    let pending = waiter.wait(0, Awaited::Generation);
    assert_eq!(pending.answer, Answer::Pending);
    // Replies to other questions come in between.
    assert_eq!(waiter.status().outdated, 1);
    slow.acknowledge(0).unwrap();
    let done = waiter.reply();
    assert_eq!((done.op, done.answer), (Op::Wait, Answer::Ok));
    assert_eq!(done.sequence, pending.sequence);
    assert!(waiter.is_quiet(), "two replies, and no more");
    assert_eq!(waiter.wait(0, Awaited::Generation).answer, Answer::Ok);
}

#[test]
fn a_wait_ends_when_the_waiter_becomes_outdated() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let _slow = Watcher::resumed(broker.dir(), 9);
    let own = Watcher::untracked(broker.dir());
    let mut waiter = Client::watch(broker.dir());
    let wait = waiter.wait(own.number(), Awaited::Generation);
    assert_eq!(wait.answer, Answer::Pending);
    control.trigger(0);
    assert_eq!(waiter.reply().answer, Answer::Outdated);
}

#[test]
fn a_wait_ends_when_the_waiters_watcher_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let _slow = Watcher::resumed(broker.dir(), 9);
    let own = Watcher::untracked(broker.dir());
    let number = own.number();
    let mut waiter = Client::watch(broker.dir());
    let wait = waiter.wait(number, Awaited::Generation);
    assert_eq!(wait.answer, Answer::Pending);
    drop(own);
    assert_eq!(waiter.reply().answer, Answer::Outdated);
    let gone = waiter.wait(number, Awaited::Generation);
    assert_eq!(gone.answer, Answer::Invalid, "a number is not used twice");
}

#[test]
fn a_wait_without_a_watcher_goes_on_over_changes() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let mut slow = Watcher::resumed(broker.dir(), 9);
    let mut waiter = Client::watch(broker.dir());
    assert_eq!(waiter.wait(0, Awaited::Generation).answer, Answer::Pending);
    control.trigger(0);
    assert!(waiter.is_quiet());
    slow.acknowledge(1).unwrap();
    assert_eq!(waiter.reply().answer, Answer::Ok);
}

#[test]
fn closing_the_connection_cancels_its_wait() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut slow = Watcher::resumed(broker.dir(), 9);
    let own = Watcher::untracked(broker.dir());
    for _ in 0..3 {
        let mut waiter = Client::watch(broker.dir());
        let wait = waiter.wait(own.number(), Awaited::Generation);
        assert_eq!(wait.answer, Answer::Pending);
    }
    let mut waiter = Client::watch(broker.dir());
    assert_eq!(waiter.status().watchers, 2);
    slow.acknowledge(0).unwrap();
    let wait = waiter.wait(own.number(), Awaited::Generation);
    assert_eq!(wait.answer, Answer::Ok);
}

#[test]
fn one_watcher_may_have_several_waits() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let mut slow = Watcher::resumed(broker.dir(), 9);
    let mut own = Watcher::untracked(broker.dir());
    let wait = |own: &Watcher| {
        let mut waiter = Client::watch(directory.path());
        let wait = waiter.wait(own.number(), Awaited::Generation);
        assert_eq!(wait.answer, Answer::Pending);
        waiter
    };
    let waiters: Vec<_> = (0..5).map(|_| wait(&own)).collect();
    control.trigger(0);
    for waiter in &waiters {
        assert_eq!(waiter.reply().answer, Answer::Outdated);
    }
    own.acknowledge(1).unwrap();
    let mut waiters: Vec<_> = (0..5).map(|_| wait(&own)).collect();
    drop(waiters.pop());
    slow.acknowledge(1).unwrap();
    for waiter in &waiters {
        assert_eq!(waiter.reply().answer, Answer::Ok);
    }
}

#[test]
fn one_connection_has_one_wait_at_a_time_and_is_no_watcher_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut slow = Watcher::resumed(broker.dir(), 9);
    let mut waiter = Client::watch(broker.dir());
    assert_eq!(waiter.wait(0, Awaited::Generation).answer, Answer::Pending);
    assert_eq!(waiter.wait(0, Awaited::Generation).answer, Answer::Invalid);
    let opened = waiter.call(Op::Open, [0, 0]);
    assert_eq!((opened.answer, opened.watchers), (Answer::Invalid, 1));
    slow.acknowledge(0).unwrap();
    assert_eq!(
        waiter.reply().answer,
        Answer::Ok,
        "the wait is not over before"
    );
    assert!(waiter.into_watcher(0, 0).is_ok(), "now it may become one");
}

#[test]
fn another_users_watcher_is_invalid_in_a_wait() {
    let directory = open_directory();
    let broker = spawn(directory.path()).unwrap();
    let own = Watcher::untracked(broker.dir());
    let _slow = Watcher::resumed(broker.dir(), 9);
    let waited = as_user(65_533, || {
        let mut other = Client::watch(directory.path());
        let theirs = Watcher::untracked(directory.path());
        let waits = [own.number(), 1_000, theirs.number(), 0];
        waits.map(|own| {
            let mut waiter = Client::watch(directory.path());
            let status = waiter.wait(own, Awaited::Generation).answer;
            other.status();
            status
        })
    });
    if let Some(waited) = waited {
        assert_eq!(
            waited,
            [
                Answer::Invalid,
                Answer::Invalid,
                Answer::Pending,
                Answer::Pending
            ]
        );
    }
}
