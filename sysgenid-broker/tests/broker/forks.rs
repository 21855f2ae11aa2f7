// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Forked children, which have their parent's connection.

use sysgenid_broker::spawn;
use sysgenid_sys::wire::{Awaited, OPEN_PARKS, OPEN_TRACKED, Op, Phase, Request};

use crate::child::Process;
use crate::client::{Client, Watcher};

#[test]
fn what_a_forked_child_acknowledges_is_ignored_and_what_its_parent_does_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let mut watcher = Watcher::open(broker.dir(), OPEN_TRACKED | OPEN_PARKS, 0);
    control.trigger(0);
    let number = control.set_phase(Phase::Quiesce).phase_number;
    let requests = [
        (Op::Acknowledge, 1),
        (Op::SetTracking, 0),
        (Op::AcknowledgePhase, number),
    ];
    let packets = requests.map(|(op, argument)| {
        let request = Request {
            arguments: [argument, 0],
            ..Request::new(op, 1)
        };
        request.encode().to_vec()
    });
    let _child = Process::relay(broker.dir(), &watcher.client.socket, &packets);
    let counts = |control: &mut Client| {
        let status = control.status();
        (status.outdated, status.tracked, status.unparked)
    };
    assert_eq!(counts(&mut control), (1, 1, 1));
    let stale = Request::new(Op::Acknowledge, 1).encode().to_vec();
    watcher.notices();
    let _other = Process::relay(broker.dir(), &watcher.client.socket, &[stale]);
    control.status();
    assert!(!watcher.is_readable(), "nor is a stale one answered");

    let mut counted = Vec::new();
    for (op, argument) in requests.into_iter().rev() {
        watcher.client.send(op, [argument, 0]);
        counted.push(counts(&mut control));
    }
    assert_eq!(counted, [(1, 1, 0), (0, 0, 0), (0, 0, 0)]);
    watcher.client.send(Op::SetTracking, [1, 0]);
    assert_eq!(counts(&mut control), (0, 1, 0), "all of them");
}

#[test]
fn a_process_that_has_ended_and_left_its_watcher_to_a_child_is_not_named() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let lives = Process::watch(broker.dir());
    let ended = Process::leave(broker.dir());
    control.trigger(0);
    let page = control.stragglers(0);
    let pids: Vec<_> = page.filled().iter().map(|it| it.pid).collect();
    assert_eq!(pids, [lives.id(), 0]);
    let straggler = page.filled()[1];
    assert_eq!(straggler.command, [0; 16]);
    assert_eq!(straggler.uid, rustix::process::geteuid().as_raw());
    drop(ended);
    // Its child ends with its input, and the watcher with that.
    let mut waiter = Client::watch(broker.dir());
    drop(lives);
    let first = waiter.wait(0, Awaited::Generation);
    let last = match first.answer {
        sysgenid_sys::wire::Answer::Pending => waiter.reply(),
        _ => first,
    };
    assert_eq!(last.watchers, 0);
}

/// From the moment at which the broker accepts a connection, also before it has prepared it.
#[test]
fn the_opener_of_a_watcher_is_known_however_early_it_asks() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let mut watchers: Vec<_> = (0..300)
        .map(|round| {
            let client = Client::watch(broker.dir());
            for _ in 0..round * 100 {
                std::hint::spin_loop();
            }
            client.into_watcher(OPEN_TRACKED, 0).ok().unwrap()
        })
        .collect();
    control.trigger(0);
    for watcher in &mut watchers {
        watcher.client.send(Op::Acknowledge, [1, 0]);
    }
    assert_eq!(control.status().outdated, 0, "that of no process is taken");
}
