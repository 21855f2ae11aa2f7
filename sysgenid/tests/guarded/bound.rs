// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use sysgenid::testing::Restores;
use sysgenid::{Bound, Error, Witness};

use crate::world::{Fate, Secret, make_hazy};

fn bound(world: &Restores) -> (Bound<Secret, &Restores>, Arc<Fate>) {
    let fate = Arc::new(Fate::default());
    (Bound::with_witness(world, world.mark(), fate.build()), fate)
}

#[test]
fn it_is_refused_and_wiped_after_a_change() {
    let world = Restores::new();
    let (mut bound, fate) = bound(&world);
    assert_eq!(bound.get().unwrap().number, 1);
    assert_eq!(bound.with(|secret| secret.number).unwrap(), 1);
    bound.check().unwrap();

    world.restore();
    assert!(!bound.is_current());
    assert!(bound.get().is_err());
    assert_eq!(fate.counts(), (1, 0, 0), "another thread may be using it");
    assert!(bound.get_mut().is_err());
    assert_eq!(fate.counts(), (1, 1, 1));
    assert!(bound.with(|_| ()).is_err());
    drop(bound);
    assert_eq!(fate.counts(), (1, 1, 1));
}

#[test]
fn it_is_wiped_at_its_end() {
    let world = Restores::new();
    let (bound, fate) = bound(&world);
    drop(bound);
    assert_eq!(fate.counts(), (1, 1, 1));
}

#[test]
fn an_unwiped_value_is_only_dropped() {
    let world = Restores::new();
    let fate = Arc::new(Fate::default());
    let mut bound = Bound::unwiped_with_witness(&world, world.mark(), fate.build());
    world.restore();
    assert!(bound.get_mut().is_err());
    assert_eq!(fate.counts(), (1, 0, 1));
}

#[test]
fn a_change_while_it_was_made_ends_it() {
    let world = Restores::new();
    let before = world.mark();
    world.restore();
    let mut bound = Bound::with_witness(&world, before, Arc::new(Fate::default()).build());
    assert!(bound.with(|_| ()).is_err());
}

#[test]
fn a_result_across_a_change_is_not_returned() {
    let world = Restores::new();
    let (mut bound, fate) = bound(&world);
    let mut runs = 0;
    let used = bound.with(|_| {
        runs += 1;
        world.restore();
    });
    assert!(used.is_err());
    assert_eq!((runs, fate.counts()), (1, (1, 1, 1)));
}

#[test]
fn what_was_refused_once_stays_refused() {
    let world = Restores::new();
    let (bound, _) = bound(&world);
    world.restore();
    assert!(bound.get().is_err());
    world.restore_to(0);
    assert!(bound.get().is_err());
    assert!(!bound.is_current());
    assert!(bound.into_inner().is_err());
}

#[test]
fn a_use_that_panics_leaves_no_value() {
    let world = Restores::new();
    let (mut bound, fate) = bound(&world);
    let panicked = catch_unwind(AssertUnwindSafe(|| bound.with(|_| panic!("in the middle"))));
    assert!(panicked.is_err());
    assert_eq!(fate.counts(), (1, 1, 1));
    assert!(bound.get().is_err());
    assert!(!bound.is_current());
}

#[test]
fn it_can_be_taken_out_while_it_is_current() {
    let world = Restores::new();
    let (current, fate) = bound(&world);
    let secret = current.into_inner().unwrap();
    assert_eq!((secret.number, fate.counts()), (1, (1, 0, 0)));

    let (old, fate) = bound(&world);
    world.restore();
    assert!(old.into_inner().is_err());
    assert_eq!(fate.counts(), (1, 1, 1));
}

#[test]
fn a_glance_that_tells_nothing_refuses_nothing() {
    let world = Restores::new();
    make_hazy(&world);
    let (mut bound, _) = bound(&world);
    assert!(bound.is_current());
    assert_eq!(bound.with(|secret| secret.number).unwrap(), 1);
}

#[test]
fn the_refusal_is_an_error_of_each_kind() {
    let world = Restores::new();
    let (bound, _) = bound(&world);
    world.restore();
    let stale = bound.check().unwrap_err();
    assert!(Error::from(stale).is_stale());
    assert_eq!(Error::from(stale).to_string(), stale.to_string());
    let error = std::io::Error::from(stale);
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
}

#[test]
fn debug_does_not_show_the_secret() {
    let bound = Bound::unwiped(sysgenid::uniqueness(), "hunter2");
    assert!(!format!("{bound:?}").contains("hunter2"));
}
