// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Watchers in mio's event loop, over a broker. What each source must do is in the conformance suite.
#![cfg(all(target_os = "linux", feature = "mio"))]
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::thread;
use std::time::Duration;

use mio::event::Source;
use mio::{Events, Interest, Poll, Token};
use sysgenid::{Generation, Orchestrator, Watcher};

const PATIENCE: Duration = Duration::from_secs(20);
/// What must not come is waited for this long.
const NOTHING: Duration = Duration::from_millis(20);

/// All in one loop. The second change of each pair falls among the acknowledgements of the first; the
/// next pair is not made before everybody has acknowledged.
#[test]
fn many_watchers_in_one_loop_are_all_told_of_every_pair_of_changes() {
    const WATCHERS: u64 = 64;
    const PAIRS: u64 = 1_000;

    let folder = tempfile::tempdir().unwrap();
    let _broker = sysgenid_broker::spawn(folder.path()).unwrap();
    let mut watchers: Vec<_> = (0..WATCHERS)
        .map(|_| Watcher::open_at(folder.path()).unwrap())
        .collect();
    let mut poll = Poll::new().unwrap();
    for (watcher, number) in watchers.iter_mut().zip(0..) {
        let registry = poll.registry();
        registry
            .register(watcher, Token(number), Interest::READABLE)
            .unwrap();
    }
    let (mut told, mut acknowledged) = (0_u64, 0_u64);
    thread::scope(|scope| {
        let changes = scope.spawn(|| {
            let orchestrator = Orchestrator::open_at(folder.path()).unwrap();
            for pair in 0..PAIRS {
                orchestrator.trigger().unwrap();
                (0..pair * pair % 997 * 40).for_each(|_| std::hint::spin_loop());
                orchestrator.trigger().unwrap();
                let settled =
                    orchestrator.settle(PATIENCE, |_| Ok::<_, std::convert::Infallible>(()));
                assert!(settled.is_ok(), "pair {pair}: {settled:?}");
            }
        });
        let mut events = Events::with_capacity(16);
        while !changes.is_finished() {
            poll.poll(&mut events, Some(NOTHING)).unwrap();
            for event in &events {
                told += 1;
                let watcher = watchers.get(event.token().0).unwrap();
                while let Some(generation) = watcher.try_changed().unwrap() {
                    match watcher.acknowledge(generation) {
                        Ok(()) => acknowledged += 1,
                        Err(error) => assert!(error.is_stale(), "{error}"),
                    }
                }
            }
        }
    });
    println!("{PAIRS} pairs, {told} events, {acknowledged} acknowledgements, none lost");
    assert!(acknowledged > PAIRS * WATCHERS, "no pair was seen as two");
    assert!(
        acknowledged <= 2 * PAIRS * WATCHERS,
        "one was handled twice"
    );
}

/// The descriptor goes, and the registration with it.
#[test]
fn a_watcher_that_is_dropped_is_told_of_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let _broker = sysgenid_broker::spawn(folder.path()).unwrap();
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    let [mut dropped, mut kept] = [(); 2].map(|()| Watcher::open_at(folder.path()).unwrap());
    for (watcher, number) in [(&mut dropped, 1), (&mut kept, 2)] {
        let registry = poll.registry();
        registry
            .register(watcher, Token(number), Interest::READABLE)
            .unwrap();
    }
    drop(dropped);
    let orchestrator = Orchestrator::open_at(folder.path()).unwrap();
    orchestrator.trigger().unwrap();
    poll.poll(&mut events, Some(PATIENCE)).unwrap();
    let told: Vec<_> = events.iter().map(|event| event.token().0).collect();
    assert_eq!(told, [2]);
    poll.poll(&mut events, Some(NOTHING)).unwrap();
    assert!(events.is_empty(), "{events:?}");
}

/// The errors are those of `epoll_ctl`, and nothing is changed by them.
#[test]
fn registering_twice_and_deregistering_what_is_not_registered_fail() {
    let folder = tempfile::tempdir().unwrap();
    let _broker = sysgenid_broker::spawn(folder.path()).unwrap();
    let poll = Poll::new().unwrap();
    let registry = poll.registry();
    // Also behind a trait, as an event loop keeps its sources.
    let mut watcher: Box<dyn Source> = Box::new(Watcher::open_at(folder.path()).unwrap());
    let errno = |result: std::io::Result<()>| result.unwrap_err().raw_os_error();
    let not_registered = Some(rustix::io::Errno::NOENT.raw_os_error());
    let interest = Interest::READABLE;
    assert_eq!(errno(watcher.deregister(registry)), not_registered);
    assert_eq!(
        errno(watcher.reregister(registry, Token(0), interest)),
        not_registered
    );
    watcher.register(registry, Token(0), interest).unwrap();
    let registered = Some(rustix::io::Errno::EXIST.raw_os_error());
    assert_eq!(
        errno(watcher.register(registry, Token(1), interest)),
        registered
    );
    watcher.deregister(registry).unwrap();
    assert_eq!(errno(watcher.deregister(registry)), not_registered);
}

/// Two loops, of which each is told.
#[test]
fn a_watcher_can_be_in_two_loops() {
    let folder = tempfile::tempdir().unwrap();
    let _broker = sysgenid_broker::spawn(folder.path()).unwrap();
    let mut watcher = Watcher::open_at(folder.path()).unwrap();
    let mut loops = [(); 2].map(|()| Poll::new().unwrap());
    for poll in &loops {
        let registry = poll.registry();
        registry
            .register(&mut watcher, Token(0), Interest::READABLE)
            .unwrap();
    }
    let orchestrator = Orchestrator::open_at(folder.path()).unwrap();
    for change in 1..=3 {
        orchestrator.trigger().unwrap();
        for poll in &mut loops {
            let mut events = Events::with_capacity(8);
            poll.poll(&mut events, Some(PATIENCE)).unwrap();
            assert!(!events.is_empty(), "change {change}");
        }
        watcher.acknowledge(Generation::new(change)).unwrap();
    }
}
