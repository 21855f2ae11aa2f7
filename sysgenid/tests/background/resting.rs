// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a program does when a snapshot is about to be taken. The hooks before it and those after it take
//! turns, whatever happens in between.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sysgenid::hooks::{self, BackgroundEvent};
use sysgenid::{Background, Changes};

use crate::child::assert_in_child;
use crate::scene::{A_MOMENT, LONG, Scene, Stopping, eventually};

const BEFORE: [&str; 2] = ["before two", "before one"];

#[test]
fn it_comes_to_rest_and_goes_on_once_at_the_change() {
    let scene = Scene::new();
    let log = scene.log();
    let background = Stopping(scene.background());
    let orchestrator = scene.orchestrator();
    let quiescing = orchestrator.quiesce().unwrap();
    let parked = quiescing.wait(LONG).unwrap();
    assert_eq!((parked.watchers, parked.others), (1, 0));
    assert_eq!(log.take(), BEFORE);
    // The snapshot is taken, and the machine restored.
    let generation = orchestrator.trigger().unwrap();
    orchestrator.acknowledge().unwrap();
    orchestrator.wait_for_watchers(LONG).unwrap();
    assert_eq!(log.take(), ["after one 1", "after two 1"]);
    quiescing.resume(LONG).unwrap();
    assert_eq!(log.take(), [""; 0], "that was done at the change");
    eventually("all is well", || background.0.last_error().is_none());
    assert_eq!(background.0.generation(), Some(generation));
}

#[test]
fn it_goes_on_once_if_there_was_no_change_and_follows_the_next_snapshot() {
    let scene = Scene::new();
    let log = scene.log();
    let _background = Stopping(scene.background());
    let orchestrator = scene.orchestrator();
    for _ in 0..2 {
        let quiescing = orchestrator.quiesce().unwrap();
        quiescing.wait(LONG).unwrap();
        assert_eq!(log.take(), BEFORE);
        let running = quiescing.resume(LONG).unwrap();
        assert_eq!((running.generation.get(), running.watchers), (0, 1));
        assert_eq!(log.take(), ["after one 0", "after two 0"]);
    }
    let generation = scene.trigger();
    eventually("the change", || log.len() == 2);
    let after = |name| format!("after {name} {generation}");
    assert_eq!(log.take(), [after("one"), after("two")]);
}

#[test]
fn while_a_hook_fails_it_is_waited_for_and_it_is_tried_again() {
    let scene = Scene::new();
    let log = scene.log();
    let (attempts, may) = (
        Arc::new(AtomicU32::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let (count, succeed) = (Arc::clone(&attempts), Arc::clone(&may));
    scene.before_snapshot(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        succeed
            .load(Ordering::SeqCst)
            .then_some(())
            .ok_or("a transaction is open")
    });
    let events = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&events);
    let options = scene.options().report(move |event| {
        noted.lock().unwrap().push(match event {
            BackgroundEvent::Resting { ran } => format!("{} ran", ran.count()),
            BackgroundEvent::NotResting { error } => format!("not: {error}"),
            other => format!("{other:?}"),
        });
    });
    let background = Stopping(options.start().unwrap());
    let orchestrator = scene.orchestrator();
    let quiescing = orchestrator.quiesce().unwrap();
    eventually("another attempt", || attempts.load(Ordering::SeqCst) >= 2);
    let late = quiescing.wait(A_MOMENT).unwrap_err();
    assert!(late.is_timeout(), "{late}");
    let named = quiescing.stragglers().unwrap();
    assert_eq!(named[0].pid, Some(std::process::id()));
    assert!(
        orchestrator.stragglers().unwrap().is_empty(),
        "none of a change"
    );
    let error = background.0.last_error().unwrap().to_string();
    assert!(error.contains("a transaction is open"), "{error}");

    may.store(true, Ordering::SeqCst);
    quiescing.wait(LONG).unwrap();
    eventually("all is well", || background.0.last_error().is_none());
    let before = log.take();
    assert!(before.iter().all(|line| line.starts_with("before")));
    quiescing.resume(LONG).unwrap();
    assert_eq!(log.take(), ["after one 0", "after two 0"], "once for all");
    let events = events.lock().unwrap();
    assert!(
        events[0].starts_with("not: ") && events.contains(&"3 ran".to_owned()),
        "{events:?}"
    );
}

