// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Real forks. The broker is on a thread of the parent.

use sysgenid::{Acknowledged, PageFile};

use crate::child::assert_in_child;
use crate::scene::{Scene, handle, is_quiet, next, options_at, until_watchers};

#[test]
fn a_child_is_told_of_what_the_parent_had_not_handled() {
    let scene = Scene::new();
    let mut changes = scene.changes();
    until_watchers(&scene, &mut changes, (1, 0));
    let generation = scene.trigger();
    let change = next(&mut changes);
    assert_in_child(|| {
        handle(&mut changes, generation);
        // The parent's is outdated still.
        until_watchers(&scene, &mut changes, (2, 1));
    });
    change.acknowledge().unwrap();
    is_quiet(&mut changes);
    assert_eq!(scene.watchers().1, 0);
}

#[test]
fn a_child_is_told_of_what_has_changed_since_the_fork_and_no_more() {
    let scene = Scene::new();
    let mut changes = scene.changes();
    let generation = scene.trigger();
    handle(&mut changes, generation);
    until_watchers(&scene, &mut changes, (1, 0));
    assert_in_child(|| {
        is_quiet(&mut changes);
        until_watchers(&scene, &mut changes, (2, 0));
        let generation = scene.trigger();
        handle(&mut changes, generation);
        assert_eq!(scene.watchers(), (2, 1));
    });
    let change = next(&mut changes);
    change.acknowledge().unwrap();
    is_quiet(&mut changes);
}

#[test]
fn a_childs_copy_of_a_change_acknowledges_nothing() {
    let scene = Scene::new();
    let mut changes = scene.changes();
    until_watchers(&scene, &mut changes, (1, 0));
    scene.trigger();
    let mut change = Some(next(&mut changes));
    assert_in_child(|| {
        let copy = change.take().unwrap();
        assert_eq!(copy.acknowledge().unwrap(), Acknowledged::Overtaken);
        assert_eq!(scene.watchers(), (1, 1));
    });
    change.take().unwrap().acknowledge().unwrap();
    assert_eq!(scene.watchers(), (1, 0));
}

#[test]
fn a_childs_copy_that_is_dropped_or_told_does_not_wake_the_parent() {
    let scene = Scene::new();
    let mut changes = scene.changes();
    until_watchers(&scene, &mut changes, (1, 0));
    scene.trigger();
    let mut change = Some(next(&mut changes));
    let waker = changes.waker();
    assert_in_child(|| {
        drop(change.take());
        waker.stop();
        drop(next(&mut changes));
    });
    is_quiet(&mut changes);
    change.take().unwrap().acknowledge().unwrap();
    is_quiet(&mut changes);
    let generation = scene.trigger();
    handle(&mut changes, generation);
}

#[test]
fn a_child_looks_at_a_page_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page");
    let mut page = PageFile::open(&path).unwrap();
    let mut changes = options_at(&path).open();
    let generation = page.change().unwrap();
    let change = next(&mut changes);
    assert_in_child(|| handle(&mut changes, generation));
    change.acknowledge().unwrap();
    is_quiet(&mut changes);
}
