// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Changes that are waited for in a world.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use sysgenid::testing::Restores;
use sysgenid::{Changes, Deadline, uniqueness};

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whose page is looked at too rarely for a test: only what it is told of counts.
fn changes() -> Changes {
    Changes::options().look_every(2 * PATIENCE).open()
}

#[test]
fn each_restore_is_told_of_and_acknowledged() {
    let restores = Restores::new();
    let mut changes = restores.run(changes);
    assert!(changes.try_next().unwrap().is_none());
    for number in 1..10 {
        restores.restore();
        let change = changes.wait(PATIENCE).unwrap();
        assert_eq!(change.generation().get(), number);
        assert_eq!(change.generation(), restores.generation());
        change.acknowledge().unwrap();
        assert!(changes.try_next().unwrap().is_none());
    }
    restores.fork();
    assert!(changes.try_next().unwrap().is_none(), "a fork is none");
}

/// Whoever is woken sees that nothing is unique any more.
#[test]
fn a_thread_that_waits_is_woken_by_its_worlds_restores_only() {
    let (own, other) = (Restores::new(), Restores::new());
    let (tell, told) = mpsc::channel();
    let (ready, is_ready) = mpsc::channel();
    let world = own.clone();
    let waiting = thread::spawn(own.in_scope(move || {
        let mut before = uniqueness();
        let mut changes = changes();
        let waker = changes.waker();
        ready.send(waker).unwrap();
        while let Ok(change) = changes.wait(Deadline::NEVER) {
            let now = uniqueness();
            assert_ne!(now, before);
            before = now;
            assert_eq!(change.generation(), world.generation());
            tell.send(change.generation()).unwrap();
            change.acknowledge().unwrap();
        }
    }));
    let waker = is_ready.recv().unwrap();
    for number in 1..50 {
        other.restore();
        own.restore();
        assert_eq!(told.recv_timeout(PATIENCE).unwrap().get(), number);
    }
    waker.stop();
    waiting.join().unwrap();
    assert_eq!(told.try_iter().count(), 0, "of the other world's");
}

#[test]
fn what_was_opened_in_a_world_stays_there() {
    let restores = Restores::new();
    let mut changes = restores.run(|| {
        let period = Duration::from_millis(1);
        Changes::options().look_every(period).open()
    });
    let sources: Vec<_> = changes.sources().cloned().collect();
    thread::spawn(move || {
        // It looks for sources again meanwhile, and those of the machine are none of its own.
        let error = changes.wait(Duration::from_millis(50)).unwrap_err();
        assert!(error.is_timeout());
        assert!(changes.sources().eq(&sources));
        restores.restore();
        changes.wait(PATIENCE).unwrap().acknowledge().unwrap();
    })
    .join()
    .unwrap();
}

#[test]
fn a_source_that_appears_is_a_change() {
    let restores = Restores::without_source();
    let mut changes = restores.run(|| {
        let period = Duration::from_millis(1);
        Changes::options().look_every(period).open()
    });
    assert_eq!(changes.sources().count(), 0);
    restores.restore();
    assert!(changes.try_next().unwrap().is_none());
    restores.appear();
    let change = changes.wait(PATIENCE).unwrap();
    assert_eq!(change.generation(), restores.generation());
    change.acknowledge().unwrap();
}

#[test]
fn any_generation_may_follow() {
    let restores = Restores::new();
    restores.restore_to(u32::MAX);
    let mut changes = restores.run(changes);
    assert!(changes.try_next().unwrap().is_none());
    for (number, change) in [(7, true), (7, false), (0, true), (u32::MAX, true)] {
        restores.restore_to(number);
        let told = changes.try_next().unwrap();
        assert_eq!(told.is_some(), change);
        if let Some(told) = told {
            assert_eq!(told.generation().get(), u64::from(number));
            told.acknowledge().unwrap();
        }
    }
    restores.restore_to(u32::MAX - 1);
    changes.wait(PATIENCE).unwrap().acknowledge().unwrap();
    for number in [u32::MAX, 0] {
        restores.restore();
        let change = changes.wait(PATIENCE).unwrap();
        assert_eq!(change.generation().get(), u64::from(number));
        change.acknowledge().unwrap();
    }
}
