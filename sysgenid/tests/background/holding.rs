// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sysgenid::hooks::HookContext;
use sysgenid::{Cause, Generation};

use crate::scene::{A_MOMENT, LONG, Scene, Stopping, eventually};

#[test]
fn it_stops_when_all_who_have_started_it_have_given_it_back() {
    let scene = Scene::new();
    let program = scene.background();
    let library = scene.background();
    assert!(program == library);
    assert!(library.clone().release(LONG), "another one has it still");
    assert!(program.is_alive());
    let generation = scene.trigger();
    eventually("the change", || program.generation() == Some(generation));
    assert!(program.clone().release(LONG));
    assert!(!program.is_alive());
    let another = Stopping(scene.background());
    assert!(another.0 != program);
    // It was given back already.
    assert!(program.release(LONG));
    assert!(another.0.is_alive());
}

#[test]
fn one_that_is_about_to_end_is_not_handed_out() {
    let scene = Scene::new();
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let begun = Arc::new(AtomicBool::new(false));
    let mark = Arc::clone(&begun);
    scene.after_restore(move |_| {
        if !mark.swap(true, Ordering::SeqCst) {
            let _ = released.lock().unwrap().recv_timeout(LONG);
        }
    });
    let ending = scene.background();
    scene.trigger();
    eventually("the hook", || begun.load(Ordering::SeqCst));
    assert!(!ending.clone().release(A_MOMENT));
    let another = Stopping(scene.background());
    assert!(another.0 != ending);
    release.send(()).unwrap();
    eventually("the end of the first", || !ending.is_alive());
    let generation = scene.trigger();
    eventually("the change", || another.0.generation() == Some(generation));
}

#[test]
fn a_hook_without_a_deadline_has_that_of_the_thread() {
    let scene = Scene::new();
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    scene.after_restore(move |_| {
        let _ = released.lock().unwrap().recv_timeout(LONG);
    });
    let seen = scene.note();
    let options = scene.options().hooks_within(Duration::from_millis(50));
    let background = Stopping(options.start().unwrap());
    let generation = scene.trigger();
    eventually("the other hook", || seen.all().contains(&generation));
    eventually("the failure", || background.0.last_error().is_some());
    let error = background.0.last_error().unwrap();
    assert!(error.hooks().unwrap().failures()[0].is_timeout());
    drop(release);
    eventually("the change", || {
        background.0.generation() == Some(generation)
    });
}

#[test]
fn a_hook_is_told_all_that_is_known_of_the_change() {
    let scene = Scene::new();
    let told = Arc::new(Mutex::new(None));
    let note = Arc::clone(&told);
    scene.after_restore(move |restore: &HookContext| {
        let path = restore.source().map(|source| source.path().to_owned());
        *note.lock().unwrap() = Some((restore.previous(), path, restore.cause()));
    });
    let _background = Stopping(scene.background());
    scene.trigger();
    let wanted = (
        Some(Generation::new(0)),
        Some(scene.path()),
        Some(Cause::Trigger),
    );
    eventually("the change", || told.lock().unwrap().is_some());
    assert_eq!(told.lock().unwrap().clone(), Some(wanted));
}
