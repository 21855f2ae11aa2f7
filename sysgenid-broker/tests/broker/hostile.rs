// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Clients that die, hang, lie or talk nonsense harm nobody but themselves.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use proptest::prelude::*;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use sysgenid_broker::spawn;
use sysgenid_sys::wire::{Op, Request, Status};

use crate::child::Process;
use crate::client::{Client, Watcher};

#[test]
fn a_killed_client_is_no_watcher_any_more_and_releases_those_who_wait() {
    let folder = tempfile::tempdir().unwrap();
    let broker = spawn(folder.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let victim = Process::watch(broker.dir());
    let mut waiter = Watcher::untracked(broker.dir());
    control.trigger(0);
    waiter.acknowledge(1).unwrap();
    let wait = waiter.client.send(Op::Wait, [0, 0]);
    assert!(waiter.client.is_quiet());
    assert_eq!(control.stragglers(0).filled()[0].pid, victim.id());

    victim.kill();
    let reply = waiter.client.reply();
    assert_eq!((reply.status, reply.sequence), (Status::Ok, wait));
    let status = control.status();
    assert_eq!((status.watchers, status.tracked), (1, 0));
}

#[test]
fn a_client_that_stops_reading_is_closed_and_nobody_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let broker = spawn(folder.path()).unwrap();
    let mut deaf = Watcher::tracked(broker.dir());
    let mut control = Client::control(broker.dir());
    control.trigger(0);
    assert_eq!(control.status().outdated, 1);
    let mut sent = 0_u32;
    let error = loop {
        match deaf.client.try_send(Op::Status, [0, 0]) {
            Ok(_) => sent += 1,
            Err(Errno::AGAIN) => std::thread::yield_now(),
            Err(error) => break error,
        }
        assert!(sent < 1_000_000, "the broker keeps what nobody reads");
    };
    assert!(matches!(error, Errno::PIPE | Errno::CONNRESET), "{error}");
    let status = control.status();
    assert_eq!((status.watchers, status.outdated), (0, 0));
}

#[test]
fn a_client_that_lets_its_signal_fill_up_and_block_stops_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let broker = spawn(folder.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let mut watcher = Watcher::tracked(broker.dir());
    let flags = fcntl_getfl(&watcher.signal).unwrap();
    fcntl_setfl(&watcher.signal, flags - OFlags::NONBLOCK).unwrap();
    // More than fits into the pipe.
    for _ in 0..5_000 {
        control.trigger(0);
    }
    fcntl_setfl(&watcher.signal, flags).unwrap();
    watcher.acknowledge(5_000).unwrap();
    assert_eq!(control.status().outdated, 0);
    assert!(!watcher.is_readable());
}

#[test]
fn a_client_that_closes_its_signal_harms_itself() {
    let folder = tempfile::tempdir().unwrap();
    let broker = spawn(folder.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let Watcher { client, signal, .. } = Watcher::tracked(broker.dir());
    drop(signal);
    assert_eq!(control.trigger(0).outdated, 1);
    drop(client);
    assert_eq!(control.status().watchers, 0);
}

#[test]
fn what_a_client_scribbles_into_its_slot_is_no_acknowledgement() {
    let folder = tempfile::tempdir().unwrap();
    let broker = spawn(folder.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let watcher = Watcher::tracked(broker.dir());
    control.trigger(0);
    for scribble in [0, 2, u32::MAX] {
        let _ = watcher.slot.acknowledge(scribble);
        assert_eq!(control.status().outdated, 1, "{scribble}");
    }
    // Nor is what it left for a generation that was, when the number comes round.
    let _ = watcher.slot.acknowledge(1);
    assert_eq!(control.status().outdated, 0);
    control.trigger(u32::MAX);
    control.trigger(0);
    assert_eq!(control.trigger(0).generation, 1);
    assert_eq!(control.status().outdated, 1);
}

#[test]
fn descriptors_that_a_client_sends_are_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Process::serve(folder.path());
    let open = || {
        std::fs::read_dir(format!("/proc/{}/fd", broker.id()))
            .unwrap()
            .count()
    };
    let client = Client::watch(folder.path());
    let mut other = Client::watch(folder.path());
    other.status();
    let before = open();
    let packet = Request {
        op: Op::Status,
        sequence: 1,
        arguments: [0, 0],
    }
    .encode();
    for _ in 0..20 {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [client.socket.as_fd(), client.socket.as_fd()];
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        let message = [IoSlice::new(&packet)];
        sendmsg(
            &client.socket,
            &message,
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )
        .unwrap();
        client.reply();
    }
    assert_eq!(open(), before);
}

/// Bytes of any length, requests with any numbers, and whole sequences of valid ones.
fn packets() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let bytes = prop::collection::vec(any::<u8>(), 0..64);
    let request = (0_u16..3, 0_u16..11, any::<u32>(), 0_u32..5, any::<u32>()).prop_map(
        |(version, op, sequence, first, second)| {
            let mut packet = Vec::new();
            packet.extend(version.to_le_bytes());
            packet.extend(op.to_le_bytes());
            for word in [sequence, first, second] {
                packet.extend(word.to_le_bytes());
            }
            packet
        },
    );
    let valid = (1_u16..9, 0_u32..5).prop_map(|(op, argument)| {
        let op = Op::from_number(op).expect("an operation");
        Request {
            op,
            sequence: 0,
            arguments: [argument, 0],
        }
        .encode()
        .to_vec()
    });
    prop::collection::vec(prop_oneof![1 => bytes, 2 => request, 8 => valid], 1..40)
}

#[test]
fn garbage_closes_only_the_connection_it_came_on() {
    let folder = tempfile::tempdir().unwrap();
    let broker = spawn(folder.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let mut witness = Watcher::tracked(broker.dir());
    let run = |packets: Vec<Vec<u8>>, on_control: bool| {
        let bad = match on_control {
            true => Client::control(folder.path()),
            false => Client::watch(folder.path()),
        };
        for packet in packets {
            if bad.send_bytes(&packet).is_err() {
                break;
            }
        }
        drop(bad);
        // Valid triggers among it may still be on their way.
        let settled = (0..1000).any(|_| {
            let generation = control.status().generation;
            let _ = witness.acknowledge(generation);
            let status = control.status();
            (status.watchers, status.outdated) == (1, 0)
        });
        prop_assert!(settled, "{:?}", control.status());
        let current = control.trigger(0).generation;
        prop_assert!(witness.is_readable());
        prop_assert_eq!(witness.map.load(), current);
        Ok(())
    };
    let run = std::cell::RefCell::new(run);
    proptest!(|(packets in packets(), on_control in any::<bool>())| {
        (run.borrow_mut())(packets, on_control)?;
    });
}
