// SPDX-License-Identifier: Apache-2.0 OR MIT
//! However changes fall between the steps of whoever waits, the last one is told.

use std::sync::Arc;

use sysgenid::Generation;
use sysgenid_tokio::Watcher;
use tokio_stream::StreamExt;

use super::runtime::{expect_pending, in_each_runtime, open, register, soon};
use crate::cases;
use crate::typed::{Changes, Subject};

cases! { Subject;
    no_edge_is_lost_when_changes_race_with_acknowledgements,
    no_change_is_lost_when_the_watcher_is_registered_again_meanwhile,
    no_change_is_lost_when_several_tasks_acknowledge,
    no_generation_is_handled_twice_when_changes_race,
    stream_is_told_of_all_that_follows_a_first_acknowledgement_among_changes,
}

fn no_edge_is_lost_when_changes_race_with_acknowledgements(subject: &Subject) {
    in_each_runtime(async || {
        let watcher = open(subject).await;
        let changes = Changes::start(subject, 400);
        follow(&watcher, changes.last).await;
        changes.finish();
        expect_pending(watcher.changed(), "it has acknowledged the last change").await;
        subject.expect_settled("it has acknowledged the last change");
    });
}

/// Handles every change that it is told, until the last one is acknowledged.
async fn follow(watcher: &Watcher, last: Generation) {
    while watcher.generation() != last || watcher.try_changed().unwrap().is_some() {
        let told = soon(watcher.changed(), "a change is not told").await;
        if let Err(error) = watcher.acknowledge(told.unwrap()) {
            assert!(error.is_stale(), "{error}");
        }
    }
}

/// With the runtime, and with the source: a new watcher starts up to date.
fn no_change_is_lost_when_the_watcher_is_registered_again_meanwhile(subject: &Subject) {
    in_each_runtime(async || {
        let mut watcher = open(subject).await;
        let changes = Changes::start(subject, 300);
        let mut round: u32 = 0;
        while watcher.generation() != changes.last || watcher.try_changed().unwrap().is_some() {
            round += 1;
            watcher = match round % 5 {
                0 => open(subject).await,
                1 | 2 => register(watcher.into()),
                _ => watcher,
            };
            // Else there may be no change left to tell.
            if watcher.generation() == changes.last && watcher.try_changed().unwrap().is_none() {
                break;
            }
            let told = soon(watcher.changed(), "a change is not told").await;
            if let Err(error) = watcher.acknowledge(told.unwrap()) {
                assert!(error.is_stale(), "{error}");
            }
        }
        changes.finish();
    });
}

fn no_change_is_lost_when_several_tasks_acknowledge(subject: &Subject) {
    in_each_runtime(async || {
        let watcher = Arc::new(open(subject).await);
        let changes = Changes::start(subject, 300);
        let last = changes.last;
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let watcher = Arc::clone(&watcher);
                tokio::spawn(async move {
                    // Until another one has acknowledged the last change, or this one.
                    while watcher.generation() != last || watcher.try_changed().unwrap().is_some() {
                        tokio::select! {
                            told = watcher.changed() => {
                                if let Err(error) = watcher.acknowledge(told.unwrap()) {
                                    assert!(error.is_stale(), "{error}");
                                }
                            }
                            () = tokio::time::sleep(std::time::Duration::from_millis(50)) => {}
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            soon(task, "a change is not told").await.unwrap();
        }
        changes.finish();
        subject.expect_settled("the last change was acknowledged");
        expect_pending(watcher.changed(), "the last change was acknowledged").await;
    });
}

/// What was acknowledged is not told again, however late its signal comes.
fn no_generation_is_handled_twice_when_changes_race(subject: &Subject) {
    in_each_runtime(async || {
        let watcher = open(subject).await;
        let changes = Changes::start(subject, 400);
        let mut handled = None;
        while handled != Some(changes.last) {
            let told = soon(watcher.changed(), "a change is not told")
                .await
                .unwrap();
            assert_ne!(handled, Some(told), "it was acknowledged");
            // As early as it can be seen.
            let newest = watcher.generation();
            match watcher.acknowledge(newest) {
                Ok(()) => handled = Some(newest),
                Err(error) => assert!(error.is_stale(), "{error}"),
            }
        }
        changes.finish();
    });
}

/// Also if nobody acknowledges that: while it is outdated, the stream looks at nothing and depends on
/// being woken, so no step of opening or of acknowledging may leave the source's wait queue.
fn stream_is_told_of_all_that_follows_a_first_acknowledgement_among_changes(subject: &Subject) {
    in_each_runtime(async || {
        for round in 0..20 {
            let opened_before = open(subject).await;
            let changes = Changes::start(subject, 60);
            let mut watcher = match round % 2 {
                0 => opened_before,
                _ => open(subject).await,
            };
            let (mut told, mut is_acknowledged) = (None, false);
            while told != Some(changes.last) {
                // If even the last change came before it was opened, there is nothing to tell.
                let is_late = watcher.generation() == changes.last && told.is_none();
                if is_late && watcher.try_changed().unwrap().is_none() {
                    break;
                }
                let next = soon(watcher.next(), "the last change is not told").await;
                let next = next.unwrap().unwrap();
                assert_ne!(told.replace(next), Some(next), "it was told before");
                is_acknowledged = is_acknowledged || watcher.acknowledge(next).is_ok();
            }
            changes.finish();
        }
    });
}
