// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::sync::{Arc, Mutex};

use sysgenid::hooks::{self, Hook};
use sysgenid::{Deadline, Generation, uniqueness};

use crate::scene::{Log, Scene, run};

#[test]
fn after_a_restore_in_the_order_of_registration() {
    let (scene, log) = (Scene::new(), Log::default());
    for name in ["first", "second", "third"] {
        let log = log.clone();
        scene.keep(hooks::after_restore(move |restore| {
            log.note(format!("{name} for {}", restore.generation()));
        }));
    }
    let ran = hooks::run_after_restore(Generation::new(7)).unwrap();
    assert_eq!(ran.count(), 3);
    assert_eq!(log.take(), ["first for 7", "second for 7", "third for 7"]);
}

#[test]
fn before_a_snapshot_in_reverse_order() {
    let (scene, log) = (Scene::new(), Log::default());
    for name in ["first", "second"] {
        let log = log.clone();
        scene.keep(hooks::before_snapshot(move |_| log.note(name)));
    }
    let other = log.clone();
    scene.keep(hooks::after_restore(move |_| other.note("after")));
    assert_eq!(hooks::run_before_snapshot().unwrap().count(), 2);
    assert_eq!(log.take(), ["second", "first"]);
}

#[test]
fn without_hooks_a_run_says_that_it_did_nothing() {
    let _scene = Scene::new();
    assert_eq!(run().unwrap().count(), 0);
    assert_eq!(hooks::run_before_snapshot().unwrap().count(), 0);
}

#[test]
fn a_hook_that_is_dropped_stays_registered_and_one_that_is_unregistered_does_not() {
    let (scene, log) = (Scene::new(), Log::default());
    let noting = |name: &'static str| {
        let log = log.clone();
        scene.keep(hooks::after_restore(move |_| log.note(name)))
    };
    drop(noting("dropped"));
    let hook = noting("unregistered");
    let copy = hook.clone();
    assert_eq!(hook, copy);
    copy.unregister();
    hook.unregister();
    assert_eq!(run().unwrap().count(), 1);
    assert_eq!(log.take(), ["dropped"]);
}

#[test]
fn what_an_unregistered_hook_holds_is_dropped() {
    let _scene = Scene::new();
    let held = Arc::new(());
    let copy = Arc::clone(&held);
    let hook = hooks::after_restore(move |_| {
        let _ = &copy;
    });
    run().unwrap();
    hook.unregister();
    drop(hook);
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn hooks_may_change_hooks_during_a_run() {
    let (scene, log) = (Scene::new(), Log::default());
    let removed: Arc<Mutex<Option<Hook>>> = Arc::default();
    let (own, others, late) = (log.clone(), Arc::clone(&removed), Arc::clone(&scene.kept));
    scene.keep(hooks::after_restore(move |_| {
        own.note("first");
        if let Some(hook) = others.lock().unwrap().take() {
            hook.unregister();
            let log = own.clone();
            let hook = hooks::after_restore(move |_| log.note("late"));
            late.lock().unwrap().push(hook);
        }
    }));
    let own = log.clone();
    let hook = hooks::after_restore(move |_| own.note("removed"));
    *removed.lock().unwrap() = Some(hook);
    assert_eq!(
        run().unwrap().count(),
        1,
        "one is removed, one comes too late"
    );
    assert_eq!(log.take(), ["first"]);
    run().unwrap();
    assert_eq!(log.take(), ["first", "late"]);
}

#[test]
fn a_generation_that_the_process_does_not_see_makes_all_old_before_the_hooks_run() {
    let scene = Scene::new();
    let before = uniqueness();
    let was_old = Arc::new(Mutex::new(false));
    let seen = Arc::clone(&was_old);
    scene.keep(hooks::after_restore(move |_| {
        *seen.lock().unwrap() = uniqueness() != before;
    }));
    let unseen = Generation::new(sysgenid::generation().get() + 1);
    let _ = hooks::run_after_restore(unseen).unwrap();
    assert!(*was_old.lock().unwrap());
}

#[test]
fn a_hook_without_a_deadline_is_told_so_and_runs_on_the_calling_thread() {
    let scene = Scene::new();
    let here = std::thread::current().id();
    let seen = Arc::new(Mutex::new(None));
    let told = Arc::clone(&seen);
    scene.keep(hooks::before_snapshot(move |snapshot| {
        *told.lock().unwrap() = Some((snapshot.deadline(), std::thread::current().id()));
    }));
    let _ = hooks::run_before_snapshot().unwrap();
    assert_eq!(*seen.lock().unwrap(), Some((Deadline::NEVER, here)));
}
