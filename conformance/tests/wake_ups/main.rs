// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A model of how a change wakes a task, and of everything that may come in between.
//!
//! The generation changes; the source tells; an epoll instance inside another one hands that on;
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
mod scene;
mod world;

use crate::explore::explore;
use crate::scene::{Budget, Flaw, Origin, Scene, Source, Use};
use crate::world::{Step, World};

const SOURCES: [Source; 3] = [Source::Broker, Source::Driver, Source::FaultyDriver];

/// An opened watcher that handles each change.
const fn handles(source: Source, left: Budget) -> Scene {
    Scene {
        source,
        origin: Origin::Opened,
        task: Use::Handles,
        left,
    }
}

/// One that was made of a descriptor.
const fn handles_made(source: Source, left: Budget) -> Scene {
    Scene {
        origin: Origin::Descriptor,
        ..handles(source, left)
    }
}

/// An opened one that is a stream, and waits for the next change also if it has not acknowledged.
const fn streams(source: Source, left: Budget) -> Scene {
    Scene {
        task: Use::Streams,
        ..handles(source, left)
    }
}

/// A task alone with its watcher.
const ALONE: Budget = Budget {
    changes: 3,
    cancellations: 1,
    moves: 1,
    looks_of_another: 0,
};

/// The same with one change less.
const SHORTER: Budget = Budget {
    changes: 2,
    ..ALONE
};

/// A task that nothing else happens to.
const UNDISTURBED: Budget = Budget {
    cancellations: 0,
    moves: 0,
    ..ALONE
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
        let alone = handles(source, ALONE);
        let mut scenes = vec![alone, handles(source, SHARED)];
        scenes.extend([SHORTER, UNDISTURBED].map(|left| streams(source, left)));
        if source != Source::Broker {
            scenes.extend([handles_made(source, ALONE), handles_made(source, SHARED)]);
        }
        for scene in scenes {
            let explored = explore(World::new(scene, None))
                .unwrap_or_else(|violation| panic!("{scene:?}: {violation:#?}"));
            println!(
                "{scene:?}: {} states, {} transitions",
                explored.states, explored.transitions
            );
            for step in expected(scene) {
                assert!(explored.taken.contains(&step), "{scene:?}: no {step:?}");
            }
        }
    }
}

/// Steps without which the rest shows little.
fn expected(scene: Scene) -> Vec<Step> {
    let mut all = vec![
        Step::TaskWakes,
        Step::TaskSeesChange,
        Step::TaskSeesNothing,
        Step::TaskAcknowledges,
        Step::TaskIsStale,
    ];
    let is_broker = scene.source == Source::Broker;
    all.extend(is_broker.then_some(Step::BrokerReadsRequest));
    if scene.left.moves > 0 {
        all.extend([Step::TaskIsCancelled, Step::TaskMovesToAnotherLoop]);
    }
    if scene.left.looks_of_another > 0 {
        all.push(Step::OtherSeesPage);
        all.extend(is_broker.then_some(Step::TaskSeesLateNotice));
    }
    if is_broker {
        all.push(Step::BrokerReadsSlot);
    }
    if scene.task == Use::Streams {
        all.push(Step::TaskKeepsChange);
        let has_three = is_broker && scene.left.changes > 2;
        all.extend(has_three.then_some(Step::TaskReadsSpareNotice));
    }
    all
}

#[test]
fn every_flaw_is_found() {
    let flaws = [
        (Flaw::ClearWithoutTick, handles(Source::Broker, ALONE)),
        (Flaw::ClearWithoutTick, handles(Source::Driver, ALONE)),
        (Flaw::ClearAfterChange, handles(Source::Broker, ALONE)),
        (Flaw::ClearAfterChange, handles(Source::Driver, ALONE)),
        (Flaw::LookBeforeRegistering, handles(Source::Broker, ALONE)),
        (Flaw::LookBeforeRegistering, handles(Source::Driver, ALONE)),
        (Flaw::HookOnce, handles_made(Source::FaultyDriver, ALONE)),
        (Flaw::HookLater, streams(Source::FaultyDriver, ALONE)),
        (
            Flaw::HookInSilence,
            handles_made(Source::FaultyDriver, SHARED),
        ),
        (Flaw::NoSecondLook, handles(Source::Broker, ALONE)),
        (Flaw::LateNoticeIsChange, handles(Source::Broker, SHARED)),
        (Flaw::EmptySlotIsChange, handles(Source::Broker, ALONE)),
        (Flaw::PageNotLookedAtAgain, handles(Source::Broker, LONGER)),
        (Flaw::NoticeBeforePage, handles(Source::Broker, ALONE)),
        (Flaw::NoLookAfterPage, handles(Source::Broker, ALONE)),
        (Flaw::StaleIsNotAnswered, handles(Source::Broker, ALONE)),
        (Flaw::StreamKeepsQuiet, streams(Source::Broker, UNDISTURBED)),
        (Flaw::NotifyLater, streams(Source::Broker, UNDISTURBED)),
        (Flaw::StreamFillsQueue, streams(Source::Broker, UNDISTURBED)),
    ];
    for (flaw, scene) in flaws {
        match explore(World::new(scene, Some(flaw))) {
            Err(violation) => println!(
                "{flaw:?} on {:?}: {} after {} steps",
                scene.source,
                violation.why,
                violation.schedule.len()
            ),
            Ok(explored) => panic!(
                "{flaw:?} on {scene:?} is not found in {} states",
                explored.states
            ),
        }
    }
}
