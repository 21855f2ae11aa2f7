// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A model of how a change wakes a task, and of everything that may come in between.
//!
//! The generation changes; the source signals; an epoll instance inside another one hands that on;
//! tokio notes that the descriptor is ready and wakes the task; the task looks, acknowledges and
//! sleeps. Each of these takes several steps, others may come between any two of them, and a kernel and a
//! runtime cannot be put under loom. So this is their behaviour as a state machine ([`world`]), of
//! which *every* schedule is gone through ([`explore`]). In each state:
//!
//! - If the watcher is outdated, somebody is awake who will see it, or a wake-up is under way.
//! - The task was not told a generation again that it has acknowledged, unless an acknowledgement
//!   was refused meanwhile: the slower of two threads may undo what the faster one has left.
//!
//! And no schedule goes on for ever, so each ends with the watcher up to date.
//!
//! Each [`Flaw`] breaks one of the rules that this stands on, and must be found.
//!
//! **What it does not show.** Each load sees the last store: the order of memory is argued where the
//! atomic operations are, and the slot has a test of its own. The kernel's epoll and tokio's
//! readiness are as their sources say; the suites try whether they are.
#![cfg(target_os = "linux")]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod acknowledge;
mod explore;
mod world;

use crate::explore::explore;
use crate::world::{Budget, Flaw, Source, Step, World};

const SOURCES: [Source; 3] = [Source::Broker, Source::Driver, Source::FaultyDriver];

/// A task alone with its watcher.
const ALONE: Budget = Budget {
    changes: 3,
    cancellations: 1,
    moves: 1,
    looks_of_another: 0,
};

/// Another thread acknowledges, too.
const SHARED: Budget = Budget {
    changes: 2,
    cancellations: 0,
    moves: 0,
    looks_of_another: 2,
};

/// The same with one change more, of which there are too many schedules to go through all each time.
const LONGER: Budget = Budget {
    changes: 3,
    looks_of_another: 1,
    ..SHARED
};

#[test]
fn no_wake_up_is_lost() {
    for source in SOURCES {
        for left in [ALONE, SHARED] {
            let explored = explore(World::new(source, None, left))
                .unwrap_or_else(|violation| panic!("{source:?}, {left:?}: {violation:#?}"));
            println!(
                "{source:?}, {left:?}: {} states, {} transitions",
                explored.states, explored.transitions
            );
            // Or the rest shows little.
            let mut all = vec![
                Step::TaskWakes,
                Step::TaskSeesChange,
                Step::TaskSeesNothing,
                Step::TaskAcknowledges,
                Step::TaskIsStale,
            ];
            if left == ALONE {
                all.extend([Step::TaskIsCancelled, Step::TaskMovesToAnotherLoop]);
            }
            if source == Source::Broker {
                all.push(Step::BrokerReadsRequest);
            }
            if left == SHARED {
                all.push(Step::OtherSeesPage);
            }
            if source == Source::Broker && left == SHARED {
                all.push(Step::TaskSeesLateSignal);
            }
            for step in all {
                assert!(explored.taken.contains(&step), "{source:?}: no {step:?}");
            }
        }
    }
}

#[test]
fn every_flaw_is_found() {
    let flaws = [
        (Flaw::ClearWithoutTick, Source::Broker, ALONE),
        (Flaw::ClearWithoutTick, Source::Driver, ALONE),
        (Flaw::ClearAfterChange, Source::Broker, ALONE),
        (Flaw::ClearAfterChange, Source::Driver, ALONE),
        (Flaw::LookBeforeRegistering, Source::Broker, ALONE),
        (Flaw::LookBeforeRegistering, Source::Driver, ALONE),
        (Flaw::HookOnce, Source::FaultyDriver, ALONE),
        (Flaw::HookInSilence, Source::FaultyDriver, SHARED),
        (Flaw::NoSecondLook, Source::Broker, ALONE),
        (Flaw::LateSignalIsChange, Source::Broker, SHARED),
        (Flaw::EmptySlotIsChange, Source::Broker, ALONE),
        (Flaw::PageNotLookedAtAgain, Source::Broker, LONGER),
        (Flaw::SignalBeforePage, Source::Broker, ALONE),
    ];
    for (flaw, source, left) in flaws {
        match explore(World::new(source, Some(flaw), left)) {
            Err(violation) => println!(
                "{flaw:?} on {source:?}: {} after {} steps",
                violation.why,
                violation.schedule.len()
            ),
            Ok(explored) => panic!(
                "{flaw:?} on {source:?} is not found in {} states",
                explored.states
            ),
        }
    }
}
