// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The rules of the model, checked after every step of random runs, and its edges by hand.
#![cfg(target_os = "linux")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that fails panics, also in a helper"
)]

use std::collections::BTreeSet;

use proptest::prelude::*;
use sysgenid_broker::model::{Ended, Model, Outcome, Refusal, Wait, WatcherId};

#[test]
fn the_counter_wraps_and_every_trigger_changes_it() {
    let mut model = Model::new(u32::MAX - 1);
    let watcher = model.open(true, None);
    for expected in [u32::MAX, 0] {
        model.trigger(u32::MAX);
        assert_eq!(model.generation(), expected);
        assert!(model.is_outdated(watcher));
    }
    model.trigger(1 << 31);
    assert_eq!(model.generation(), 1 << 31, "no sign");
}

#[test]
fn a_generation_that_comes_back_is_a_change_all_the_same() {
    let mut model = Model::new(5);
    let watcher = model.open(true, None);
    for min in [u32::MAX, 0, 5] {
        model.trigger(min);
    }
    assert_eq!(model.acknowledged(watcher), Some(model.generation()));
    assert!(model.is_outdated(watcher));
    assert_eq!(model.acknowledge(watcher, 5), Ok(vec![]));
    assert!(!model.is_outdated(watcher));
}

#[test]
fn a_trigger_makes_everyone_outdated_also_one_that_resumed_from_there() {
    let mut model = Model::new(0);
    let resumed = model.open(true, Some(1));
    let waiter = model.open(false, None);
    assert_eq!(model.wait(waiter), Ok(Wait::Pending));
    let ended = model.trigger(0);
    assert!(model.is_outdated(resumed));
    let outdated = Ended {
        watcher: waiter,
        outcome: Outcome::Outdated,
    };
    assert_eq!(ended, [outdated]);
}

#[test]
fn a_tracked_waiter_that_is_current_does_not_wait_for_itself() {
    let mut model = Model::new(0);
    let waiter = model.open(true, None);
    model.trigger(0);
    assert_eq!(model.wait(waiter), Ok(Wait::Ended(Outcome::Outdated)));
    assert_eq!(model.acknowledge(waiter, 1), Ok(vec![]));
    assert_eq!(model.wait(waiter), Ok(Wait::Ended(Outcome::Done)));
}

#[test]
fn closing_the_waiter_ends_its_wait_without_a_word() {
    let mut model = Model::new(0);
    let slow = model.open(true, Some(9));
    let waiter = model.open(false, None);
    assert_eq!(model.wait(waiter), Ok(Wait::Pending));
    assert_eq!(model.close(waiter), []);
    assert_eq!(model.close(slow), []);
}

#[test]
fn unknown_watchers_are_refused() {
    let mut model = Model::new(0);
    let gone = model.open(true, Some(9));
    model.close(gone);
    assert_eq!(model.acknowledge(gone, 0), Err(Refusal::Unknown));
    assert_eq!(model.set_tracking(gone, true), Err(Refusal::Unknown));
    assert_eq!(model.wait(gone), Err(Refusal::Unknown));
    assert!(!model.cancel_wait(gone));
    assert_eq!(model.close(gone), []);
    assert_eq!(model.read(gone), None);
    assert_eq!((model.outdated(), model.tracked()), (0, 0));
}

