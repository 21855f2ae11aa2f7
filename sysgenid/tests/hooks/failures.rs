// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::error::Error;
use std::io;
use std::panic::panic_any;

use sysgenid::adapter;
use sysgenid::hooks::{self, OnFailure};

use crate::scene::{Log, Scene, run};

#[test]
fn a_hook_that_fails_keeps_no_other_from_running() {
    let (scene, log) = (Scene::new(), Log::default());
    let first = scene.keep(
        hooks::options()
            .name("reseed")
            .after_restore(|_| Err::<(), _>(io::Error::other("no entropy"))),
    );
    let own = log.clone();
    scene.keep(hooks::after_restore(move |_| own.note("between")));
    let second = scene.keep(
        hooks::options()
            .name("rejoin")
            .after_restore(|_| Err::<(), _>("no such cluster")),
    );
    let own = log.clone();
    scene.keep(hooks::after_restore(move |_| own.note("last")));

    let errors = run().unwrap_err();
    assert_eq!(log.take(), ["between", "last"]);
    let hooks: Vec<_> = errors.failures().iter().map(|it| it.hook()).collect();
    assert_eq!(hooks, [&first, &second]);
    let error = errors.failures()[0].error().unwrap();
    assert!(error.is::<io::Error>(), "it is the hook's own: {error:?}");
    assert_eq!(
        errors.to_string(),
        "2 hooks failed: reseed (no entropy), rejoin (no such cluster)"
    );
    let cause = errors.source().and_then(Error::source).unwrap();
    assert!(cause.is::<io::Error>(), "{cause:?}");
}

#[test]
fn a_failure_that_is_ignored_is_reported_and_the_run_succeeds() {
    let (scene, log) = (Scene::new(), Log::default());
    let ignored = hooks::options()
        .name("warm up")
        .on_failure(OnFailure::Ignore);
    let fails = ignored.after_restore(|_| Err::<(), _>("cold"));
    scene.keep(fails.clone());
    let own = log.clone();
    scene.keep(hooks::after_restore(move |_| own.note("runs")));
    let ran = run().unwrap();
    assert_eq!(ran.count(), 2);
    assert_eq!(ran.ignored()[0].to_string(), "warm up (cold)");
    assert_eq!(log.take(), ["runs"]);

    // Beside one that counts, both are in the error, and the one that counts is the cause.
    scene.keep(hooks::after_restore(|_| Err::<(), _>("counts")));
    let errors = run().unwrap_err();
    assert_eq!(errors.failures().len(), 2);
    assert!(errors.failures()[0].is_ignored());
    let cause = errors.source().and_then(Error::source).unwrap();
    assert_eq!(cause.to_string(), "counts");
}

#[test]
fn a_panic_is_a_failure_and_goes_no_further() {
    struct Thorny;
    impl Drop for Thorny {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("in the destructor of a payload");
            }
        }
    }

    let (scene, log) = (Scene::new(), Log::default());
    scene.keep(
        hooks::options()
            .name("text")
            .after_restore(|_| -> () { panic!("a {}", "text") }),
    );
    scene.keep(
        hooks::options()
            .name("any")
            .after_restore(|_| -> () { panic_any(7) }),
    );
    scene.keep(
        hooks::options()
            .name("thorny")
            .after_restore(|_| -> () { panic_any(Thorny) }),
    );
    let own = log.clone();
    scene.keep(hooks::after_restore(move |_| own.note("runs")));
    let errors = run().unwrap_err();
    assert!(errors.failures().iter().all(|failure| failure.is_panic()));
    assert_eq!(
        errors.to_string(),
        "3 hooks failed: text (panicked: a text), any (panicked: without a message), thorny \
         (panicked: without a message)"
    );
    assert_eq!(log.take(), ["runs"]);
    assert!(run().is_err(), "and the next run is made, too");
}

#[test]
fn before_a_snapshot_a_failure_says_not_to_take_it() {
    let (scene, log) = (Scene::new(), Log::default());
    let own = log.clone();
    scene.keep(hooks::before_snapshot(move |_| own.note("runs")));
    scene.keep(hooks::before_snapshot(|_| Err::<(), _>("busy")));
    assert!(hooks::run_before_snapshot().is_err());
    assert_eq!(log.take(), ["runs"]);
}

#[test]
fn an_error_may_end_the_run_and_is_never_ignored() {
    let (scene, log) = (Scene::new(), Log::default());
    let ignored = hooks::options().on_failure(OnFailure::Ignore);
    scene.keep(ignored.after_restore(|_| Err::<(), _>(adapter::end_run("Ctrl-C"))));
    let own = log.clone();
    scene.keep(hooks::after_restore(move |_| own.note("runs")));
    let errors = run().unwrap_err();
    assert_eq!(errors.failures().len(), 1);
    assert_eq!(errors.failures()[0].error().unwrap().to_string(), "Ctrl-C");
    assert!(log.take().is_empty());
}
