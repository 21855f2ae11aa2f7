// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Triggering a change and waiting for those who handle it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sysgenid::Deadline;
use tokio::time::timeout;

use crate::scene::{PATIENCE, SOON, Scene, in_both, one_thread};

#[test]
fn nobody_to_wait_for_is_no_wait() {
    in_both(async || {
        let scene = Scene::new();
        let orchestrator = scene.orchestrator().await;
        let _up_to_date = scene.watcher().await;
        for deadline in [Deadline::from(Duration::ZERO), Deadline::NEVER] {
            orchestrator.wait_for_watchers(deadline).await.unwrap();
        }
    });
}

#[test]
fn the_wait_ends_with_the_last_acknowledgement() {
    in_both(async || {
        let scene = Scene::new();
        let orchestrator = scene.orchestrator().await;
        let watchers = [scene.watcher().await, scene.watcher().await];
        let generation = orchestrator.trigger().await.unwrap();
        orchestrator.acknowledge().unwrap();
        let mut wait = std::pin::pin!(orchestrator.wait_for_watchers(PATIENCE));
        for watcher in &watchers {
            assert!(timeout(Duration::from_millis(30), &mut wait).await.is_err());
            watcher.acknowledge(generation).unwrap();
        }
        timeout(SOON, wait).await.expect("in time").unwrap();
    });
}

#[test]
fn the_deadline_passes_and_the_stragglers_are_named() {
    in_both(async || {
        let scene = Scene::new();
        let orchestrator = scene.orchestrator().await;
        let watcher = scene.watcher().await;
        let generation = orchestrator.trigger_at_least(7).await.unwrap();
        assert_eq!(generation.get(), 7);
        assert_eq!(orchestrator.generation(), generation);
        orchestrator.acknowledge().unwrap();
        for limit in [0, 30, 130, 250].map(Duration::from_millis) {
            let began = Instant::now();
            let error = orchestrator.wait_for_watchers(limit).await.unwrap_err();
            let took = began.elapsed();
            assert!(error.is_timeout(), "{error}");
            assert_eq!(error.path(), Some(scene.path()));
            assert!(took >= limit, "{took:?} of {limit:?}");
            assert!(took < limit + SOON, "{took:?} of {limit:?}");
        }
        let stragglers = orchestrator.stragglers().await.unwrap();
        assert_eq!(stragglers.len(), 1);
        assert_eq!(stragglers.first().unwrap().acknowledged.get(), 0);
        watcher.acknowledge(generation).unwrap();
        assert_eq!(orchestrator.stragglers().await.unwrap(), []);
    });
}

#[test]
fn a_change_interrupts_the_wait() {
    in_both(async || {
        let scene = Scene::new();
        let orchestrator = Arc::new(scene.orchestrator().await);
        let _straggler = scene.watcher().await;
        orchestrator.trigger().await.unwrap();
        let error = orchestrator.wait_for_watchers(PATIENCE).await.unwrap_err();
        assert!(error.is_outdated(), "{error}");

        orchestrator.acknowledge().unwrap();
        let waiting = Arc::clone(&orchestrator);
        let waiting = tokio::spawn(async move { waiting.wait_for_watchers(PATIENCE).await });
        tokio::time::sleep(Duration::from_millis(30)).await;
        // With the same orchestrator, while it waits.
        let generation = orchestrator.trigger().await.unwrap();
        let error = timeout(SOON, waiting).await.unwrap().unwrap().unwrap_err();
        assert!(error.is_outdated(), "{error}");
        assert_eq!(orchestrator.changed().await.unwrap(), generation);
    });
}

