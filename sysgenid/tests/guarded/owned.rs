// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sysgenid::testing::Restores;
use sysgenid::{BuildError, Generation, Guarded, Probe};

use crate::world::{Fate, Page, Secret, make_hazy};

/// A guard whose value is the generation it was built for, and the number of builds.
type Boxed<T> = Box<dyn FnMut(Generation) -> Result<T, BuildError> + Send>;

fn counted(
    page: &Page,
) -> (
    Guarded<Generation, Probe, Boxed<Generation>>,
    Arc<AtomicU32>,
) {
    let builds = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&builds);
    let build: Boxed<_> = Box::new(move |generation| {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(generation)
    });
    let guarded = Guarded::unwiped_with_witness(page.probe(), build);
    (guarded, builds)
}

#[test]
fn it_is_built_once_in_a_generation() {
    let page = Page::new();
    let (mut guarded, builds) = counted(&page);
    assert_eq!(
        builds.load(Ordering::Relaxed),
        0,
        "nothing is built before the first use"
    );
    for _ in 0..3 {
        assert_eq!(*guarded.get().unwrap(), Generation::new(0));
    }
    assert_eq!(builds.load(Ordering::Relaxed), 1);

    page.bump();
    assert_eq!(*guarded.get().unwrap(), Generation::new(1));
    assert_eq!(builds.load(Ordering::Relaxed), 2);
}

#[test]
fn a_generation_that_goes_back_is_a_change() {
    let page = Page::new();
    page.counter.store(u32::MAX);
    let (mut guarded, builds) = counted(&page);
    guarded.get().unwrap();
    page.bump();
    assert_eq!(*guarded.get().unwrap(), Generation::new(0));
    assert_eq!(builds.load(Ordering::Relaxed), 2);
}

#[test]
fn a_result_that_was_computed_across_a_change_is_not_returned() {
    let page = Page::new();
    let (mut guarded, _) = counted(&page);
    let mut runs = 0;
    let used = guarded
        .with(|value| {
            runs += 1;
            if runs == 1 {
                page.bump();
            }
            *value
        })
        .unwrap();
    assert_eq!((used, runs), (Generation::new(1), 2));
}

#[test]
fn a_generation_that_never_rests_is_a_typed_error() {
    let page = Page::new();
    let (mut guarded, _) = counted(&page);
    let error = guarded.with(|_| page.bump()).unwrap_err();
    assert!(error.is_unsettled(), "{error:?}");
    assert!(guarded.with(|value| *value).is_ok(), "and it recovers");
}

#[test]
fn a_change_during_the_build_builds_again() {
    let page = Arc::new(Page::new());
    let (bumper, left) = (Arc::clone(&page), AtomicU32::new(2));
    let mut guarded = Guarded::unwiped_with_witness(page.probe(), move |generation| {
        let again = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if again.is_ok() {
            bumper.bump();
        }
        Ok(generation)
    });
    assert_eq!(*guarded.get().unwrap(), Generation::new(2));
}

#[test]
fn a_failed_rebuild_leaves_no_old_value() {
    let page = Page::new();
    let mut build = 0;
    let mut guarded = Guarded::unwiped_with_witness(page.probe(), move |_| {
        build += 1;
        if build == 2 {
            Err("no entropy".into())
        } else {
            Ok(build)
        }
    });
    assert_eq!(*guarded.get().unwrap(), 1);
    page.bump();
    let error = guarded.get().unwrap_err();
    assert!(error.is_rebuild());
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), "no entropy");
    // Back in the generation of the first build: its value would be taken for a current one.
    page.counter.store(0);
    assert_eq!(*guarded.get().unwrap(), 3);
    assert!(format!("{guarded:?}").contains("Generation(0)"));
}

#[test]
fn debug_does_not_show_the_secret() {
    let page = Page::new();
    let mut guarded = Guarded::unwiped_with_witness(page.probe(), |_| Ok("hunter2"));
    guarded.get().unwrap();
    assert!(!format!("{guarded:?}").contains("hunter2"));
}

#[test]
fn what_compute_returns_may_borrow_from_outside() {
    let page = Page::new();
    let (mut guarded, _) = counted(&page);
    let seen = Rc::new(Cell::new(0));
    guarded.with(|_| seen.set(seen.get() + 1)).unwrap();
    assert_eq!(seen.get(), 1);
}

/// A guard over `world` whose values are counted.
fn wiped(world: &Restores) -> (Guarded<Secret, &Restores, Boxed<Secret>>, Arc<Fate>) {
    let fate = Arc::new(Fate::default());
    let build = Arc::clone(&fate);
    let build: Boxed<_> = Box::new(move |_| Ok(build.build()));
    (Guarded::with_witness(world, build), fate)
}

#[test]
fn an_old_value_is_wiped_before_it_is_dropped() {
    let world = Restores::new();
    let (mut guarded, fate) = wiped(&world);
    guarded.get().unwrap();
    world.restore();
    assert_eq!(fate.counts(), (1, 0, 0), "nobody has looked yet");
    assert_eq!(guarded.get().unwrap().number, 2);
    assert_eq!(fate.counts(), (2, 1, 1));
    drop(guarded);
    assert_eq!(fate.counts(), (2, 2, 2));
}