/// A hook that has failed may have taken down what the hooks after a restore set up.
#[test]
fn a_snapshot_that_is_given_up_has_the_hooks_after_it_run_although_one_before_it_failed() {
    let scene = Scene::new();
    let log = scene.log();
    scene.before_snapshot(|_| Err::<(), _>("never"));
    let background = Stopping(scene.background());
    let orchestrator = scene.orchestrator();
    let quiescing = orchestrator.quiesce().unwrap();
    eventually("the failure", || background.0.last_error().is_some());
    assert_eq!(log.take(), BEFORE);
    quiescing.resume(LONG).unwrap();
    assert_eq!(log.take().last().unwrap(), "after two 0");
    eventually("all is well", || background.0.last_error().is_none());
}

#[test]
fn a_hook_that_hangs_holds_up_the_snapshot_and_not_the_going_on() {
    let scene = Scene::new();
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let hook = hooks::options()
        .deadline(A_MOMENT)
        .before_snapshot(move |_| {
            let _ = released.lock().unwrap().recv_timeout(LONG);
        });
    let seen = scene.note();
    let background = Stopping(scene.background());
    let orchestrator = scene.orchestrator();
    let quiescing = orchestrator.quiesce().unwrap();
    assert!(quiescing.wait(4 * A_MOMENT).unwrap_err().is_timeout());
    eventually("the failure", || background.0.last_error().is_some());
    let error = background.0.last_error().unwrap();
    let failures = error.hooks().unwrap().failures();
    assert!(failures[0].is_timeout() || failures[0].is_still_running());
    quiescing.resume(LONG).unwrap();
    assert_eq!(seen.all().len(), 1);
    release.send(()).unwrap();
    hook.unregister();
}

#[test]
fn a_failure_after_it_is_tried_again_and_waited_for() {
    let scene = Scene::new();
    let attempts = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&attempts);
    scene.after_restore(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Err("not yet"),
        _ => Ok(()),
    });
    let _background = Stopping(scene.background());
    let orchestrator = scene.orchestrator();
    let quiescing = orchestrator.quiesce().unwrap();
    quiescing.wait(LONG).unwrap();
    quiescing.resume(LONG).unwrap();
    assert_eq!(attempts.load(Ordering::SeqCst), 2);
}

