// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Many watchers, and too many.

use std::time::Duration;

use rustix::io::Errno;
use sysgenid_broker::spawn;
use sysgenid_sys::wire::{Answer, OPEN_RESUME, OPEN_TRACKED, Op, Reason, Reply, WATCH_SOCKET};

use crate::child::{Process, raise_files_to};
use crate::client::{Client, Packet, Watcher};

#[test]
fn without_descriptors_a_client_is_told_so_and_the_others_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Process::serve_with_files(directory.path(), 100);
    let mut control = Client::control(directory.path());
    let mut watchers = Vec::new();
    let full = loop {
        assert!(watchers.len() < 100, "no limit");
        match Client::watch(directory.path()).into_watcher(OPEN_TRACKED, 0) {
            Ok(watcher) => watchers.push(watcher),
            Err(Packet::Refusal(refusal)) => break refusal,
            Err(other) => panic!("{other:?}"),
        }
    };
    assert_eq!((full.reason, full.limit), (Reason::Full, broker.capacity()));
    assert_eq!(watchers.len() as u64, broker.capacity());

    assert_eq!(control.trigger(0).generation, 1);
    watchers[0].acknowledge(1).unwrap();
    assert_eq!(
        control.stragglers(0).count as usize,
        watchers.len().min(33) - 1
    );
    watchers.truncate(5);
    control.status();
    Watcher::tracked(directory.path());
}

#[test]
fn connections_beyond_the_limit_are_refused_without_spinning() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Process::serve_with_files(directory.path(), 100);
    let mut first = Watcher::tracked(directory.path());
    let mut control = Client::control(directory.path());
    let clients: Vec<_> = (0..200).map(|_| Client::watch(directory.path())).collect();
    control.status();
    assert_eq!(clients.last().unwrap().reason(), Reason::Full);

    let before = broker.ticks();
    std::thread::sleep(Duration::from_millis(500));
    assert!(broker.ticks() - before < 10, "the broker spins");
    control.trigger(0);
    first.acknowledge(1).unwrap();
    drop(clients);
    control.status();
    Watcher::tracked(directory.path());
}

#[test]
fn the_control_socket_has_room_for_sixteen_when_the_watchers_have_all_else() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Process::serve_with_files(directory.path(), 100);
    let mut watchers: Vec<_> = (0..broker.capacity())
        .map(|_| Watcher::tracked(directory.path()))
        .collect();
    let controls: Vec<_> = (0..16).map(|_| Client::control(directory.path())).collect();
    assert_eq!(Client::control(directory.path()).reason(), Reason::Full);
    drop(controls);
    watchers[0].client.send(Op::Notify, [1, 0]);
    watchers[0].wait_readable();
}

/// An allocation that fails ends a process. So the broker takes no client for which there is not
/// more than enough memory.
#[test]
fn without_memory_a_client_is_told_so_and_the_broker_lives_and_serves_the_others() {
    raise_files_to(0);
    let directory = tempfile::tempdir().unwrap();
    let broker = Process::serve_with_memory(directory.path(), 64 << 20);
    let mut control = Client::control(directory.path());
    let mut witness = Watcher::tracked(directory.path());
    let mut sockets = Vec::new();
    let mut waiters = Vec::new();
    let refused = loop {
        if sockets.len() % 8 == 0 {
            let mut waiter = Client::watch(directory.path());
            waiter.send(Op::Wait, [0, 0]);
            waiters.push(waiter);
        }
        let mut client = Client::watch(directory.path());
        let opened = client.try_send(Op::Open, [OPEN_TRACKED | OPEN_RESUME, 9]);
        assert!(matches!(opened, Ok(_) | Err(Errno::PIPE)), "{opened:?}");
        match client.receive().0 {
            Packet::Reply(_) => sockets.push(client.socket),
            Packet::Refusal(refusal) => break refusal,
            other => panic!("{other:?}"),
        }
    };
    eprintln!("{} watchers, then {refused:?}", sockets.len());
    assert_eq!(refused.reason, Reason::Exhausted);
    for _ in 0..50 {
        let refused = Client::watch(directory.path()).into_watcher(OPEN_TRACKED, 0);
        let Err(Packet::Refusal(refusal)) = refused else {
            panic!("there was memory");
        };
        assert_eq!(refusal.reason, Reason::Exhausted);
    }
    for generation in 1..=3 {
        let reply = control.trigger(0);
        assert_eq!(reply.outdated as usize, sockets.len() + 1);
        witness.acknowledge(generation).unwrap();
        assert_eq!(control.status().outdated as usize, sockets.len());
        assert_eq!(control.stragglers(0).count, 32);
    }
    // All at once: the broker holds a question of each.
    broker.freeze();
    for waiter in &mut waiters {
        waiter.send(Op::Status, [0, 0]);
    }
    broker.thaw();
    assert_eq!(control.status().outdated as usize, sockets.len());
    // And every wait is over.
    sockets.clear();
    assert_eq!(control.status().watchers, 1);
    for waiter in &waiters {
        let is_last = |reply: &Reply| (reply.op, reply.answer) == (Op::Wait, Answer::Ok);
        while !is_last(&waiter.reply()) {}
    }
    assert_eq!(Watcher::tracked(directory.path()).opened.watchers, 2);
}

#[test]
fn a_thousand_idle_watchers_cost_little_memory_and_no_time() {
    raise_files_to(0);
    let directory = tempfile::tempdir().unwrap();
    let broker = Process::serve(directory.path());
    let _watchers: Vec<_> = (0..1000)
        .map(|_| Watcher::tracked(directory.path()))
        .map(|watcher| watcher.client)
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
    let directory = tempfile::tempdir().unwrap();
    let server = sysgenid_broker::Server::bind(directory.path()).unwrap();
    let mut early = Client::watch(directory.path());
    let sequence = early.send(Op::Status, [0, 0]);
    let stopper = server.stopper();
    let thread = std::thread::spawn(move || server.run());
    assert_eq!(early.reply().sequence, sequence);
    stopper.stop();
    thread.join().unwrap().unwrap();
    let gone = Client::connect(directory.path(), WATCH_SOCKET).err();
    assert_eq!(gone, Some(Errno::NOENT));
    drop(spawn(directory.path()).unwrap());
}

#[test]
fn a_broker_that_is_stopped_ends_the_connections_that_wait_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let server = sysgenid_broker::Server::bind(directory.path()).unwrap();
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let mut client = Client::watch(directory.path());
            client.send(Op::Status, [0, 0]);
            client
        })
        .collect();
    server.stopper().stop();
    server.run().unwrap();
    for client in &waiting {
        let end = client.try_receive().map(|(packet, _)| packet);
        let is_end = matches!(end, Ok(Packet::Closed) | Err(Errno::CONNRESET));
        assert!(is_end, "{end:?}");
    }
    drop(spawn(directory.path()).unwrap());
}
