// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What only the userspace driver has: it can end, and come back. Each case has one of its own.

use tokio::time::sleep;
use tokio_stream::StreamExt;

use super::runtime::{
    expect_pending, handle_change, in_each_runtime, open, open_orchestrator, soon,
};
use crate::background::PATIENCE;
use crate::cases;
use crate::typed::{Own, SOON, Subject, catch_up};

cases! { Subject;
    lost_broker_wakes_whoever_waits,
    lost_broker_ends_a_wait_for_watchers,
    lost_broker_ends_the_stream_until_it_is_back,
    reconnected_watcher_is_woken_again,
    reconnected_watcher_is_told_what_it_missed,
    reconnected_orchestrator_goes_on,
}

fn lost_broker_wakes_whoever_waits(_: &Subject) {
    in_each_runtime(async || {
        let mut own = Own::start();
        let watcher = std::sync::Arc::new(open(own.subject()).await);
        let asleep = std::sync::Arc::clone(&watcher);
        let wait = tokio::spawn(async move { asleep.changed().await });
        expect_pending(watcher.changed(), "the generation has not changed").await;
        own.stop();
        let error = soon(wait, "the broker has ended").await.unwrap();
        assert!(error.unwrap_err().is_lost());
        let error = soon(watcher.changed(), "the broker has ended").await;
        assert!(error.unwrap_err().is_lost(), "each time it is asked");
    });
}

/// Nobody must take the silence for an answer.
fn lost_broker_ends_a_wait_for_watchers(_: &Subject) {
    in_each_runtime(async || {
        let mut own = Own::start();
        let _straggler = own.subject().straggler();
        let orchestrator = open_orchestrator(own.subject()).await;
        let wait = tokio::spawn(async move { orchestrator.wait_for_watchers(PATIENCE).await });
        sleep(SOON).await;
        assert!(!wait.is_finished(), "a tracked watcher is outdated");
        own.stop();
        let error = soon(wait, "the broker has ended").await.unwrap();
        assert!(error.unwrap_err().is_lost());
    });
}

fn lost_broker_ends_the_stream_until_it_is_back(_: &Subject) {
    in_each_runtime(async || {
        let mut own = Own::start();
        let mut watcher = open(own.subject()).await;
        own.stop();
        let told = soon(watcher.next(), "the broker has ended").await;
        assert!(told.unwrap().unwrap_err().is_lost());
        assert!(soon(watcher.next(), "it has told").await.is_none());
        own.restart();
        watcher.reconnect(PATIENCE).await.unwrap();
        let generation = own.subject().change();
        let told = soon(watcher.next(), "the generation changed").await;
        assert_eq!(told.unwrap().unwrap(), generation);
    });
}

fn reconnected_watcher_is_woken_again(_: &Subject) {
    in_each_runtime(async || {
        let mut own = Own::start();
        let mut watcher = open(own.subject()).await;
        for _ in 0..3 {
            own.stop();
            let told = soon(watcher.changed(), "the broker has ended").await;
            assert!(told.unwrap_err().is_lost());
            own.restart();
            watcher.reconnect(PATIENCE).await.unwrap();
            expect_pending(watcher.changed(), "it has missed nothing").await;
            own.subject().change();
            handle_change(&watcher, "the generation changed").await;
        }
    });
}

/// Before the broker ended, or after it came back.
fn reconnected_watcher_is_told_what_it_missed(_: &Subject) {
    in_each_runtime(async || {
        let mut own = Own::start();
        let (mut early, mut late) = (open(own.subject()).await, open(own.subject()).await);
        own.subject().change();
        handle_change(&late, "the generation changed").await;
        own.stop();
        own.restart();
        early.reconnect(PATIENCE).await.unwrap();
        let generation = own.subject().change();
        late.reconnect(PATIENCE).await.unwrap();
        for watcher in [&early, &late] {
            assert_eq!(handle_change(watcher, "it is outdated").await, generation);
        }
        own.subject().expect_settled("both have acknowledged");
    });
}

fn reconnected_orchestrator_goes_on(_: &Subject) {
    in_each_runtime(async || {
        let mut own = Own::start();
        let mut orchestrator = open_orchestrator(own.subject()).await;
        own.stop();
        let triggered = soon(orchestrator.trigger(), "the broker has ended").await;
        assert!(triggered.unwrap_err().is_lost());
        own.restart();
        orchestrator.reconnect(PATIENCE).await.unwrap();
        let straggler = own.subject().watcher();
        soon(orchestrator.trigger(), "the broker is back")
            .await
            .unwrap();
        orchestrator.acknowledge().unwrap();
        catch_up(&straggler);
        let waited = orchestrator.wait_for_watchers(PATIENCE);
        soon(waited, "all have acknowledged").await.unwrap();
    });
}
