// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Many who are waited for: one at a time is asked to tell, and the wait ends with the last.

use std::sync::mpsc;

use sysgenid_broker::spawn;
use sysgenid_sys::wire::{Answer, Awaited, Op};

use crate::client::{Client, Watcher};

/// A waiter who waits at generation 1 for so many.
fn waited_for(dir: &std::path::Path, count: usize) -> (Client, Client, Vec<Watcher>) {
    let mut control = Client::control(dir);
    let slow = (0..count).map(|_| Watcher::tracked(dir)).collect();
    let mut waiter = Client::watch(dir);
    control.trigger(0);
    let wait = waiter.wait(0, Awaited::Generation);
    assert_eq!(wait.answer, Answer::Pending);
    (control, waiter, slow)
}

/// Leaves the acknowledgement. Whether it is to be told as well.
fn is_asked(watcher: &Watcher) -> bool {
    watcher.slot.acknowledge(1)
}

fn tell(watcher: &mut Watcher) {
    watcher.client.send(Op::Acknowledge, [1, 0]);
}

#[test]
fn of_many_one_is_asked_to_tell_and_that_ends_the_wait() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let (_control, waiter, mut slow) = waited_for(broker.dir(), 100);
    let asked: Vec<_> = (0..slow.len()).filter(|&i| is_asked(&slow[i])).collect();
    assert_eq!(asked, [99]);
    assert!(waiter.is_quiet());
    tell(&mut slow[99]);
    assert_eq!(waiter.reply().answer, Answer::Ok);
}

#[test]
fn when_the_one_that_was_asked_is_no_straggler_any_more_another_is_asked() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let (mut control, waiter, mut slow) = waited_for(broker.dir(), 4);

    assert!(is_asked(&slow[3]), "it acknowledges");
    tell(&mut slow[3]);
    control.status();

    slow[2].client.send(Op::SetTracking, [0, 0]);
    control.status();

    // It is closed.
    slow.truncate(2);
    slow.remove(1);
    control.status();

    assert!(is_asked(&slow[0]));
    tell(&mut slow[0]);
    assert_eq!(waiter.reply().answer, Answer::Ok);
}

#[test]
fn one_that_becomes_a_straggler_meanwhile_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let (_control, waiter, mut slow) = waited_for(broker.dir(), 1);
    let mut late = Watcher::resumed(broker.dir(), 0);
    if is_asked(&slow[0]) {
        tell(&mut slow[0]);
    }
    assert!(waiter.is_quiet());
    late.acknowledge(1).unwrap();
    assert_eq!(waiter.reply().answer, Answer::Ok);
}

#[test]
fn a_straggler_that_was_asked_is_left_alone_when_no_client_waits() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let (mut control, waiter, mut slow) = waited_for(broker.dir(), 2);
    drop(waiter);
    control.status();
    assert!(is_asked(&slow[1]), "it may have been asked before");
    tell(&mut slow[1]);
    control.status();
    assert!(!is_asked(&slow[0]));
}

/// Whichever order they acknowledge in, and whoever is closed instead: no wait is forgotten.
#[test]
fn every_wait_ends_whatever_the_order() {
    const WATCHERS: usize = 24;
    const THREADS: usize = 4;
    const ROUNDS: u32 = 5_000;
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let dir = broker.dir();
    let mut control = Client::control(dir);
    let mut own = Watcher::untracked(dir);
    let mut waiter = Client::watch(dir);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (send, receive) = mpsc::channel::<u32>();
                scope.spawn(move || {
                    let open = || Watcher::tracked(dir);
                    let mut watchers: Vec<_> = (0..WATCHERS / THREADS).map(|_| open()).collect();
                    for generation in receive {
                        // Another order, and another that is closed, in each round and thread.
                        let turn = generation as usize * (thread + 1);
                        watchers.rotate_left(turn % (WATCHERS / THREADS));
                        if turn % 2 == 0 {
                            watchers.reverse();
                        }
                        if turn % 5 == 0 {
                            drop(watchers.pop());
                            watchers.push(open());
                        }
                        for watcher in &mut watchers {
                            // Stale for one that was opened after the next change.
                            let _ = watcher.acknowledge(generation);
                        }
                    }
                });
                send
            })
            .collect();
        for _ in 0..ROUNDS {
            let generation = control.trigger(0).generation;
            for thread in &threads {
                thread.send(generation).unwrap();
            }
            own.acknowledge(generation).unwrap();
            let mut answer = waiter.wait(own.number(), Awaited::Generation).answer;
            if answer == Answer::Pending {
                answer = waiter.reply().answer;
            }
            assert_eq!(answer, Answer::Ok);
        }
    });
}
