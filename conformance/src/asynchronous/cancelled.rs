// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Futures that are dropped before they are done.

use std::sync::Arc;
use std::time::Duration;

use sysgenid_tokio::Watcher;
use tokio::time::sleep;

use super::runtime::{handle_change, in_each_runtime, open, soon};
use crate::cases;
use crate::typed::{Changes, Subject};

cases! { Subject;
    cancelled_futures_lose_no_change,
    future_that_was_never_polled_loses_no_change,
    cancelled_future_does_not_take_the_wake_up_of_another,
    cancelled_futures_lose_no_change_of_many,
}

/// A `select!` in a loop, whose other branch is faster.
fn cancelled_futures_lose_no_change(subject: &Subject) {
    in_each_runtime(async || {
        let watcher = open(subject).await;
        for _ in 0..20 {
            tokio::select! {
                biased;
                changed = watcher.changed() => panic!("nothing has changed: {changed:?}"),
                () = sleep(Duration::from_millis(1)) => {}
            }
        }
        let generation = subject.change();
        for _ in 0..20 {
            tokio::select! {
                biased;
                () = std::future::ready(()) => {}
                _ = watcher.changed() => {}
            }
        }
        let handled = handle_change(&watcher, "it is outdated").await;
        assert_eq!(handled, generation);
    });
}

fn future_that_was_never_polled_loses_no_change(subject: &Subject) {
    in_each_runtime(async || {
        let watcher = open(subject).await;
        drop(watcher.changed());
        let asleep = watcher.changed();
        let generation = subject.change();
        drop(watcher.changed());
        assert_eq!(soon(asleep, "it is outdated").await.unwrap(), generation);
    });
}

/// A task that was woken and is aborted before it runs takes nothing with it.
fn cancelled_future_does_not_take_the_wake_up_of_another(subject: &Subject) {
    in_each_runtime(async || {
        let watcher = Arc::new(open(subject).await);
        let wait = |watcher: &Arc<Watcher>| {
            let watcher = Arc::clone(watcher);
            tokio::spawn(async move { watcher.changed().await })
        };
        for _ in 0..10 {
            let (first, second) = (wait(&watcher), wait(&watcher));
            tokio::task::yield_now().await;
            let generation = subject.change();
            first.abort();
            let told = soon(second, "it is outdated").await.unwrap();
            assert_eq!(told.unwrap(), generation);
            watcher.acknowledge(generation).unwrap();
        }
    });
}

/// The changes race with the cancellations.
fn cancelled_futures_lose_no_change_of_many(subject: &Subject) {
    in_each_runtime(async || {
        let watcher = open(subject).await;
        let mut acknowledged = watcher.generation();
        // One waits when the changes begin, however they fall. They may all come before the next one.
        let mut first = Box::pin(watcher.changed());
        tokio::select! {
            biased;
            changed = &mut first => panic!("nothing has changed: {changed:?}"),
            () = std::future::ready(()) => {}
        }
        let changes = Changes::start(subject, 200);
        drop(first);
        let mut cancelled: u32 = 1;
        while acknowledged != changes.last {
            let changed = tokio::select! {
                changed = watcher.changed() => changed.unwrap(),
                () = tokio::task::yield_now(), if !cancelled.is_multiple_of(4) => {
                    cancelled += 1;
                    continue;
                }
                () = sleep(Duration::from_millis(u64::from(cancelled % 3))), if cancelled < 1000 => {
                    cancelled += 1;
                    continue;
                }
            };
            match watcher.acknowledge(changed) {
                Ok(()) => acknowledged = changed,
                Err(error) => assert!(error.is_stale(), "{error}"),
            }
        }
        changes.finish();
    });
}
