// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A broker that cannot serve a client says why, and closes the connection.

use rustix::io::Errno;
use sysgenid_broker::spawn;
use sysgenid_sys::wire::{Op, Reason, Request, WATCH_SOCKET};

use crate::child::Process;
use crate::client::{Client, Packet, Watcher};

#[test]
fn other_versions_are_told_which_ones_there_are() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut packet = [0; 200];
    packet[..32].copy_from_slice(&Request::new(Op::Status, 7).encode());
    for version in [0, 1, 3, u16::MAX] {
        packet[..2].copy_from_slice(&version.to_le_bytes());
        for length in [4, 16, 31, 32, 33, 200] {
            for connect in [Client::watch, Client::control] {
                let client = connect(broker.dir());
                client.send_bytes(&packet[..length]).unwrap();
                let refusal = client.refusal();
                assert_eq!(refusal.reason, Reason::Version, "{version}, {length}");
                assert_eq!((refusal.version, refusal.oldest, refusal.newest), (2, 2, 2));
            }
        }
        let watcher = Watcher::tracked(broker.dir());
        watcher.client.send_bytes(&packet[..4]).unwrap();
        assert_eq!(watcher.client.reason(), Reason::Version);
    }
    assert_eq!(Client::watch(broker.dir()).status().watchers, 0);
}

#[test]
fn what_is_not_a_request_is_malformed() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut watcher = Watcher::tracked(broker.dir());
    let good = Request::new(Op::Status, 7).encode();
    let long = [&good[..], &[0]].concat();
    let no_such_op = [&good[..2], &[11], &good[3..]].concat();
    let longer_than_any = [&good[..], &[0; 5_000]].concat();
    let packets = [&good[..31], &good[..3], &good[..1], &long, &no_such_op];
    for packet in packets {
        let client = Client::watch(broker.dir());
        client.send_bytes(packet).unwrap();
        assert_eq!(client.reason(), Reason::Malformed, "{packet:?}");
    }
    let client = Client::watch(broker.dir());
    client.send_bytes(&longer_than_any).unwrap();
    assert_eq!(client.reason(), Reason::Malformed);

    // A packet without bytes cannot be told from the end.
    let client = Client::watch(broker.dir());
    client.send_bytes(&[]).unwrap();
    assert!(client.is_closed_by_broker());

    assert!(!watcher.is_readable(), "the others go on");
    Client::control(broker.dir()).trigger(0);
    watcher.acknowledge(1).unwrap();
}

#[test]
fn what_is_asked_for_on_the_wrong_kind_of_connection_is_malformed() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    for op in [
        Op::Acknowledge,
        Op::SetTracking,
        Op::Notify,
        Op::AcknowledgePhase,
    ] {
        for connect in [Client::watch, Client::control] {
            let mut client = connect(broker.dir());
            client.status();
            let sequence = client.send(op, [0, 0]);
            let refusal = client.refusal();
            assert_eq!(refusal.reason, Reason::Malformed, "{op:?}");
            assert_eq!(refusal.sequence, sequence);
        }
    }
    for op in [
        Op::Open,
        Op::Wait,
        Op::Status,
        Op::Trigger,
        Op::Stragglers,
        Op::SetPhase,
    ] {
        let mut watcher = Watcher::tracked(broker.dir());
        watcher.client.send(op, [0, 0]);
        assert_eq!(watcher.client.reason(), Reason::Malformed, "{op:?}");
    }
    let status = Client::watch(broker.dir()).status();
    assert_eq!((status.watchers, status.generation), (0, 0));
}

#[test]
fn a_client_that_does_not_read_is_told_when_it_does() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut deaf = Client::watch(broker.dir());
    let mut sent = 0_u32;
    let error = loop {
        match deaf.try_send(Op::Status, [0, 0]) {
            Ok(_) => sent += 1,
            Err(Errno::AGAIN) => std::thread::yield_now(),
            Err(error) => break error,
        }
        assert!(
            sent < 1_000_000,
            "the broker keeps replies that are not read"
        );
    };
    assert!(matches!(error, Errno::PIPE | Errno::CONNRESET), "{error}");
    assert_eq!(deaf.reason(), Reason::NotReading);
}

/// For requests that the broker has not received, the kernel would report `ECONNRESET` first.
#[test]
fn a_client_that_is_turned_away_reads_why_also_if_it_has_asked_already() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Process::serve_with_files(directory.path(), 100);
    let capacity = broker.capacity();
    let watchers: Vec<_> = (0..capacity)
        .map(|_| Watcher::tracked(directory.path()))
        .collect();
    broker.freeze();
    let early: Vec<_> = (0..20)
        .map(|_| {
            let mut client = Client::watch(directory.path());
            client.send(Op::Open, [0, 0]);
            client.send(Op::Status, [0, 0]);
            client
        })
        .collect();
    broker.thaw();
    for client in early {
        let Packet::Refusal(refusal) = client.receive().0 else {
            panic!("not a refusal");
        };
        assert_eq!((refusal.reason, refusal.limit), (Reason::Full, capacity));
        assert!(client.is_closed_by_broker());
    }
    assert_eq!(watchers.len() as u64, capacity);
    let gone = Client::connect(directory.path(), WATCH_SOCKET).unwrap();
    assert_eq!(gone.reason(), Reason::Full);
}
