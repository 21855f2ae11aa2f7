// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One user cannot use up what the others need.

use std::time::{Duration, Instant};

use sysgenid_sys::wire::{OPEN_RESUME, OPEN_TRACKED, Op, Reason};

use crate::child::{Process, as_user, open_directory};
use crate::client::{Client, Packet, Watcher};

const FIRST: u32 = 65_531;
const SECOND: u32 = 65_532;

#[test]
fn a_users_connections_leave_room_for_the_owner_and_for_another_user() {
    let directory = open_directory();
    let dir = directory.path();
    let broker = Process::serve_with_files(dir, 256);
    let connections = as_user(FIRST, || {
        let mut taken = Vec::new();
        loop {
            let client = Client::watch(dir);
            match client.into_watcher(OPEN_TRACKED, 0) {
                Ok(watcher) => taken.push(watcher),
                Err(Packet::Refusal(refusal)) => break (taken, refusal),
                Err(other) => panic!("{other:?}"),
            }
        }
    });
    let Some((taken, refusal)) = connections else {
        return;
    };
    assert_eq!(refusal.reason, Reason::UserLimit);
    assert_eq!(refusal.limit, taken.len() as u64);
    assert_eq!(refusal.limit, broker.capacity() / 2);

    let mut control = Client::control(dir);
    assert_eq!(control.trigger(0).outdated as usize, taken.len());
    let straggler = control.stragglers(0).entries[0];
    assert_eq!(straggler.uid, FIRST);
    let own = Watcher::tracked(dir);
    let other = as_user(SECOND, || {
        Client::watch(dir).into_watcher(OPEN_TRACKED, 0).is_ok()
    });
    assert_eq!(other, Some(true));
    let again = as_user(FIRST, || Client::watch(dir).reason());
    assert_eq!(again, Some(Reason::UserLimit));
    drop((taken, own));
    control.status();
    let later = as_user(FIRST, || Client::watch(dir).status().watchers);
    assert_eq!(later, Some(0));
}

#[test]
fn a_users_questions_are_limited_as_its_watchers_are() {
    let directory = open_directory();
    let dir = directory.path();
    let broker = Process::serve_with_files(dir, 128);
    let half = broker.capacity() / 2;
    let clients = as_user(FIRST, || {
        let clients: Vec<_> = (0..half).map(|_| Client::watch(dir)).collect();
        assert_eq!(Client::watch(dir).reason(), Reason::UserLimit);
        clients
    });
    if let Some(clients) = clients {
        assert_eq!(Client::control(dir).trigger(0).generation, 1);
        assert_eq!(clients.len() as u64, half);
    }
}

/// The kernel counts them as the broker's until they are read, also when the connection has ended.
#[test]
fn descriptors_that_were_not_read_before_the_broker_closed_count_on() {
    let directory = open_directory();
    let dir = directory.path();
    let _broker = Process::serve_with_files(dir, 256);
    let opened = as_user(FIRST, || {
        let open = || {
            let mut client = Client::watch(dir);
            client.send(Op::Open, [OPEN_TRACKED, 0]);
            assert!(!client.is_quiet(), "the reply has come");
            client
        };
        let opened: Vec<_> = (0..8)
            .map(|_| {
                let client = open();
                // For which the broker closes the connection.
                client.send_bytes(&[0]).unwrap();
                client
            })
            .collect();
        let mut refused = Client::watch(dir);
        refused.send(Op::Open, [OPEN_TRACKED, 0]);
        assert_eq!(refused.reason(), Reason::Unread);
        opened
    });
    let Some(opened) = opened else { return };
    let open = || Client::watch(dir).into_watcher(OPEN_TRACKED, 0).is_ok();
    assert_eq!(as_user(SECOND, open), Some(true));
    drop(opened);
    assert_eq!(as_user(FIRST, open), Some(true), "nobody has them any more");
}

#[test]
fn descriptors_that_a_user_does_not_read_are_limited_and_stop_no_others() {
    let directory = open_directory();
    let dir = directory.path();
    let _broker = Process::serve_with_files(dir, 256);
    let opened = as_user(FIRST, || {
        let opened: Vec<_> = (0..8)
            .map(|_| {
                let mut client = Client::watch(dir);
                client.send(Op::Open, [OPEN_TRACKED, 0]);
                assert!(!client.is_quiet(), "the reply has come");
                client
            })
            .collect();
        let mut refused = Client::watch(dir);
        refused.send(Op::Open, [OPEN_TRACKED, 0]);
        let refusal = refused.refusal();
        assert_eq!((refusal.reason, refusal.limit), (Reason::Unread, 8));
        opened
    });
    let Some(opened) = opened else { return };
    let open = || Client::watch(dir).into_watcher(OPEN_TRACKED, 0).is_ok();
    assert_eq!(as_user(SECOND, open), Some(true));
    assert!(open(), "nor the owner");
    assert_eq!(Client::control(dir).trigger(0).generation, 1);

    let still = as_user(FIRST, || {
        let mut refused = Client::watch(dir);
        refused.send(Op::Open, [OPEN_TRACKED, 0]);
        refused.reason()
    });
    assert_eq!(still, Some(Reason::Unread), "a notice changes nothing");
    let (packet, descriptors) = opened[3].receive();
    assert!(matches!(packet, Packet::Reply(_)), "{packet:?}");
    assert_eq!(descriptors.len(), 2);
    opened[3].receive();
    assert_eq!(as_user(FIRST, open), Some(true));
}

/// They are the watchers that a broker finds after its restart.
#[test]
fn watchers_that_have_yet_to_acknowledge_do_not_stop_others_of_their_user() {
    let directory = open_directory();
    let dir = directory.path();
    let _broker = Process::serve_with_files(dir, 256);
    let opened = as_user(FIRST, || {
        let open = |_| Watcher::open(dir, OPEN_TRACKED | OPEN_RESUME, 9);
        (0..20).map(open).collect::<Vec<_>>()
    });
    let Some(opened) = opened else { return };
    opened.iter().for_each(Watcher::wait_readable);

    let opened = as_user(SECOND, || {
        let watchers: Vec<_> = (0..8).map(|_| Watcher::tracked(dir)).collect();
        Client::watch(dir).status();
        watchers
    });
    let opened = opened.unwrap();
    Client::control(dir).trigger(0);
    opened.iter().for_each(Watcher::wait_readable);
    let next = as_user(SECOND, || Watcher::tracked(dir).number());
    assert!(next.is_some());
}

/// The broker answers a user's questions in a tenth of its time. A client that has asked again does
/// not make it spin meanwhile.
#[test]
fn questions_that_wait_for_their_turn_take_no_time() {
    const TIME: Duration = Duration::from_secs(1);
    let directory = open_directory();
    let dir = directory.path();
    let broker = Process::serve(dir);
    crate::child::raise_files_to(0);
    // Each answer looks at all of them.
    let open = |_| Watcher::open(dir, OPEN_TRACKED | OPEN_RESUME, 9).client;
    let _stragglers: Vec<_> = (0..2000).map(open).collect();
    let before = broker.ticks();
    let answered = as_user(FIRST, || {
        let mut client = Client::watch(dir);
        let start = Instant::now();
        let mut answered = 0;
        while start.elapsed() < TIME {
            for _ in 0..5 {
                client.send(Op::Status, [0, 0]);
            }
            for _ in 0..5 {
                client.reply();
                answered += 1;
            }
        }
        answered
    });
    let Some(answered) = answered else { return };
    let ticks = broker.ticks() - before;
    eprintln!("{answered} answers took {ticks} ticks in {TIME:?}");
    assert!(ticks < 40, "{ticks} of about a hundred");
}
