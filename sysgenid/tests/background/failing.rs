// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use sysgenid::hooks::BackgroundEvent;

use crate::scene::{A_MOMENT, LONG, Scene, Stopping, eventually};

#[test]
fn a_change_whose_hook_fails_is_not_acknowledged_and_is_tried_again() {
    let scene = Scene::new();
    let (attempts, may) = (
        Arc::new(AtomicU32::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let (count, succeed) = (Arc::clone(&attempts), Arc::clone(&may));
    scene.after_restore(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        if succeed.load(Ordering::SeqCst) {
            Ok(())
        } else {
            Err("no entropy")
        }
    });
    let background = Stopping(scene.background());
    let before = background.0.generation();
    let orchestrator = scene.orchestrator();
    let generation = orchestrator.trigger().unwrap();
    orchestrator.acknowledge().unwrap();
    eventually("another attempt", || attempts.load(Ordering::SeqCst) >= 2);
    let late = orchestrator.wait_for_watchers(A_MOMENT).unwrap_err();
    assert!(late.is_timeout(), "{late}");
    let error = background.0.last_error().unwrap();
    assert_eq!(error.hooks().unwrap().failures().len(), 1);
    assert!(error.to_string().contains("no entropy"), "{error}");
    assert_eq!(background.0.generation(), before);

    may.store(true, Ordering::SeqCst);
    orchestrator.wait_for_watchers(LONG).unwrap();
    eventually("all is well", || background.0.last_error().is_none());
    assert_eq!(background.0.generation(), Some(generation));
}

#[test]
fn another_generation_is_tried_at_once() {
    let scene = Scene::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    scene.after_restore(move |restore| {
        let mut seen = noted.lock().unwrap();
        seen.push(restore.generation());
        // The pauses between the attempts for this one grow to half a minute.
        if seen.first() == seen.last() {
            Err("the first")
        } else {
            Ok(())
        }
    });
    let _background = Stopping(scene.background());
    scene.trigger();
    eventually("some attempts", || seen.lock().unwrap().len() >= 4);
    let generation = scene.trigger();
    eventually("the other", || {
        seen.lock().unwrap().last() == Some(&generation)
    });
    eventually("the acknowledgement", || scene.watchers() == (1, 0));
}

#[test]
fn a_hook_that_panics_ends_nothing_and_neither_does_a_report() {
    let scene = Scene::new();
    let (count, reports) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let counted = Arc::clone(&count);
    scene.after_restore(move |_| {
        assert!(counted.fetch_add(1, Ordering::SeqCst) > 0, "the first time");
    });
    let reported = Arc::clone(&reports);
    let options = scene.options().report(move |event| {
        reported.fetch_add(1, Ordering::SeqCst);
        assert!(
            matches!(event, BackgroundEvent::Handled { .. }),
            "{event:?}"
        );
    });
    let background = Stopping(options.start().unwrap());
    scene.trigger();
    eventually("another attempt", || count.load(Ordering::SeqCst) == 2);
    eventually("the acknowledgement", || scene.watchers() == (1, 0));
    eventually("the report", || reports.load(Ordering::SeqCst) == 2);
    assert!(background.0.is_alive());
}
