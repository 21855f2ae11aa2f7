// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What was sent before a question is counted in its answer, also if it went over other
//! connections.

use sysgenid_broker::spawn;
use sysgenid_sys::wire::{Op, Status};

use crate::child::Process;
use crate::client::{Client, Watcher};

/// More than the broker takes from the kernel at once.
const MANY: usize = 600;

#[test]
fn a_status_counts_every_acknowledgement_that_was_sent_before_it() {
    let folder = tempfile::tempdir().unwrap();
    crate::child::raise_files_to(0);
    let broker = spawn(folder.path()).unwrap();
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
    let folder = tempfile::tempdir().unwrap();
    crate::child::raise_files_to(0);
    let broker = Process::serve(folder.path());
    let mut control = Client::control(folder.path());
    let mut first = Watcher::untracked(folder.path());
    let mut watchers: Vec<_> = (0..MANY).map(|_| Watcher::tracked(folder.path())).collect();
    let generation = control.trigger(0).generation;

    broker.freeze();
    first.client.send(Op::CancelWait, [0, 0]);
    for watcher in &mut watchers {
        watcher.acknowledge(generation).unwrap();
    }
    first.client.send(Op::Status, [0, 0]);
    broker.thaw();
    assert_eq!(first.client.reply().outdated, 0);
}

#[test]
fn a_trigger_comes_after_the_acknowledgement_that_ends_a_wait() {
    let folder = tempfile::tempdir().unwrap();
    let broker = spawn(folder.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let mut slow = Watcher::tracked(broker.dir());
    let mut waiter = Watcher::untracked(broker.dir());
    for _ in 0..200 {
        let generation = control.trigger(0).generation;
        waiter.acknowledge(generation).unwrap();
        waiter.client.send(Op::Wait, [0, 0]);
        slow.acknowledge(generation).unwrap();
        control.trigger(0);
        assert_eq!(waiter.client.reply().status, Status::Ok);
    }
}

#[test]
fn requests_of_one_connection_keep_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let broker = spawn(folder.path()).unwrap();
    let mut orchestrator = Client::control(broker.dir())
        .into_watcher(sysgenid_sys::wire::OPEN_TRACKED, 0)
        .unwrap();
    for generation in 1..100 {
        orchestrator.client.send(Op::Trigger, [0, 0]);
        orchestrator.client.send(Op::Acknowledge, [generation, 0]);
        orchestrator.client.send(Op::Status, [0, 0]);
        assert_eq!(orchestrator.client.reply().outdated, 1);
        assert_eq!(orchestrator.client.reply().outdated, 0);
    }
}
