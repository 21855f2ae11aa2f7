// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Two sources: a broker, and a page that stands for the counter of a hypervisor beside it.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::time::{Duration, Instant};

use sysgenid_broker::Background;
use tempfile::TempDir;

use super::*;
use crate::base::{Cause, Generation};
use crate::source::{PageFile, SourceKind};

const PATIENCE: Duration = Duration::from_secs(20);

struct Scene {
    changes: Changes,
    source: Source,
    counter: PageFile,
    _broker: Background,
    _folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = sysgenid_broker::spawn(folder.path().join("run")).unwrap();
        let source = Source::at(broker.dir()).unwrap();
        let path = folder.path().join("counter");
        let counter = PageFile::open(&path).unwrap();
        let mut vmgenid = Source::at(&path).unwrap();
        vmgenid.set_kind(SourceKind::Vmgenid);
        let options = Changes::options()
            .on(source.clone())
            .look_every(Duration::from_millis(5));
        let mut changes = options.open();
        changes.core.watch_beside(vmgenid);
        let mut scene = Self {
            changes,
            source,
            counter,
            _broker: broker,
            _folder: folder,
        };
        let until = Instant::now() + PATIENCE;
        while scene.tracked().0 == 0 {
            assert!(Instant::now() < until);
            scene.is_quiet();
        }
        scene
    }

    fn is_quiet(&mut self) {
        let told = self.changes.wait(Duration::from_millis(20));
        assert!(told.is_err_and(|error| error.is_timeout()));
    }

    fn trigger(&self) -> Generation {
        self.source.trigger(PATIENCE).unwrap()
    }

    fn tracked(&self) -> (u32, u32) {
        let watchers = self.source.status(PATIENCE).unwrap().watchers.unwrap();
        (watchers.tracked, watchers.outdated)
    }
}

#[test]
fn sources_that_have_changed_by_one_look_are_one_change() {
    let mut scene = Scene::new();
    scene.counter.change().unwrap();
    let generation = scene.trigger();
    let change = scene.changes.try_next().unwrap().unwrap();
    assert_eq!(change.generation(), generation, "the driver's");
    assert_eq!(change.acknowledge().unwrap(), Acknowledged::Yes);
    scene.is_quiet();
    assert_eq!(scene.tracked(), (1, 0));
}

#[test]
fn a_driver_that_changes_later_is_another_change() {
    let mut scene = Scene::new();
    let first = scene.counter.change().unwrap();
    let change = scene.changes.wait(PATIENCE).unwrap();
    assert_eq!(change.generation(), first);
    assert_eq!(change.cause(), Some(Cause::Restore));
    change.acknowledge().unwrap();
    scene.is_quiet();
    let second = scene.trigger();
    let change = scene.changes.wait(PATIENCE).unwrap();
    assert_eq!(change.generation(), second);
    assert_eq!(change.source(), Some(&scene.source));
    change.acknowledge().unwrap();
    scene.is_quiet();
}

#[test]
fn the_other_source_overtakes_a_change_and_nothing_is_acknowledged() {
    let mut scene = Scene::new();
    let generation = scene.trigger();
    let change = scene.changes.wait(PATIENCE).unwrap();
    scene.counter.change().unwrap();
    assert_eq!(change.acknowledge().unwrap(), Acknowledged::Overtaken);
    assert_eq!(scene.tracked(), (1, 1));
    // Both are in the next one.
    let change = scene.changes.wait(PATIENCE).unwrap();
    assert_eq!(change.generation(), generation);
    change.acknowledge().unwrap();
    assert_eq!(scene.tracked(), (1, 0));
    scene.is_quiet();

    scene.counter.change().unwrap();
    let change = scene.changes.wait(PATIENCE).unwrap();
    scene.trigger();
    assert_eq!(change.acknowledge().unwrap(), Acknowledged::Overtaken);
    scene.changes.wait(PATIENCE).unwrap().acknowledge().unwrap();
    scene.is_quiet();
}

#[test]
fn a_counter_that_was_told_and_dropped_is_told_again_with_the_driver() {
    let mut scene = Scene::new();
    scene.counter.change().unwrap();
    drop(scene.changes.wait(PATIENCE).unwrap());
    let generation = scene.trigger();
    let change = scene.changes.wait(PATIENCE).unwrap();
    assert_eq!(change.generation(), generation);
    change.acknowledge().unwrap();
    scene.is_quiet();
}
