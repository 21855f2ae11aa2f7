// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is told while a change is handled, after it was dropped, and after it was overtaken.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use sysgenid::{Acknowledged, Deadline, Orchestrator};

use crate::scene::{A_MOMENT, PATIENCE, Scene, handle, is_quiet, next, until_watchers};

#[test]
fn a_change_that_is_being_handled_is_not_told_again() {
    let scene = Scene::new();
    let mut changes = scene.changes();
    scene.trigger();
    let change = next(&mut changes);
    for _ in 0..5 {
        is_quiet(&mut changes);
    }
    change.acknowledge().unwrap();
    is_quiet(&mut changes);
}

#[test]
fn a_change_that_is_dropped_is_told_again_until_it_is_acknowledged() {
    let scene = Scene::new();
    let mut changes = scene.changes();
    let generation = scene.trigger();
    drop(next(&mut changes));
    assert!(changes.try_next().unwrap().is_none(), "not without a pause");
    for _ in 0..2 {
        assert_eq!(next(&mut changes).generation(), generation);
    }
    assert_eq!(scene.watchers(), (1, 1));
    handle(&mut changes, generation);
    is_quiet(&mut changes);
}

/// It sleeps without a deadline then, so only the drop can end that.
#[test]
fn a_change_that_is_dropped_elsewhere_is_told_again_to_who_waits_already() {
    let scene = Scene::new();
    let mut changes = scene.changes();
    let generation = scene.trigger();
    let change = next(&mut changes);
    let (told, heard) = mpsc::channel();
    let waiting = thread::spawn(move || told.send(changes.wait(Deadline::NEVER)));
    assert!(heard.recv_timeout(A_MOMENT).is_err());
    drop(change);
    let again = heard.recv_timeout(PATIENCE).unwrap().unwrap();
    assert_eq!(again.generation(), generation);
    again.acknowledge().unwrap();
    waiting.join().unwrap().unwrap();
}

#[test]
fn a_newer_change_is_told_while_an_older_one_is_handled() {
    let scene = Scene::new();
    let mut changes = scene.changes();
    until_watchers(&scene, &mut changes, (1, 0));
    scene.trigger();
    let mut held = vec![next(&mut changes)];
    for _ in 0..5 {
        is_quiet(&mut changes);
        // While it is waited for, so that it has to wake.
        let change = thread::scope(|scope| {
            let triggering = scope.spawn(|| {
                thread::sleep(A_MOMENT);
                scene.trigger()
            });
            let change = next(&mut changes);
            assert_eq!(change.generation(), triggering.join().unwrap());
            change
        });
        held.push(change);
    }
    let last = held.pop().unwrap();
    for older in held {
        assert_eq!(older.acknowledge().unwrap(), Acknowledged::Overtaken);
    }
    assert_eq!(scene.watchers(), (1, 1), "nothing was acknowledged");
    assert_eq!(last.acknowledge().unwrap(), Acknowledged::Yes);
    assert_eq!(scene.watchers(), (1, 0));
    is_quiet(&mut changes);
}

#[test]
fn a_change_that_was_overtaken_is_followed_by_the_newer_one() {
    let scene = Scene::new();
    let mut changes = scene.changes();
    for _ in 0..5 {
        scene.trigger();
        let change = next(&mut changes);
        let generation = scene.trigger();
        assert_eq!(change.acknowledge().unwrap(), Acknowledged::Overtaken);
        handle(&mut changes, generation);
    }
    is_quiet(&mut changes);
}

#[test]
fn orchestrators_wait_for_the_acknowledgement_of_a_change_in_another_thread() {
    let scene = Scene::new();
    let mut changes = scene.changes();
    until_watchers(&scene, &mut changes, (1, 0));
    let orchestrator = Orchestrator::open_at(scene.path()).unwrap();
    orchestrator.trigger().unwrap();
    orchestrator.acknowledge().unwrap();
    let change = next(&mut changes);
    let waited = orchestrator.wait_for_watchers(A_MOMENT);
    assert!(waited.unwrap_err().is_timeout());
    let handling = thread::spawn(move || change.acknowledge());
    orchestrator.wait_for_watchers(PATIENCE).unwrap();
    assert_eq!(handling.join().unwrap().unwrap(), Acknowledged::Yes);
}

#[test]
fn a_change_outlives_what_told_it() {
    let scene = Scene::new();
    let mut changes = scene.changes();
    until_watchers(&scene, &mut changes, (1, 0));
    scene.trigger();
    let change = next(&mut changes);
    drop(changes);
    assert_eq!(scene.watchers(), (1, 1));
    change.acknowledge().unwrap();
    assert_eq!(scene.watchers().1, 0);
}

#[test]
fn a_waker_ends_one_wait_and_iterators_go_on() {
    let scene = Scene::new();
    let mut changes = scene.changes();
    let waker = changes.waker();
    waker.wake();
    assert!(changes.wait(PATIENCE).unwrap_err().is_interrupted());
    is_quiet(&mut changes);

    let handling = thread::spawn(move || {
        let mut handled = 0;
        for change in changes {
            change.acknowledge().unwrap();
            handled += 1;
        }
        handled
    });
    thread::sleep(Duration::from_millis(20));
    waker.wake();
    until_handled(&scene);
    scene.trigger();
    until_handled(&scene);
    waker.stop();
    assert_eq!(handling.join().unwrap(), 1);
}

/// Until there is a tracked watcher, and it has acknowledged.
fn until_handled(scene: &Scene) {
    let until = Instant::now() + PATIENCE;
    while scene.watchers() != (1, 0) {
        assert!(Instant::now() < until, "{:?}", scene.watchers());
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn what_was_stopped_stays_so() {
    let scene = Scene::new();
    let mut changes = scene.changes();
    changes.waker().stop();
    for _ in 0..2 {
        assert!(changes.wait(PATIENCE).unwrap_err().is_interrupted());
        assert!(changes.try_next().unwrap_err().is_interrupted());
        assert!(changes.next().is_none());
    }
}

#[test]
fn iterating_until_a_deadline_tells_what_comes_before_it() {
    let scene = Scene::new();
    let mut changes = scene.changes();
    let generation = scene.trigger();
    let told: Vec<_> = changes
        .until(A_MOMENT)
        .map(|change| {
            let generation = change.generation();
            change.acknowledge().unwrap();
            generation
        })
        .collect();
    assert_eq!(told, [generation]);
}
