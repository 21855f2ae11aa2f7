// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The rules of the model, checked after every step of random runs, and its edges by hand.
#![cfg(target_os = "linux")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails panics, also in a helper"
)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use sysgenid_broker::model::{
    Awaited, Ended, Model, Occasion, Outcome, Phase, Refusal, Wait, WaitId, WatcherId,
};

/// A change of which nothing is known.
fn trigger(model: &mut Model, min: u32) -> Vec<Ended> {
    model.trigger(min, Occasion::default())
}

fn wait(model: &mut Model, own: WatcherId) -> Result<Wait, Refusal> {
    model.wait(Some(own), Awaited::Generation)
}

fn pending(wait: Result<Wait, Refusal>) -> WaitId {
    match wait {
        Ok(Wait::Pending(wait)) => wait,
        other => panic!("not pending: {other:?}"),
    }
}

#[test]
fn the_counter_wraps_and_every_trigger_changes_it() {
    let mut model = Model::new(u32::MAX - 1);
    let watcher = model.open(true, None);
    for expected in [u32::MAX, 0] {
        trigger(&mut model, u32::MAX);
        assert_eq!(model.generation(), expected);
        assert!(model.is_outdated(watcher));
    }
    trigger(&mut model, 1 << 31);
    assert_eq!(model.generation(), 1 << 31, "no sign");
}

