// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::sync::{Arc, Mutex};

use sysgenid::hooks::BackgroundEvent;
use sysgenid::{Background, Cause, Changes};

use crate::scene::{LONG, Scene, Stopping, eventually};

#[test]
fn it_runs_the_hooks_and_acknowledges() {
    let scene = Scene::new();
    let seen = scene.note();
    let background = Stopping(scene.background());
    assert!(background.0.is_alive() && background.0.is_watching());
    assert_eq!(
        scene.watchers(),
        (1, 0),
        "it is a watcher when the call returns"
    );
    assert_eq!(background.0.path(), Some(scene.path()));
    let orchestrator = scene.orchestrator();
    for _ in 0..3 {
        let generation = orchestrator.trigger().unwrap();
        orchestrator.acknowledge().unwrap();
        orchestrator.wait_for_watchers(LONG).unwrap();
        assert_eq!(seen.all().last(), Some(&generation));
        eventually("the number", || {
            background.0.generation() == Some(generation)
        });
    }
    assert_eq!(seen.all().len(), 3);
    assert!(background.0.last_error().is_none());
}

#[test]
fn hooks_are_told_the_cause_where_the_source_tells_it() {
    let scene = Scene::new();
    let causes = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&causes);
    scene.after_restore(move |restore| noted.lock().unwrap().push(restore.cause()));
    let _background = Stopping(scene.background());
    scene.trigger();
    eventually("the hook", || !causes.lock().unwrap().is_empty());
    assert_eq!(*causes.lock().unwrap(), [Some(Cause::Trigger)]);
}

#[test]
fn there_is_one() {
    let scene = Scene::new();
    let first = Stopping(scene.background());
    let second = scene.background();
    assert_eq!(scene.watchers().0, 1);
    let others = Background::options().changes(Changes::options().tracked(false));
    let refused = others.start().unwrap_err();
    assert!(refused.is_unsupported(), "{refused}");
    assert!(first.0.stop(LONG));
    assert!(!second.is_alive());
    let third = Stopping(scene.background());
    assert!(third.0.is_alive());
}

#[test]
fn untracked_it_holds_nobody_up() {
    let scene = Scene::new();
    let changes = Changes::options().at(scene.path()).tracked(false);
    let _background = Stopping(Background::options().changes(changes).start().unwrap());
    assert_eq!(scene.watchers().0, 0);
}

#[test]
fn a_source_that_appears_is_watched_and_counts_as_a_change() {
    let mut scene = Scene::empty();
    let seen = scene.note();
    let background = Stopping(scene.background());
    assert!(background.0.is_alive() && !background.0.is_watching());
    assert_eq!(
        (background.0.generation(), background.0.path()),
        (None, None)
    );
    scene.start();
    eventually("the appearance", || seen.all().len() == 1);
    eventually("the watcher", || scene.watchers() == (1, 0));
    let generation = scene.trigger();
    eventually("the change", || seen.all().last() == Some(&generation));
}

#[test]
fn a_broker_that_is_restarted_is_watched_again_and_the_loss_is_reported() {
    let mut scene = Scene::new();
    let seen = scene.note();
    let events = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&events);
    let options = scene.options().report(move |event| {
        noted.lock().unwrap().push(match event {
            BackgroundEvent::Lost => "lost".to_owned(),
            BackgroundEvent::Found => "found".to_owned(),
            BackgroundEvent::Handled { ran, .. } => format!("{} ran", ran.count()),
            other => format!("{other:?}"),
        });
    });
    let background = Stopping(options.start().unwrap());
    scene.stop();
    eventually("the loss", || !background.0.is_watching());
    assert!(background.0.is_alive());
    scene.start();
    eventually("the return", || background.0.is_watching());
    let generation = scene.trigger();
    eventually("the change", || seen.all() == [generation]);
    eventually("the report", || events.lock().unwrap().len() == 3);
    assert_eq!(*events.lock().unwrap(), ["lost", "found", "1 ran"]);
}
