// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sysgenid::Deadline;
use sysgenid::hooks::{self, OnFailure};

use crate::scene::{LONG, Log, Scene, eventually, run};

/// What a hook waits for, and how often it was called.
struct Hanging {
    release: Sender<()>,
    calls: Arc<AtomicU32>,
    ended: Arc<AtomicU32>,
}

/// Registers a hook that hangs until it is released, once for each call.
fn hang(scene: &Scene, limit: Duration, on_failure: OnFailure) -> Hanging {
    let (release, released) = channel();
    let (calls, ended) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let released: Mutex<Receiver<()>> = Mutex::new(released);
    let (count, last) = (Arc::clone(&calls), Arc::clone(&ended));
    let hook = hooks::options()
        .name("hangs")
        .deadline(limit)
        .on_failure(on_failure);
    scene.keep(hook.after_restore(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        let _ = released.lock().unwrap().recv_timeout(LONG);
        last.fetch_add(1, Ordering::SeqCst);
    }));
    Hanging {
        release,
        calls,
        ended,
    }
}

#[test]
fn a_hook_that_hangs_fails_at_its_deadline_and_the_others_run() {
    let (scene, log) = (Scene::new(), Log::default());
    let hanging = hang(&scene, Duration::from_millis(20), OnFailure::Abort);
    let own = log.clone();
    scene.keep(hooks::after_restore(move |_| own.note("runs")));
    let errors = run().unwrap_err();
    assert!(errors.failures()[0].is_timeout(), "{errors}");
    assert_eq!(log.take(), ["runs"]);
    assert_eq!(hanging.ended.load(Ordering::SeqCst), 0, "it hangs still");
    let _ = hanging.release.send(());
}

#[test]
fn a_hook_that_still_runs_is_not_called_a_second_time_until_it_has_ended() {
    let scene = Scene::new();
    let hanging = hang(&scene, Duration::from_millis(20), OnFailure::Abort);
    assert!(run().unwrap_err().failures()[0].is_timeout());
    eventually("the call", || hanging.calls.load(Ordering::SeqCst) == 1);
    for _ in 0..3 {
        let errors = run().unwrap_err();
        assert!(errors.failures()[0].is_still_running(), "{errors}");
    }
    assert_eq!(hanging.calls.load(Ordering::SeqCst), 1);

    // One for the call that hangs, and one for that which comes after it.
    hanging.release.send(()).unwrap();
    hanging.release.send(()).unwrap();
    eventually("the end of the first call", || {
        // It may not be marked as ended for another moment, or miss its deadline on a busy machine.
        run().is_ok() || {
            let _ = hanging.release.send(());
            false
        }
    });
    assert!(hanging.calls.load(Ordering::SeqCst) > 1);
}

#[test]
fn a_hook_that_ends_in_time_is_told_its_deadline() {
    let scene = Scene::new();
    let seen = Arc::new(Mutex::new(None));
    let told = Arc::clone(&seen);
    scene.keep(
        hooks::options()
            .deadline(LONG)
            .before_snapshot(move |snapshot| {
                *told.lock().unwrap() = Some(snapshot.deadline());
            }),
    );
    let ran = hooks::run_before_snapshot().unwrap();
    assert_eq!(ran.count(), 1);
    let deadline: Deadline = seen.lock().unwrap().unwrap();
    assert!(deadline.remaining().is_some_and(|left| left <= LONG));
}

#[test]
fn a_panic_and_an_error_on_the_hooks_own_thread_are_failures() {
    let scene = Scene::new();
    scene.keep(
        hooks::options()
            .deadline(LONG)
            .after_restore(|_| -> () { panic!("there") }),
    );
    let failing = hooks::options().deadline(LONG);
    scene.keep(failing.after_restore(|_| Err::<(), _>("an error")));
    let errors = run().unwrap_err();
    assert!(errors.failures()[0].is_panic());
    assert_eq!(
        errors.failures()[1].error().unwrap().to_string(),
        "an error"
    );
}

#[test]
fn a_deadline_that_is_ignored_lets_the_run_succeed() {
    let scene = Scene::new();
    let hanging = hang(&scene, Duration::from_millis(20), OnFailure::Ignore);
    assert!(run().unwrap().ignored()[0].is_timeout());
    let _ = hanging.release.send(());
}