#[test]
fn a_generation_that_comes_back_is_a_change_all_the_same() {
    let mut model = Model::new(5);
    let watcher = model.open(true, None);
    for min in [u32::MAX, 0, 5] {
        trigger(&mut model, min);
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
    let wait = pending(wait(&mut model, waiter));
    let ended = trigger(&mut model, 0);
    assert!(model.is_outdated(resumed));
    let outdated = Ended {
        wait,
        outcome: Outcome::Outdated,
    };
    assert_eq!(ended, [outdated]);
}

#[test]
fn a_tracked_waiter_that_is_current_does_not_wait_for_itself() {
    let mut model = Model::new(0);
    let waiter = model.open(true, None);
    trigger(&mut model, 0);
    let outdated = Ok(Wait::Ended(Outcome::Outdated));
    assert_eq!(wait(&mut model, waiter), outdated);
    assert_eq!(model.acknowledge(waiter, 1), Ok(vec![]));
    let done = Ok(Wait::Ended(Outcome::Done));
    assert_eq!(wait(&mut model, waiter), done);
}

#[test]
fn a_wait_whose_own_watcher_is_closed_is_no_success() {
    let mut model = Model::new(0);
    let slow = model.open(true, Some(9));
    let waiter = model.open(false, None);
    let waits = [(); 2].map(|()| pending(wait(&mut model, waiter)));
    let other = pending(model.wait(None, Awaited::Generation));
    let outdated = waits.map(|wait| Ended {
        wait,
        outcome: Outcome::Outdated,
    });
    assert_eq!(model.close(waiter), outdated);
    let done = Ended {
        wait: other,
        outcome: Outcome::Done,
    };
    assert_eq!(model.close(slow), [done]);
}

#[test]
fn a_wait_without_a_watcher_outlasts_a_change() {
    let mut model = Model::new(0);
    let slow = model.open(true, Some(9));
    let other = pending(model.wait(None, Awaited::Generation));
    assert_eq!(trigger(&mut model, 0), []);
    let done = Ended {
        wait: other,
        outcome: Outcome::Done,
    };
    assert_eq!(model.acknowledge(slow, 1), Ok(vec![done]));
}

#[test]
fn a_phase_is_over_when_all_that_park_have_acknowledged_it() {
    let mut model = Model::new(0);
    let (first, second) = (model.open(true, None), model.open(true, None));
    let untracked = model.open(false, None);
    let _does_not_park = model.open(true, None);
    for parks in [first, second, untracked] {
        model.set_parking(parks).unwrap();
    }
    let done = Ok(Wait::Ended(Outcome::Done));
    assert_eq!(model.wait(None, Awaited::Phase), done, "it is running");

    assert_eq!(model.set_phase(Phase::Quiesce), []);
    let number = model.phase_number();
    assert_eq!(model.unparked(), 2);
    let wait = pending(model.wait(None, Awaited::Phase));
    assert_eq!(model.acknowledge_phase(first, number), Ok(vec![]));
    assert_eq!(
        model.acknowledge_phase(second, number - 1),
        Err(Refusal::Stale)
    );
    let listed = model.unparked_after(WatcherId::from_number(0));
    assert_eq!(listed.map(|it| it.watcher).collect::<Vec<_>>(), [second]);
    // Two things that have nothing to do with each other.
    trigger(&mut model, 0);
    assert_eq!(model.acknowledge(second, 1), Ok(vec![]));
    let ended = Ended {
        wait,
        outcome: Outcome::Done,
    };
    assert_eq!(model.acknowledge_phase(second, number), Ok(vec![ended]));

    // One that comes late has it to acknowledge as well.
    let late = model.open(true, None);
    model.set_parking(late).unwrap();
    let wait = pending(model.wait(None, Awaited::Phase));
    assert_eq!(model.set_phase(Phase::Quiesce), [], "it is that already");
    let superseded = Ended {
        wait,
        outcome: Outcome::Outdated,
    };
    assert_eq!(model.set_phase(Phase::Running), [superseded]);
    assert_ne!(model.phase_number(), number);
    assert!(model.is_unparked(first), "it has not run on yet");
}

#[test]
fn unknown_watchers_are_refused() {
    let mut model = Model::new(0);
    let gone = model.open(true, Some(9));
    model.close(gone);
    assert_eq!(model.acknowledge(gone, 0), Err(Refusal::Unknown));
    assert_eq!(model.set_tracking(gone, true), Err(Refusal::Unknown));
    assert_eq!(wait(&mut model, gone), Err(Refusal::Unknown));
    assert_eq!(model.set_parking(gone), Err(Refusal::Unknown));
    assert_eq!(model.acknowledge_phase(gone, 0), Err(Refusal::Unknown));
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

/// Takes one step; returns the waits it ended, and the one that began.
fn take(
    model: &mut Model,
    ids: &mut Vec<WatcherId>,
    waits: &BTreeMap<WaitId, WatcherId>,
    step: &Step,
) -> (Vec<Ended>, Option<(WaitId, WatcherId)>) {
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
        Step::Trigger(min) => trigger(model, min),
        Step::Wait(who) => {
            let began = match wait(model, id(who)) {
                Ok(Wait::Pending(wait)) => Some((wait, id(who))),
                _ => None,
            };
            return (vec![], began);
        }
        Step::CancelWait(who) => {
            if let Some((wait, _)) = waits.iter().nth(who) {
                assert!(model.cancel_wait(*wait));
                assert!(!model.cancel_wait(*wait));
            }
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
        let mut waiting = BTreeMap::new();
        let mut largest = WatcherId::from_number(0);
        for step in &steps {
            let before = model.clone();
            let (ended, began) = take(&mut model, &mut ids, &waiting, step);

            for Ended { wait, outcome } in &ended {
                let own = waiting.remove(wait);
                prop_assert!(own.is_some(), "{wait:?} did not wait");
                let own = own.is_some_and(|own| model.is_outdated(own) || !ids.contains(&own));
                prop_assert_eq!(*outcome == Outcome::Outdated, own);
                prop_assert!(own || model.outdated() == 0);
            }
            waiting.extend(began);
            match step {
                Step::CancelWait(who) => {
                    if let Some((&wait, _)) = waiting.iter().nth(*who) {
                        waiting.remove(&wait);
                    }
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

            prop_assert_eq!(model.waits(), waiting.len());
            for id in waiting.values() {
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