#[test]
fn stragglers_end_at_the_last_number() {
    let model = Model::new(0);
    let last = WatcherId::from_number(u64::MAX);
    assert_eq!(model.stragglers(last).count(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Open(bool, Option<u32>),
    Close(usize),
    Acknowledge(usize, Option<u32>),
    SetTracking(usize, bool),
    Trigger(u32),
    Wait(usize),
    CancelWait(usize),
}

/// Numbers that often meet: small ones, and those around the edges.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![
        0_u32..4,
        (0_u32..4).prop_map(|below| u32::MAX - below),
        Just(1 << 31),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0_usize..6;
    prop_oneof![
        3 => (any::<bool>(), prop::option::of(number())).prop_map(|(t, r)| Step::Open(t, r)),
        1 => who.clone().prop_map(Step::Close),
        5 => (who.clone(), prop::option::weighted(0.2, number()))
            .prop_map(|(who, generation)| Step::Acknowledge(who, generation)),
        2 => (who.clone(), any::<bool>()).prop_map(|(who, on)| Step::SetTracking(who, on)),
        2 => prop_oneof![Just(0), number()].prop_map(Step::Trigger),
        4 => who.clone().prop_map(Step::Wait),
        1 => who.prop_map(Step::CancelWait),
    ]
}

/// Takes one step; returns the waits it ended, and who began to wait.
fn take(
    model: &mut Model,
    ids: &mut Vec<WatcherId>,
    step: &Step,
) -> (Vec<Ended>, Option<WatcherId>) {
    let id = |who: usize| {
        let index = who.checked_rem(ids.len());
        index.map_or(WatcherId::from_number(u64::MAX), |index| ids[index])
    };
    let ended = match *step {
        Step::Open(tracked, resume) => {
            ids.push(model.open(tracked, resume));
            vec![]
        }
        Step::Close(who) => {
            let id = id(who);
            ids.retain(|other| *other != id);
            model.close(id)
        }
        Step::Acknowledge(who, generation) => {
            let generation = generation.unwrap_or(model.generation());
            model.acknowledge(id(who), generation).unwrap_or_default()
        }
        Step::SetTracking(who, on) => model.set_tracking(id(who), on).unwrap_or_default(),
        Step::Trigger(min) => model.trigger(min),
        Step::Wait(who) => {
            let began = model.wait(id(who)) == Ok(Wait::Pending);
            return (vec![], began.then(|| id(who)));
        }
        Step::CancelWait(who) => {
            let id = id(who);
            model.cancel_wait(id);
            vec![]
        }
    };
    (ended, None)
}

proptest! {
    #[test]
    fn the_rules_hold_after_every_step(
        start in number(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut model = Model::new(start);
        let mut ids = Vec::new();
        let mut waiting = BTreeSet::new();
        let mut largest = WatcherId::from_number(0);
        for step in &steps {
            let before = model.clone();
            let (ended, began) = take(&mut model, &mut ids, step);

            for Ended { watcher, outcome } in &ended {
                prop_assert!(waiting.remove(watcher), "{watcher:?} did not wait");
                let own = model.is_outdated(*watcher);
                prop_assert_eq!(*outcome == Outcome::Outdated, own);
                prop_assert!(own || model.outdated() == 0);
            }
            waiting.extend(began);
            match step {
                Step::CancelWait(_) | Step::Close(_) => {
                    let gone = waiting.len() - model.waiters();
                    prop_assert!(gone <= 1);
                    waiting.retain(|id| model.clone().cancel_wait(*id));
                }
                Step::Open(..) => {
                    let last = *ids.last().expect("the one that was opened");
                    prop_assert!(last > largest, "a number is used twice");
                    largest = last;
                }
                Step::Trigger(min) => {
                    let next = before.generation().wrapping_add(1);
                    let asked = next.max(*min);
                    let now = if asked == before.generation() { next } else { asked };
                    prop_assert_eq!(model.generation(), now);
                    prop_assert!(ids.iter().all(|id| model.is_outdated(*id)));
                }
                Step::Acknowledge(who, None) if !ids.is_empty() => {
                    prop_assert!(!model.is_outdated(ids[who % ids.len()]));
                }
                _ => prop_assert_eq!(model.generation(), before.generation()),
            }

            prop_assert_eq!(model.waiters(), waiting.len());
            for id in &waiting {
                prop_assert!(model.outdated() > 0, "{id:?} waits for nobody");
                prop_assert!(!model.is_outdated(*id));
            }
            let stragglers: Vec<_> = ids
                .iter()
                .copied()
                .filter(|id| model.is_tracked(*id) && model.is_outdated(*id))
                .collect();
            let listed = model.stragglers(WatcherId::from_number(0));
            prop_assert_eq!(listed.map(|one| one.watcher).collect::<Vec<_>>(), &stragglers[..]);
            prop_assert_eq!(model.outdated(), stragglers.len());
            let tracked = ids.iter().filter(|id| model.is_tracked(**id)).count();
            prop_assert_eq!((model.watchers(), model.tracked()), (ids.len(), tracked));
            for id in &ids {
                let outdated = model.is_outdated(*id);
                let acknowledged = model.acknowledged(*id) == Some(model.generation());
                prop_assert!(outdated || acknowledged);
                prop_assert_eq!(model.read(*id), outdated.then_some(model.generation()));
            }
        }
    }
}
