// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Waiting for all others, without holding up the executor.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::runtime::{
    expect_pending, handle_change, in_each_runtime, open, open_orchestrator, soon,
};
use crate::background::PATIENCE;
use crate::cases;
use crate::typed::{SOON, Subject, catch_up};

cases! { Subject;
    orchestrator_waits_until_all_have_acknowledged,
    wait_for_watchers_holds_up_no_other_task,
    wait_for_watchers_ends_at_its_deadline,
    wait_for_watchers_that_is_dropped_leaves_the_orchestrator_usable,
    outdated_orchestrator_does_not_wait,
    orchestrator_is_woken_by_a_change,
    settle_rebuilds_and_waits_for_all,
    settle_starts_over_when_the_generation_moved,
}

fn orchestrator_waits_until_all_have_acknowledged(subject: &Subject) {
    in_each_runtime(async || {
        let watcher = open(subject).await;
        let orchestrator = open_orchestrator(subject).await;
        let generation = soon(orchestrator.trigger(), "its owner may").await.unwrap();
        orchestrator.acknowledge().unwrap();
        let orchestrator = Arc::new(orchestrator);
        let waiting = Arc::clone(&orchestrator);
        let wait = tokio::spawn(async move { waiting.wait_for_watchers(PATIENCE).await });
        expect_pending(sleep(PATIENCE), "a watcher is outdated").await;
        assert!(!wait.is_finished(), "a watcher is outdated");
        assert_eq!(handle_change(&watcher, "it is outdated").await, generation);
        soon(wait, "all have acknowledged").await.unwrap().unwrap();
    });
}

/// In a runtime of one thread that one must be free: the watcher that is waited for is handled there.
fn wait_for_watchers_holds_up_no_other_task(subject: &Subject) {
    in_each_runtime(async || {
        let watcher = open(subject).await;
        let handler = tokio::spawn(async move {
            let generation = watcher.changed().await.unwrap();
            sleep(SOON).await;
            watcher.acknowledge(generation).unwrap();
            watcher
        });
        let orchestrator = open_orchestrator(subject).await;
        soon(orchestrator.trigger(), "its owner may").await.unwrap();
        orchestrator.acknowledge().unwrap();
        orchestrator.wait_for_watchers(PATIENCE).await.unwrap();
        soon(handler, "it has acknowledged").await.unwrap();
    });
}

fn wait_for_watchers_ends_at_its_deadline(subject: &Subject) {
    in_each_runtime(async || {
        let straggler = subject.straggler();
        let orchestrator = open_orchestrator(subject).await;
        let waited = orchestrator.wait_for_watchers(SOON);
        let error = soon(waited, "the deadline passes").await.unwrap_err();
        assert!(error.is_timeout(), "{error}");
        catch_up(&straggler);
        orchestrator.wait_for_watchers(PATIENCE).await.unwrap();
    });
}

/// At once, and not when the call that it had made has ended.
fn wait_for_watchers_that_is_dropped_leaves_the_orchestrator_usable(subject: &Subject) {
    in_each_runtime(async || {
        let straggler = subject.straggler();
        let orchestrator = open_orchestrator(subject).await;
        for _ in 0..5 {
            tokio::select! {
                waited = orchestrator.wait_for_watchers(PATIENCE) => {
                    panic!("a watcher is outdated: {waited:?}")
                }
                () = sleep(Duration::from_millis(20)) => {}
            }
        }
        catch_up(&straggler);
        let waited = orchestrator.wait_for_watchers(PATIENCE);
        soon(waited, "all have acknowledged").await.unwrap();
        soon(orchestrator.trigger(), "its owner may").await.unwrap();
        orchestrator.acknowledge().unwrap();
        catch_up(&straggler);
    });
}

/// It rebuilds first.
fn outdated_orchestrator_does_not_wait(subject: &Subject) {
    in_each_runtime(async || {
        let orchestrator = open_orchestrator(subject).await;
        soon(orchestrator.trigger(), "its owner may").await.unwrap();
        let waited = orchestrator.wait_for_watchers(PATIENCE);
        let error = soon(waited, "it is outdated itself").await.unwrap_err();
        assert!(error.is_outdated(), "{error}");
    });
}

fn orchestrator_is_woken_by_a_change(subject: &Subject) {
    in_each_runtime(async || {
        let orchestrator = open_orchestrator(subject).await;
        for _ in 0..3 {
            expect_pending(orchestrator.changed(), "the generation has not changed").await;
            let generation = subject.change();
            let told = soon(orchestrator.changed(), "the generation changed").await;
            assert_eq!(told.unwrap(), generation);
            assert_eq!(orchestrator.acknowledge().unwrap(), generation);
        }
    });
}

fn settle_rebuilds_and_waits_for_all(subject: &Subject) {
    in_each_runtime(async || {
        let watcher = open(subject).await;
        let handler = tokio::spawn(async move {
            handle_change(&watcher, "the generation changed").await;
            watcher
        });
        let orchestrator = open_orchestrator(subject).await;
        let generation = soon(orchestrator.trigger(), "its owner may").await.unwrap();
        let mut rebuilt = Vec::new();
        let settled = orchestrator.settle(PATIENCE, |generation| {
            rebuilt.push(generation);
            async { Ok::<_, Infallible>(()) }
        });
        let settled = soon(settled, "all acknowledge").await.unwrap();
        assert_eq!(settled.generation, generation);
        assert_eq!(rebuilt, [generation]);
        soon(handler, "it has acknowledged").await.unwrap();
    });
}

fn settle_starts_over_when_the_generation_moved(subject: &Subject) {
    in_each_runtime(async || {
        let orchestrator = open_orchestrator(subject).await;
        soon(orchestrator.trigger(), "its owner may").await.unwrap();
        let mut rebuilt = Vec::new();
        let settled = orchestrator.settle(PATIENCE, |generation| {
            rebuilt.push(generation);
            if rebuilt.len() < 3 {
                subject.change();
            }
            async { Ok::<_, Infallible>(()) }
        });
        let settled = soon(settled, "all acknowledge").await.unwrap();
        assert_eq!(rebuilt.len(), 3);
        assert_eq!(rebuilt.last(), Some(&settled.generation));
    });
}
