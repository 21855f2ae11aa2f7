// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Waiting for a change, and acknowledging it.

use std::sync::Arc;
use std::task::Poll;

use sysgenid::Generation;

use super::runtime::{expect_pending, handle_change, in_each_runtime, open, register, soon};
use crate::cases;
use crate::typed::Subject;

cases! { Subject;
    changed_wakes_on_every_change,
    changed_tells_again_until_it_is_acknowledged,
    watcher_that_was_outdated_when_registered_is_told,
    watcher_that_was_outdated_when_registered_is_woken_again,
    several_tasks_on_one_watcher_are_all_woken,
    acknowledgement_in_one_task_is_that_of_all,
    stale_acknowledgement_leaves_it_ready,
    acknowledging_what_was_seen_in_the_page_is_enough,
    poll_changed_wakes_the_task_that_polled_last,
    each_of_several_watchers_is_woken,
}

/// A task that sleeps, not only one who asks later.
fn changed_wakes_on_every_change(subject: &Subject) {
    in_each_runtime(async || {
        let watcher = Arc::new(open(subject).await);
        for round in 0..5 {
            let asleep = Arc::clone(&watcher);
            let task = tokio::spawn(async move { asleep.changed().await });
            expect_pending(watcher.changed(), "the generation has not changed").await;
            assert!(!task.is_finished());
            let generation = subject.change();
            let told = soon(task, "the generation changed").await.unwrap();
            assert_eq!(told.unwrap(), generation, "round {round}");
            watcher.acknowledge(generation).unwrap();
        }
    });
}

/// Asking does not end it.
fn changed_tells_again_until_it_is_acknowledged(subject: &Subject) {
    in_each_runtime(async || {
        let watcher = open(subject).await;
        let generation = subject.change();
        for _ in 0..3 {
            let told = soon(watcher.changed(), "it is outdated").await;
            assert_eq!(told.unwrap(), generation);
        }
        watcher.acknowledge(generation).unwrap();
        expect_pending(watcher.changed(), "it has acknowledged").await;
    });
}

/// A service may come late to its runtime.
fn watcher_that_was_outdated_when_registered_is_told(subject: &Subject) {
    in_each_runtime(async || {
        let watcher = subject.watcher();
        let generation = subject.change();
        let watcher = register(watcher);
        let told = soon(watcher.changed(), "it is outdated").await;
        assert_eq!(told.unwrap(), generation);
    });
}

/// The fault of the posted drivers, which a descriptor of their own has in every event loop.
fn watcher_that_was_outdated_when_registered_is_woken_again(subject: &Subject) {
    in_each_runtime(async || {
        let watcher = subject.watcher();
        subject.change();
        let watcher = register(watcher);
        for round in 0..4 {
            handle_change(&watcher, &format!("round {round}")).await;
            expect_pending(watcher.changed(), "it has acknowledged").await;
            subject.change();
        }
    });
}

fn several_tasks_on_one_watcher_are_all_woken(subject: &Subject) {
    in_each_runtime(async || {
        let watcher = Arc::new(open(subject).await);
        for _ in 0..3 {
            let tasks: Vec<_> = (0..5)
                .map(|_| {
                    let watcher = Arc::clone(&watcher);
                    tokio::spawn(async move { watcher.changed().await })
                })
                .collect();
            expect_pending(watcher.changed(), "the generation has not changed").await;
            let generation = subject.change();
            for (number, task) in tasks.into_iter().enumerate() {
                let told = soon(task, &format!("task {number}")).await.unwrap();
                assert_eq!(told.unwrap(), generation);
            }
            watcher.acknowledge(generation).unwrap();
        }
    });
}

/// The watcher is up to date, whoever waits with it.
fn acknowledgement_in_one_task_is_that_of_all(subject: &Subject) {
    in_each_runtime(async || {
        let watcher = Arc::new(open(subject).await);
        subject.change();
        let handler = Arc::clone(&watcher);
        let task = tokio::spawn(async move { handle_change(&handler, "it is outdated").await });
        soon(task, "it is outdated").await.unwrap();
        expect_pending(watcher.changed(), "another task has acknowledged").await;
        handle_next(subject, &watcher).await;
    });
}

async fn handle_next(subject: &Subject, watcher: &sysgenid_tokio::Watcher) {
    let generation = subject.change();
    let handled = handle_change(watcher, "the generation changed").await;
    assert_eq!(handled, generation);
}

/// It is told the newer generation, without another change.
fn stale_acknowledgement_leaves_it_ready(subject: &Subject) {
    in_each_runtime(async || {
        let watcher = open(subject).await;
        subject.change();
        let early = soon(watcher.changed(), "it is outdated").await.unwrap();
        let generation = subject.change();
        let error = watcher.acknowledge(early).unwrap_err();
        assert!(error.is_stale(), "{error}");
        assert_eq!(error.current(), Some(generation));
        assert_eq!(handle_change(&watcher, "it is outdated").await, generation);
    });
}

/// The wake-up that comes late is for nothing, and the next one is not.
fn acknowledging_what_was_seen_in_the_page_is_enough(subject: &Subject) {
    in_each_runtime(async || {
        let watcher = open(subject).await;
        for _ in 0..5 {
            let generation = subject.change();
            assert_eq!(watcher.generation(), generation);
            watcher.acknowledge(generation).unwrap();
            expect_pending(watcher.changed(), "it has acknowledged").await;
        }
        handle_next(subject, &watcher).await;
    });
}

fn poll_changed_wakes_the_task_that_polled_last(subject: &Subject) {
    in_each_runtime(async || {
        let watcher = open(subject).await;
        let mut polls = 0;
        let changed = std::future::poll_fn(|context| {
            polls += 1;
            let polled = watcher.poll_changed(context);
            if polls == 1 {
                assert!(polled.is_pending(), "the generation has not changed");
                subject.change();
            }
            match polled {
                Poll::Ready(changed) => Poll::Ready(changed),
                Poll::Pending => Poll::Pending,
            }
        });
        let told: Generation = soon(changed, "the generation changed").await.unwrap();
        watcher.acknowledge(told).unwrap();
        assert!(polls >= 2, "it was woken");
    });
}

fn each_of_several_watchers_is_woken(subject: &Subject) {
    in_each_runtime(async || {
        let mut tasks = Vec::new();
        for _ in 0..8 {
            let watcher = open(subject).await;
            tasks.push(tokio::spawn(async move {
                handle_change(&watcher, "the generation changed").await
            }));
        }
        let generation = subject.change();
        for task in tasks {
            assert_eq!(soon(task, "it is woken").await.unwrap(), generation);
        }
        subject.expect_settled("all have acknowledged");
    });
}