#[test]
fn several_tasks_wait_with_one_orchestrator() {
    in_both(async || {
        let scene = Scene::new();
        let orchestrator = Arc::new(scene.orchestrator().await);
        let watcher = scene.watcher().await;
        let generation = orchestrator.trigger().await.unwrap();
        orchestrator.acknowledge().unwrap();
        let waiting: Vec<_> = (0..10)
            .map(|_| {
                let waiting = Arc::clone(&orchestrator);
                tokio::spawn(async move { waiting.wait_for_watchers(PATIENCE).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(30)).await;
        // Those who have no turn have their deadlines.
        let error = orchestrator.wait_for_watchers(SOON / 100).await;
        assert!(error.unwrap_err().is_timeout());
        watcher.acknowledge(generation).unwrap();
        for task in waiting {
            timeout(SOON, task).await.unwrap().unwrap().unwrap();
        }
    });
}

#[test]
fn settling_rebuilds_first_and_starts_over_when_the_generation_moves() {
    in_both(async || {
        let scene = Scene::new();
        let orchestrator = scene.orchestrator().await;
        let service = scene.watcher().await;
        let serving = tokio::spawn(async move {
            loop {
                let rotated = service.handle(async |_| std::io::Result::Ok(())).await;
                rotated.unwrap();
            }
        });
        scene.trigger();
        let mut seen = Vec::new();
        let settled = orchestrator.settle(PATIENCE, |generation| {
            seen.push(generation.get());
            if seen.len() == 1 {
                scene.trigger();
            }
            async { std::io::Result::Ok(()) }
        });
        assert_eq!(settled.await.unwrap().generation.get(), 2);
        assert_eq!(seen, [1, 2]);
        let settled = orchestrator.settle(PATIENCE, async |_| -> std::io::Result<()> {
            panic!("nothing has changed")
        });
        assert_eq!(settled.await.unwrap().generation.get(), 2);
        serving.abort();
    });
}

#[test]
fn settling_starts_over_when_a_change_interrupts_the_wait() {
    in_both(async || {
        let scene = Scene::new();
        let orchestrator = scene.orchestrator().await;
        let straggler = scene.watcher().await;
        scene.trigger();
        let seen = Mutex::new(Vec::new());
        let settle = orchestrator.settle(PATIENCE, async |generation| {
            seen.lock().unwrap().push(generation.get());
            std::io::Result::Ok(())
        });
        let (settled, ()) = tokio::join!(settle, async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            let generation = scene.trigger();
            while seen.lock().unwrap().len() < 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            straggler.acknowledge(generation).unwrap();
        });
        assert_eq!(settled.unwrap().generation.get(), 2);
        assert_eq!(*seen.lock().unwrap(), [1, 2]);
    });
}

#[test]
fn settling_fails_as_its_parts_do() {
    in_both(async || {
        let scene = Scene::new();
        let orchestrator = scene.orchestrator().await;
        let _straggler = scene.watcher().await;
        scene.trigger();
        let failed = orchestrator.settle(PATIENCE, async |_| Err(std::io::Error::other("no key")));
        assert!(failed.await.unwrap_err().is_rebuild());
        let rebuild = async |_| std::io::Result::Ok(());
        let late = orchestrator.settle(Duration::from_millis(30), rebuild);
        assert!(late.await.unwrap_err().is_timeout());

        // The generation never rests: not `is_outdated`, which says nothing to the caller.
        let restless = orchestrator.settle(Duration::from_millis(50), |_| {
            scene.trigger();
            async { std::io::Result::Ok(()) }
        });
        scene.trigger();
        assert!(restless.await.unwrap_err().is_timeout());
    });
}

/// Without anything to wait for, as long as the generation moves.
#[test]
fn settling_lets_others_run() {
    one_thread().block_on(async {
        let scene = Scene::new();
        let orchestrator = scene.orchestrator().await;
        scene.trigger();
        let other = tokio::spawn(tokio::task::yield_now());
        let mut rounds = 0;
        let settled = orchestrator.settle(PATIENCE, |_| {
            rounds += 1;
            if rounds < 1_000 {
                scene.trigger();
            } else {
                assert!(other.is_finished());
            }
            async { std::io::Result::Ok(()) }
        });
        assert_eq!(settled.await.unwrap().generation.get(), 1_000);
    });
}

#[test]
fn a_broker_lost_during_the_wait_is_told_and_found_again() {
    in_both(async || {
        let mut scene = Scene::new();
        let mut orchestrator = scene.orchestrator().await;
        let _straggler = scene.watcher().await;
        orchestrator.trigger().await.unwrap();
        orchestrator.acknowledge().unwrap();
        let lost = async {
            tokio::join!(orchestrator.wait_for_watchers(PATIENCE), async {
                tokio::time::sleep(Duration::from_millis(30)).await;
                scene.end_broker();
            })
        };
        let (lost, ()) = timeout(SOON, lost).await.unwrap();
        assert!(lost.unwrap_err().is_lost());
        assert!(orchestrator.changed().await.unwrap_err().is_lost());
        assert!(orchestrator.trigger().await.unwrap_err().is_lost());
        assert!(orchestrator.stragglers().await.unwrap_err().is_lost());
        assert!(
            orchestrator
                .reconnect(Duration::ZERO)
                .await
                .unwrap_err()
                .is_lost()
        );

        scene.start_broker();
        orchestrator.reconnect(PATIENCE).await.unwrap();
        orchestrator.wait_for_watchers(PATIENCE).await.unwrap();
        let generation = orchestrator.trigger().await.unwrap();
        assert_eq!(orchestrator.changed().await.unwrap(), generation);
    });
}

#[test]
fn a_shared_orchestrator_is_not_reconnected() {
    in_both(async || {
        let scene = Scene::new();
        let shared = Arc::new(sysgenid::Orchestrator::open_at(scene.path()).unwrap());
        let mut orchestrator = sysgenid_tokio::AsyncOrchestrator::new(shared.clone()).unwrap();
        let error = orchestrator.reconnect(Duration::ZERO).await.unwrap_err();
        assert!(error.is_unsupported(), "{error}");
        drop(shared);
        orchestrator.reconnect(PATIENCE).await.unwrap();
        let _taken_out: Arc<sysgenid::Orchestrator> = orchestrator.into();
    });
}
