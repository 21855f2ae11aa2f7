// SPDX-License-Identifier: Apache-2.0 OR MIT
//! When a watcher gets a notice.

use sysgenid_broker::spawn;
use sysgenid_sys::wire::Op;

use crate::client::{Client, Stale, Watcher};

#[test]
fn at_most_one_notice_is_unread_however_many_changes_come() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let mut watchers = [
        Watcher::tracked(broker.dir()),
        // Whose slot is looked at when the generation changes, and not before.
        Watcher::untracked(broker.dir()),
    ];
    for round in 1..=3 {
        for _ in 0..100 {
            control.trigger(0);
        }
        let current = round * 100;
        for watcher in &mut watchers {
            let notices = watcher.notices();
            assert_eq!(notices.len(), 1, "{notices:?}");
            assert_eq!(notices[0].generation, current - 99);
            watcher.acknowledge(current).unwrap();
            assert!(!watcher.is_readable());
        }
    }
}

#[test]
fn a_watcher_that_acknowledged_without_reading_a_notice_gets_at_most_two() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let mut watcher = Watcher::tracked(broker.dir());
    control.trigger(0);
    // As a client does that finds the change in the page before the notice has come.
    assert!(!watcher.slot.acknowledge(1), "no client waits");
    assert_eq!(control.status().outdated, 0);
    for generation in 2..50 {
        control.trigger(0);
        if generation % 3 == 0 {
            watcher.acknowledge(generation).unwrap();
            assert!(watcher.is_readable(), "one is left over");
        }
    }
    control.trigger(0);
    assert_eq!(watcher.notices().len(), 2);
    assert_eq!(watcher.acknowledge(50), Ok(()));
    assert!(!watcher.is_readable());
    control.trigger(0);
    assert_eq!(watcher.notices().len(), 1);
}

#[test]
fn a_full_queue_loses_no_change() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let mut watcher = Watcher::tracked(broker.dir());
    // It acknowledges all and reads nothing, so each change sends a notice.
    for generation in 1..=100 {
        control.trigger(0);
        assert!(!watcher.slot.acknowledge(generation));
    }
    assert_eq!(control.status().outdated, 0);
    assert!(watcher.is_readable());
    control.trigger(0);
    assert_eq!(control.status().outdated, 1);
    let notices = watcher.notices();
    assert!((3..100).contains(&notices.len()), "{}", notices.len());

    // Of a change that did not fit in there is nothing left, but it is in the page.
    assert_eq!(watcher.acknowledge(100), Err(Stale));
    watcher.acknowledge(101).unwrap();
    assert_eq!(control.status().outdated, 0);
    control.trigger(0);
    watcher.wait_readable();
    assert_eq!(
        watcher.notices().len(),
        1,
        "the next change sends a notice again"
    );
}

#[test]
fn a_watcher_that_has_seen_the_current_generation_is_notified_of_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let mut watcher = Watcher::tracked(broker.dir());
    control.trigger(0);
    watcher.client.send(Op::Notify, [1, 0]);
    control.status();
    assert!(watcher.is_readable());
    for _ in 0..3 {
        control.trigger(0);
    }
    let generations: Vec<_> = watcher.notices().iter().map(|it| it.generation).collect();
    assert_eq!(generations, [1, 2], "of the next one, and once");
}

#[test]
fn a_watcher_that_has_seen_another_generation_is_notified_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let mut watcher = Watcher::tracked(broker.dir());
    for _ in 0..2 {
        control.trigger(0);
    }
    watcher.client.send(Op::Notify, [1, 0]);
    control.status();
    let generations: Vec<_> = watcher.notices().iter().map(|it| it.generation).collect();
    assert_eq!(generations, [1, 2]);
    control.trigger(0);
    assert!(!watcher.is_readable(), "that was all that it asked for");
    assert_eq!(control.status().outdated, 1);
}