#[test]
fn an_unwiped_value_is_only_dropped() {
    let world = Restores::new();
    let fate = Arc::new(Fate::default());
    let build = Arc::clone(&fate);
    let mut guarded = Guarded::unwiped_with_witness(&world, move |_| Ok(build.build()));
    guarded.get().unwrap();
    drop(guarded);
    assert_eq!(fate.counts(), (1, 0, 1));
}

#[test]
fn values_of_unsettled_builds_are_wiped() {
    let world = Restores::new();
    let fate = Arc::new(Fate::default());
    let (build, changed) = (Arc::clone(&fate), world.clone());
    let mut guarded = Guarded::with_witness(world.clone(), move |_| {
        changed.restore();
        Ok(build.build())
    });
    assert!(guarded.get().unwrap_err().is_unsettled());
    assert_eq!(fate.counts(), (4, 4, 4));
}

#[test]
fn a_panicking_rebuild_leaves_no_old_value() {
    let world = Restores::new();
    let fate = Arc::new(Fate::default());
    let build = Arc::clone(&fate);
    let mut calls = 0;
    let mut guarded = Guarded::with_witness(&world, move |_| {
        calls += 1;
        assert_ne!(calls, 2, "this build panics");
        Ok(build.build())
    });
    guarded.get().unwrap();
    world.restore();
    let panicked = catch_unwind(AssertUnwindSafe(|| guarded.get().map(drop)));
    assert!(panicked.is_err());
    assert_eq!(fate.counts(), (1, 1, 1), "the old value is gone");
    // Back to where the old value would be taken for a current one.
    world.restore_to(0);
    assert_eq!(guarded.get().unwrap().number, 2);
}

#[test]
fn a_panicking_computation_leaves_no_value() {
    let world = Restores::new();
    let (mut guarded, fate) = wiped(&world);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        guarded.with(|secret| {
            secret.number = 77;
            panic!("in the middle");
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(fate.counts(), (1, 1, 1));
    assert_eq!(guarded.with(|secret| secret.number).unwrap(), 2);
}

#[test]
fn a_panicking_commit_leaves_the_value_as_prepared() {
    let world = Restores::new();
    let mut guarded = Guarded::with_witness(&world, |_| Ok(0_u64));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        guarded.transaction(|nonce| *nonce += 1, |()| panic!("the wire broke"))
    }));
    assert!(panicked.is_err());
    assert_eq!(*guarded.get().unwrap(), 1, "no nonce is used twice");
}

#[test]
fn a_transaction_commits_once_and_with_what_is_current() {
    let world = Restores::new();
    let (mut guarded, fate) = wiped(&world);
    let (mut prepared, mut committed) = (Vec::new(), Vec::new());
    guarded
        .transaction(
            |secret| {
                prepared.push(secret.number);
                if prepared.len() < 3 {
                    world.restore();
                }
                secret.number
            },
            |number| committed.push(number),
        )
        .unwrap();
    assert_eq!((prepared, committed), (vec![1, 2, 3], vec![3]));
    assert_eq!(fate.counts(), (3, 2, 2));
}

#[test]
fn a_transaction_that_is_always_overtaken_commits_nothing() {
    let world = Restores::new();
    let (mut guarded, _) = wiped(&world);
    let mut committed = false;
    let error = guarded
        .transaction(|_| world.restore(), |()| committed = true)
        .unwrap_err();
    assert!(error.is_unsettled());
    assert!(!committed);
}

#[test]
fn a_value_that_was_once_overtaken_is_not_used_again() {
    let world = Restores::new();
    let (mut guarded, _) = wiped(&world);
    let mut runs = 0;
    let error = guarded
        .with(|_| {
            runs += 1;
            world.restore();
        })
        .unwrap_err();
    assert!(error.is_unsettled());
    assert_eq!(runs, 4);
    // The number that the fourth was built for.
    world.restore_to(3);
    assert_eq!(guarded.get().unwrap().number, 5);
}

#[test]
fn a_glance_that_tells_nothing_rebuilds_nothing() {
    let world = Restores::new();
    make_hazy(&world);
    let (mut guarded, fate) = wiped(&world);
    for _ in 0..3 {
        assert_eq!(guarded.get().unwrap().number, 1);
        assert_eq!(guarded.with(|secret| secret.number).unwrap(), 1);
    }
    assert_eq!(fate.counts(), (1, 0, 0));
    world.restore();
    assert_eq!(guarded.get().unwrap().number, 2);
}

#[test]
fn a_guard_may_be_sent_to_another_thread() {
    fn is_send<T: Send>(_: &T) {}
    is_send(&wiped(&Restores::new()).0);
}

#[test]
fn a_guard_that_stays_in_its_thread_may_hold_what_cannot_be_sent() {
    let builds = Rc::new(Cell::new(0));
    let counter = Rc::clone(&builds);
    let mut guarded = Guarded::unwiped(move |_| {
        counter.set(counter.get() + 1);
        Ok(Rc::clone(&counter))
    });
    guarded.get().unwrap();
    assert_eq!(builds.get(), 1);
}
