// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use sysgenid::hooks;

use crate::scene::{LONG, Scene, run};

#[test]
fn runs_of_two_threads_are_kept_apart() {
    let scene = Scene::new();
    let inside = Arc::new(AtomicU32::new(0));
    let runs = Arc::new(AtomicU32::new(0));
    let both = [Arc::clone(&inside), Arc::clone(&runs)];
    scene.keep(hooks::after_restore(move |_| {
        both[0].fetch_add(1, Ordering::SeqCst);
        thread::yield_now();
    }));
    let both = [Arc::clone(&inside), Arc::clone(&runs)];
    scene.keep(hooks::after_restore(move |_| {
        let others = both[0].fetch_sub(1, Ordering::SeqCst);
        both[1].fetch_add(1, Ordering::SeqCst);
        if others == 1 {
            Ok(())
        } else {
            Err("another run is under way")
        }
    }));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| drop(run().unwrap())));
        }
    });
    assert_eq!(runs.load(Ordering::SeqCst), 200);
}

#[test]
fn registering_and_unregistering_in_many_threads_loses_nothing() {
    let scene = Scene::new();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    scene.keep(hooks::after_restore(|_| ()));
                    hooks::after_restore(|_| ()).unregister();
                }
            });
        }
    });
    assert_eq!(run().unwrap().count(), 200);
}

#[test]
fn a_hook_that_runs_hooks_gets_an_error() {
    let scene = Scene::new();
    let nested = |_: &hooks::HookContext| match run() {
        Err(errors) if errors.is_reentrant() => Err(errors.to_string()),
        Err(errors) => Err(format!("another error: {errors}")),
        Ok(_) => Ok(()),
    };
    scene.keep(hooks::after_restore(nested));
    scene.keep(hooks::options().deadline(LONG).after_restore(nested));
    let errors = run().unwrap_err();
    assert_eq!(errors.failures().len(), 2);
    for failure in errors.failures() {
        let error = failure.error().unwrap().to_string();
        assert!(error.contains("by a hook"), "{error}");
    }
    assert!(!errors.is_reentrant());
}
