// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What was sent before a question is counted in its answer, also if it went over other
//! connections.

use sysgenid_broker::spawn;
use sysgenid_sys::wire::{Answer, Awaited, OPEN_RESUME, Op};

use crate::child::Process;
use crate::client::{Client, Watcher};

/// More than the broker takes from the kernel at once.
const MANY: usize = 600;

#[test]
fn a_status_counts_every_acknowledgement_that_was_sent_before_it() {
    let directory = tempfile::tempdir().unwrap();
    crate::child::raise_files_to(0);
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let mut watchers: Vec<_> = (0..MANY).map(|_| Watcher::tracked(broker.dir())).collect();
    for _ in 0..20 {
        let generation = control.trigger(0).generation;
        for watcher in &mut watchers {
            watcher.acknowledge(generation).unwrap();
        }
        assert_eq!(control.status().outdated, 0);
        assert_eq!(control.stragglers(0).count, 0);
    }
}

/// The question is in the broker's first batch of events, most acknowledgements are not.
#[test]
fn a_status_that_is_read_first_is_answered_after_what_was_sent_before_it() {
    let directory = tempfile::tempdir().unwrap();
    crate::child::raise_files_to(0);
    let broker = Process::serve(directory.path());
    let mut control = Client::control(directory.path());
    let mut first = Client::watch(directory.path());
    let mut watchers: Vec<_> = (0..MANY)
        .map(|_| Watcher::tracked(directory.path()))
        .collect();
    let generation = control.trigger(0).generation;
    first.status();

    broker.freeze();
    first.send(Op::Stragglers, [0, 0]);
    for watcher in &mut watchers {
        // Told, so that the broker has something to read.
        watcher.client.send(Op::Acknowledge, [generation, 0]);
    }
    first.send(Op::Status, [0, 0]);
    broker.thaw();
    first.receive();
    assert_eq!(first.reply().outdated, 0);
}

/// The same of a wait, which would otherwise be over at once.
#[test]
fn a_wait_that_is_read_first_counts_the_tracking_that_was_set_before_it() {
    let directory = tempfile::tempdir().unwrap();
    crate::child::raise_files_to(0);
    let broker = Process::serve(directory.path());
    let mut first = Client::watch(directory.path());
    let mut watchers: Vec<_> = (0..MANY)
        .map(|_| Watcher::open(directory.path(), OPEN_RESUME, 9))
        .collect();
    first.status();

    broker.freeze();
    first.send(Op::Stragglers, [0, 0]);
    for watcher in &mut watchers {
        watcher.client.send(Op::SetTracking, [1, 0]);
    }
    first.send(Op::Wait, [Awaited::Generation as u32, 0]);
    broker.thaw();
    first.receive();
    let reply = first.reply();
    assert_eq!(reply.answer, Answer::Pending);
    assert_eq!(reply.outdated as usize, MANY);
}

#[test]
fn a_trigger_comes_after_the_acknowledgement_that_ends_a_wait() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let mut slow = Watcher::tracked(broker.dir());
    let mut own = Watcher::untracked(broker.dir());
    let mut waiter = Client::watch(broker.dir());
    for _ in 0..200 {
        let generation = control.trigger(0).generation;
        own.acknowledge(generation).unwrap();
        let wait = waiter.wait(own.number(), Awaited::Generation);
        assert_eq!(wait.answer, Answer::Pending);
        slow.acknowledge(generation).unwrap();
        control.trigger(0);
        assert_eq!(waiter.reply().answer, Answer::Ok);
    }
}

#[test]
fn requests_of_one_connection_keep_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let _watcher = Watcher::tracked(broker.dir());
    let mut control = Client::control(broker.dir());
    for generation in 1..100 {
        control.send(Op::Status, [0, 0]);
        control.send(Op::Trigger, [0, 0]);
        control.send(Op::Wait, [0, 0]);
        control.send(Op::Status, [0, 0]);
        assert_eq!(control.reply().generation, generation - 1);
        assert_eq!(control.reply().generation, generation);
        // One wait at a time; the first goes on.
        let wait = control.reply().answer;
        assert_eq!(wait == Answer::Pending, generation == 1, "{wait:?}");
        assert_eq!(control.reply().op, Op::Status);
    }
}
