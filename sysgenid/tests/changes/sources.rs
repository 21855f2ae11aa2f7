// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sources that are not there, come late, go and are replaced.

use std::fs;
use std::time::Duration;

use sysgenid::{Cause, PageFile};

use crate::scene::{PATIENCE, Scene, handle, is_quiet, next, options_at, until_watchers};

#[test]
fn without_a_source_nothing_is_told() {
    let scene = Scene::empty();
    let mut changes = scene.changes_by_looking();
    assert!(changes.try_next().unwrap().is_none());
    is_quiet(&mut changes);
    assert_eq!(changes.sources().count(), 0);
}

#[test]
fn what_comes_before_the_first_look_is_told() {
    let scene = Scene::new();
    let mut changes = scene.changes();
    let generation = scene.trigger();
    let change = changes.try_next().unwrap().expect("a change");
    assert_eq!(change.generation(), generation);
    assert_eq!(change.source(), Some(&scene.source()));
    change.acknowledge().unwrap();
    is_quiet(&mut changes);
    until_watchers(&scene, &mut changes, (1, 0));
}

#[test]
fn what_was_before_it_was_opened_is_not_told() {
    let scene = Scene::new();
    scene.trigger();
    is_quiet(&mut scene.changes());
}

#[test]
fn each_change_is_told_with_its_cause() {
    let scene = Scene::new();
    let mut changes = scene.changes();
    until_watchers(&scene, &mut changes, (1, 0));
    for _ in 0..3 {
        let generation = scene.trigger();
        let change = next(&mut changes);
        assert_eq!(change.generation(), generation);
        assert_eq!(change.cause(), Some(Cause::Trigger));
        assert_eq!(scene.watchers(), (1, 1));
        change.acknowledge().unwrap();
        assert_eq!(scene.watchers(), (1, 0));
    }
    is_quiet(&mut changes);
}

#[test]
fn an_untracked_one_holds_nobody_up() {
    let scene = Scene::new();
    let mut changes = scene.options().tracked(false).open();
    let generation = scene.trigger();
    assert_eq!(next(&mut changes).generation(), generation);
    let total = || {
        scene
            .source()
            .status(PATIENCE)
            .unwrap()
            .watchers
            .unwrap()
            .total
    };
    while total() == 0 {
        let _ = changes.wait(Duration::from_millis(2));
    }
    assert_eq!(scene.watchers(), (0, 0));
}

#[test]
fn a_source_that_appears_counts_as_a_change() {
    let mut scene = Scene::empty();
    let mut changes = scene.changes_by_looking();
    is_quiet(&mut changes);
    scene.start();
    let change = next(&mut changes);
    assert_eq!(change.cause(), None);
    change.acknowledge().unwrap();
    assert_eq!(changes.sources().count(), 1);
    is_quiet(&mut changes);
    until_watchers(&scene, &mut changes, (1, 0));
    let generation = scene.trigger();
    handle(&mut changes, generation);
    assert_eq!(scene.watchers(), (1, 0));
}

/// An orchestrator that comes as early waits for what the program has not handled.
#[test]
fn who_has_not_handled_the_appearance_is_outdated() {
    let mut scene = Scene::empty();
    let mut changes = scene.changes_by_looking();
    scene.start();
    let change = next(&mut changes);
    until_watchers(&scene, &mut changes, (1, 1));
    change.acknowledge().unwrap();
    until_watchers(&scene, &mut changes, (1, 0));
}

#[test]
fn a_broker_that_is_started_again_is_found() {
    let mut scene = Scene::new();
    let mut changes = scene.changes();
    let generation = scene.trigger();
    handle(&mut changes, generation);
    for _ in 0..3 {
        until_watchers(&scene, &mut changes, (1, 0));
        scene.stop();
        is_quiet(&mut changes);
        scene.start();
        // Nothing has changed.
        until_watchers(&scene, &mut changes, (1, 0));
        is_quiet(&mut changes);
        let generation = scene.trigger();
        handle(&mut changes, generation);
    }
}

#[test]
fn a_change_that_came_while_the_broker_was_lost_is_told() {
    let mut scene = Scene::new();
    let mut changes = scene.changes();
    until_watchers(&scene, &mut changes, (1, 0));
    scene.stop();
    scene.start();
    let generation = scene.trigger();
    handle(&mut changes, generation);
    until_watchers(&scene, &mut changes, (1, 0));
}

#[test]
fn what_is_handled_while_the_broker_is_lost_is_not_told_again() {
    let mut scene = Scene::new();
    let mut changes = scene.changes();
    until_watchers(&scene, &mut changes, (1, 0));
    scene.trigger();
    let change = next(&mut changes);
    scene.stop();
    change.acknowledge().unwrap();
    is_quiet(&mut changes);
    scene.start();
    until_watchers(&scene, &mut changes, (1, 0));
    is_quiet(&mut changes);
}

#[test]
fn what_is_handled_across_a_restart_is_acknowledged_to_the_new_broker() {
    let mut scene = Scene::new();
    let mut changes = scene.changes();
    until_watchers(&scene, &mut changes, (1, 0));
    scene.trigger();
    let change = next(&mut changes);
    scene.stop();
    scene.start();
    until_watchers(&scene, &mut changes, (1, 1));
    change.acknowledge().unwrap();
    until_watchers(&scene, &mut changes, (1, 0));
    is_quiet(&mut changes);
}

#[test]
fn a_broker_in_the_place_of_another_counts_as_a_change() {
    let mut scene = Scene::new();
    let mut changes = scene.changes();
    until_watchers(&scene, &mut changes, (1, 0));
    // It has the same number.
    scene.replace();
    next(&mut changes).acknowledge().unwrap();
    until_watchers(&scene, &mut changes, (1, 0));
    is_quiet(&mut changes);
    let generation = scene.trigger();
    handle(&mut changes, generation);
}

#[test]
fn a_broker_without_its_socket_leaves_a_page_to_look_at() {
    let scene = Scene::new();
    fs::remove_file(scene.path().join("watch.sock")).unwrap();
    let mut changes = scene.changes_by_looking();
    let control = scene.source();
    let generation = control.trigger(PATIENCE).unwrap();
    handle(&mut changes, generation);
    let generation = control.trigger(PATIENCE).unwrap();
    handle(&mut changes, generation);
    is_quiet(&mut changes);
}

#[test]
fn a_page_is_looked_at_from_time_to_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page");
    let mut page = PageFile::open(&path).unwrap();
    let mut changes = options_at(&path).open();
    for _ in 0..3 {
        is_quiet(&mut changes);
        let generation = page.change().unwrap();
        handle(&mut changes, generation);
    }
}

#[test]
fn a_page_that_is_replaced_or_gone_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page");
    let _page = PageFile::open(&path).unwrap();
    let mut changes = options_at(&path).open();
    is_quiet(&mut changes);

    let new = folder.path().join("new");
    let mut page = PageFile::open(&new).unwrap();
    fs::rename(&new, &path).unwrap();
    next(&mut changes).acknowledge().unwrap();
    let generation = page.change().unwrap();
    handle(&mut changes, generation);

    fs::remove_file(&path).unwrap();
    while changes.sources().count() > 0 {
        let _ = changes.wait(Duration::from_millis(2)).unwrap_err();
    }
    let _page = PageFile::open(&path).unwrap();
    next(&mut changes).acknowledge().unwrap();
    is_quiet(&mut changes);
}