/// What a flag that is not set yet makes of a hook.
fn unless(may: &AtomicBool, reason: &'static str) -> Result<(), &'static str> {
    may.load(Ordering::SeqCst).then_some(()).ok_or(reason)
}

#[test]
fn a_change_that_is_not_handled_comes_first() {
    let scene = Scene::new();
    let log = scene.log();
    let flags: [Arc<AtomicBool>; 2] = Default::default();
    let [may_rest, may_handle] = flags.clone();
    scene.before_snapshot(move |_| unless(&may_rest, "a transaction is open"));
    scene.after_restore(move |_| unless(&may_handle, "no entropy"));
    let [may_rest, may_handle] = flags;
    let background = Stopping(scene.background());
    let says = |reason| {
        let error = background.0.last_error();
        error.is_some_and(|error| error.to_string().contains(reason))
    };
    let orchestrator = scene.orchestrator();
    let quiescing = orchestrator.quiesce().unwrap();
    eventually("it is asked", || says("a transaction is open"));
    orchestrator.trigger().unwrap();
    orchestrator.acknowledge().unwrap();
    eventually("the failure", || says("no entropy"));
    log.take();
    may_rest.store(true, Ordering::SeqCst);
    // It would have tried again by now.
    assert!(quiescing.wait(10 * A_MOMENT).unwrap_err().is_timeout());
    assert!(!log.take().contains(&"before one".to_owned()));
    may_handle.store(true, Ordering::SeqCst);
    quiescing.wait(LONG).unwrap();
    let order = log.take();
    let last = &order[order.len() - 3..];
    assert_eq!(last, ["after two 1", "before two", "before one"]);
    quiescing.resume(LONG).unwrap();
}

#[test]
fn it_goes_on_when_the_broker_ends_and_follows_the_next_one() {
    let mut scene = Scene::new();
    let log = scene.log();
    let background = Stopping(scene.background());
    let orchestrator = scene.orchestrator();
    let quiescing = orchestrator.quiesce().unwrap();
    quiescing.wait(LONG).unwrap();
    assert_eq!(log.take(), BEFORE);
    scene.stop();
    eventually("it goes on", || log.len() == 2);
    assert_eq!(log.take(), ["after one 0", "after two 0"]);
    scene.start();
    eventually("the return", || background.0.is_watching());
    let lost = quiescing.resume(LONG).unwrap_err();
    assert!(lost.is_lost(), "{lost}");

    let orchestrator = scene.orchestrator();
    let quiescing = orchestrator.quiesce().unwrap();
    quiescing.wait(LONG).unwrap();
    assert_eq!(log.take(), BEFORE);
    quiescing.resume(LONG).unwrap();
    assert_eq!(log.take(), ["after one 0", "after two 0"]);
}

#[test]
fn one_that_is_started_in_the_midst_of_it_comes_to_rest() {
    let scene = Scene::new();
    let log = scene.log();
    let orchestrator = scene.orchestrator();
    let quiescing = orchestrator.quiesce().unwrap();
    assert_eq!(quiescing.wait(LONG).unwrap().watchers, 0);
    let _background = Stopping(scene.background());
    eventually("it is asked", || {
        quiescing.wait(LONG).unwrap().watchers == 1
    });
    assert_eq!(log.take(), BEFORE);
    quiescing.resume(LONG).unwrap();
    assert_eq!(log.take(), ["after one 0", "after two 0"]);
}

#[test]
fn one_that_is_started_after_another_was_stopped_at_rest_goes_on() {
    let scene = Scene::new();
    let log = scene.log();
    let first = scene.background();
    let orchestrator = scene.orchestrator();
    let quiescing = orchestrator.quiesce().unwrap();
    quiescing.wait(LONG).unwrap();
    assert!(first.stop(LONG));
    assert_eq!(log.take(), BEFORE);
    quiescing.resume(LONG).unwrap();
    assert_eq!(log.take(), [""; 0]);
    let _second = Stopping(scene.background());
    eventually("it goes on", || log.len() == 2);
    assert_eq!(log.take(), ["after one 0", "after two 0"]);
}

/// The child is a copy of a process at rest, and has what is closed closed.
#[test]
fn a_child_that_is_forked_at_rest_goes_on_by_itself_and_follows_the_phase() {
    let scene = Scene::new();
    let log = scene.log();
    let _background = Stopping(scene.background());
    let orchestrator = scene.orchestrator();
    let quiescing = orchestrator.quiesce().unwrap();
    quiescing.wait(LONG).unwrap();
    log.take();
    assert_in_child(|| {
        let own = scene.background();
        let orchestrator = scene.orchestrator();
        let joined = orchestrator.quiesce().unwrap();
        eventually("both", || joined.wait(LONG).unwrap().watchers == 2);
        let order = log.take();
        let expected = ["after one 0", "after two 0", BEFORE[0], BEFORE[1]];
        assert_eq!(order, expected);
        joined.leave();
        assert!(own.stop(LONG));
    });
    assert_eq!(log.take(), [""; 0], "the parent stays at rest");
    quiescing.resume(LONG).unwrap();
    assert_eq!(log.take(), ["after one 0", "after two 0"]);
}

#[test]
fn untracked_it_follows_and_holds_nobody_up() {
    let scene = Scene::new();
    let log = scene.log();
    let changes = Changes::options().at(scene.path()).tracked(false);
    let _background = Stopping(Background::options().changes(changes).start().unwrap());
    let orchestrator = scene.orchestrator();
    let quiescing = orchestrator.quiesce().unwrap();
    assert_eq!(quiescing.wait(Duration::ZERO).unwrap().watchers, 0);
    eventually("it rests", || log.len() == 2);
    drop(quiescing);
    eventually("it goes on", || log.len() == 4);
}
