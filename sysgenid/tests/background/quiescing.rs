// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What an orchestrator knows of the programs that it asks to come to rest.

use std::time::Duration;

use sysgenid::{Orchestrator, PageFile, Watcher};

use crate::scene::{A_MOMENT, LONG, Scene, Stopping, eventually};

#[test]
fn programs_that_are_not_asked_are_counted_and_no_success_is_reported_for_none() {
    let scene = Scene::new();
    let _service = Watcher::open_at(scene.path()).unwrap();
    let options = Orchestrator::options().require_watchers(1);
    let orchestrator = options.open_at(scene.path()).unwrap();
    let quiescing = orchestrator.quiesce().unwrap();
    let missing = quiescing.wait(A_MOMENT).unwrap_err();
    assert!(missing.is_missing(), "{missing}");
    assert!(quiescing.stragglers().unwrap().is_empty());
    let _background = Stopping(scene.background());
    let parked = quiescing.wait(LONG).unwrap();
    assert_eq!((parked.watchers, parked.others), (1, 1));
    quiescing.resume(LONG).unwrap();
}

#[test]
fn what_is_dropped_is_ended_and_what_is_left_is_not() {
    let scene = Scene::new();
    let seen = scene.note();
    let _background = Stopping(scene.background());
    let orchestrator = scene.orchestrator();
    let quiescing = orchestrator.quiesce().unwrap();
    quiescing.wait(LONG).unwrap();
    drop(quiescing);
    eventually("it goes on", || seen.all().len() == 1);

    let quiescing = orchestrator.quiesce().unwrap();
    quiescing.wait(LONG).unwrap();
    quiescing.leave();
    std::thread::sleep(A_MOMENT);
    assert_eq!(seen.all().len(), 1, "it rests");
    scene.orchestrator().resume(LONG).unwrap();
    assert_eq!(seen.all().len(), 2);
    scene.orchestrator().resume(LONG).unwrap();
    assert_eq!(seen.all().len(), 2, "there was nothing to do");
}

#[test]
fn a_phase_that_another_one_has_ended_is_no_success() {
    let scene = Scene::new();
    let _background = Stopping(scene.background());
    let (first, second) = (scene.orchestrator(), scene.orchestrator());
    let own = first.quiesce().unwrap();
    own.wait(LONG).unwrap();
    second.resume(LONG).unwrap();
    let ended = own.wait(LONG).unwrap_err();
    assert!(ended.is_stale(), "{ended}");
    // It looks as before again, and is not.
    let another = second.quiesce().unwrap();
    another.wait(LONG).unwrap();
    let ended = own.wait(LONG).unwrap_err();
    assert!(ended.is_stale(), "{ended}");
    let ended = own.resume(LONG).unwrap_err();
    assert!(ended.is_stale(), "{ended}");
    let ended = another.resume(LONG).unwrap_err();
    assert!(ended.is_stale(), "{ended}");
}

#[test]
fn a_change_in_the_midst_of_it_is_no_success() {
    let scene = Scene::new();
    let _background = Stopping(scene.background());
    let orchestrator = scene.orchestrator();
    let quiescing = orchestrator.quiesce().unwrap();
    scene.trigger();
    let outdated = quiescing.wait(LONG).unwrap_err();
    assert!(outdated.is_outdated(), "{outdated}");
}

#[test]
fn a_broker_that_ends_in_the_midst_of_it_is_lost() {
    let mut scene = Scene::new();
    scene.before_snapshot(|_| Err::<(), _>("never"));
    let _background = Stopping(scene.background());
    let orchestrator = scene.orchestrator();
    let quiescing = orchestrator.quiesce().unwrap();
    std::thread::scope(|threads| {
        let waiting = threads.spawn(|| quiescing.wait(LONG).unwrap_err());
        std::thread::sleep(A_MOMENT);
        scene.stop();
        let lost = waiting.join().unwrap();
        assert!(lost.is_lost(), "{lost}");
    });
    // Another one does not take the phase of the first one for its own.
    scene.start();
    let lost = quiescing.wait(LONG).unwrap_err();
    assert!(lost.is_lost(), "{lost}");
    drop(quiescing);
    assert!(orchestrator.quiesce().unwrap_err().is_lost());
}

#[test]
fn a_source_without_phases_and_a_forked_child_are_refused() {
    let scene = Scene::new();
    let orchestrator = scene.orchestrator();
    let quiescing = orchestrator.quiesce().unwrap();
    crate::child::assert_in_child(|| {
        assert!(orchestrator.quiesce().unwrap_err().is_forked());
        assert!(orchestrator.resume(Duration::ZERO).unwrap_err().is_forked());
        assert!(quiescing.wait(Duration::ZERO).unwrap_err().is_forked());
    });
    quiescing.wait(LONG).unwrap();
    quiescing.resume(LONG).unwrap();
    let page = scene.path().with_file_name("counter");
    PageFile::open(&page).unwrap();
    assert!(Orchestrator::open_at(page).unwrap_err().is_unsupported());
}
