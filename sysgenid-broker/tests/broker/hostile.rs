// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Clients that die, hang, lie or talk nonsense harm nobody but themselves.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use sysgenid_broker::spawn;
use sysgenid_sys::wire::{Answer, Awaited, Op, Reason, Request};

use crate::child::Process;
use crate::client::{Client, PATIENCE, Packet, Watcher};

#[test]
fn a_killed_client_is_no_watcher_any_more_and_releases_those_who_wait() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let victim = Process::watch(broker.dir());
    let mut waiter = Client::watch(broker.dir());
    control.trigger(0);
    let wait = waiter.wait(0, Awaited::Generation);
    assert_eq!(wait.answer, Answer::Pending);
    assert!(waiter.is_quiet());
    assert_eq!(control.stragglers(0).filled()[0].pid, victim.id());

    victim.kill();
    let reply = waiter.reply();
    assert_eq!((reply.answer, reply.sequence), (Answer::Ok, wait.sequence));
    let status = control.status();
    assert_eq!((status.watchers, status.tracked), (0, 0));
}

#[test]
fn what_a_client_scribbles_into_its_slot_is_no_acknowledgement() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
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
fn descriptors_that_a_client_sends_are_refused_or_close_the_connection() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Process::serve(directory.path());
    let open = || {
        std::fs::read_dir(format!("/proc/{}/fd", broker.id()))
            .unwrap()
            .count()
    };
    let mut other = Client::watch(directory.path());
    other.status();
    let before = open();
    for _ in 0..20 {
        let mut client = Client::watch(directory.path());
        let packet = Request::new(Op::Status, 1).encode();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [client.socket.as_fd(), client.socket.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let sent = sendmsg(
            &client.socket,
            &[IoSlice::new(&packet)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        );
        match sent {
            // Linux before 6.16.
            Ok(_) => assert_eq!(client.reason(), Reason::Descriptors),
            Err(error) => {
                assert_eq!(error, Errno::PERM);
                assert_eq!(client.status().answer, Answer::Ok, "without them");
            }
        }
    }
    let end = Instant::now() + PATIENCE;
    while open() > before {
        assert!(Instant::now() < end, "they are kept");
        other.status();
    }
    other.status();
}

/// The client sends as fast as the broker reads and breaks no rule.
#[test]
fn the_owners_trigger_is_answered_while_others_flood_the_broker() {
    const PACKETS: u32 = 80_000;
    let directory = crate::child::open_directory();
    let dir = directory.path();
    let broker = Process::serve(dir);
    let mut control = Client::control(dir);
    let flood = || {
        let mut watcher = Watcher::untracked(dir);
        let mut client = Client::watch(dir);
        for number in 0..PACKETS / 2 {
            // Each asks for a notice at once, of which most do not fit into the queue.
            while watcher.client.try_send(Op::Notify, [u32::MAX, 0]) == Err(Errno::AGAIN) {
                std::thread::yield_now();
            }
            // The reply without a wait: the watch socket lists no stragglers.
            client.send(Op::Stragglers, [0, 0]);
            let Packet::Stragglers(page) = client.receive().0 else {
                panic!("not a page of stragglers");
            };
            assert_eq!(page.answer, Answer::Denied, "{number}");
        }
    };
    let start = (Instant::now(), broker.ticks());
    std::thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            if crate::child::as_user(65_530, flood).is_none() {
                flood();
            }
        });
        let mut longest = Duration::ZERO;
        let mut answered = 0_u32;
        while !flooding.is_finished() {
            let asked = Instant::now();
            answered += 1;
            assert_eq!(control.trigger(0).generation, answered);
            longest = longest.max(asked.elapsed());
            std::thread::sleep(Duration::from_millis(5));
        }
        flooding.join().expect("the flood");
        let ticks = broker.ticks() - start.1;
        let took = start.0.elapsed();
        eprintln!(
            "{answered} triggers during {PACKETS} packets, the longest took {longest:?}; \
             the broker used {ticks} ticks in {took:?}"
        );
        assert!(answered > 10);
    });
}

/// Bytes of any length, requests with any numbers, and whole sequences of valid ones.
fn packets() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let bytes = prop::collection::vec(any::<u8>(), 0..64);
    let request = (1_u16..4, 0_u16..13, any::<u64>(), 0_u32..5, any::<u32>()).prop_map(
        |(version, op, watcher, first, second)| {
            let mut packet = Vec::new();
            packet.extend(version.to_le_bytes());
            packet.extend(op.to_le_bytes());
            packet.extend(0_u32.to_le_bytes());
            packet.extend((watcher % 5).to_le_bytes());
            for word in [first, second] {
                packet.extend(word.to_le_bytes());
            }
            packet
        },
    );
    let valid = (1_u16..11, 0_u32..8).prop_map(|(op, argument)| {
        let op = Op::from_number(op).expect("an operation");
        let arguments = [argument, 0];
        let request = Request {
            arguments,
            ..Request::new(op, 0)
        };
        request.encode().to_vec()
    });
    // Most of what a watcher may ask for ends a connection that is not one, and the other way round.
    let first = prop_oneof![Just(Op::Open), Just(Op::Status)]
        .prop_map(|op| vec![Request::new(op, 0).encode().to_vec()]);
    let rest = prop::collection::vec(prop_oneof![1 => bytes, 2 => request, 8 => valid], 1..40);
    (first, rest).prop_map(|(first, rest)| [first, rest].concat())
}

#[test]
fn garbage_closes_only_the_connection_it_came_on() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let mut witness = Watcher::tracked(broker.dir());
    let run = |packets: Vec<Vec<u8>>, on_control: bool| {
        let bad = match on_control {
            true => Client::control(directory.path()),
            false => Client::watch(directory.path()),
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
