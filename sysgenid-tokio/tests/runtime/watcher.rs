// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Waiting for a change and acknowledging it.

use std::error::Error;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Wake};
use std::time::Duration;

use sysgenid_tokio::Watcher;
use tokio::time::timeout;

use crate::scene::{PATIENCE, SOON, Scene, in_both};

#[test]
fn a_change_wakes_who_waits() {
    in_both(async || {
        let scene = Scene::new();
        let watcher = Arc::new(scene.watcher().await);
        for _ in 0..100 {
            let waiting = Arc::clone(&watcher);
            let waiting = tokio::spawn(async move { waiting.changed().await });
            tokio::task::yield_now().await;
            let generation = scene.trigger();
            assert_eq!(waiting.await.unwrap().unwrap(), generation);
            watcher.acknowledge(generation).unwrap();
        }
    });
}

#[test]
fn an_outdated_watcher_tells_at_once_and_again() {
    in_both(async || {
        let scene = Scene::new();
        let watcher = scene.watcher().await;
        let generation = scene.trigger();
        for _ in 0..3 {
            assert_eq!(watcher.changed().await.unwrap(), generation);
            let polled = poll_fn(|cx| watcher.poll_changed(cx)).await;
            assert_eq!(polled.unwrap(), generation);
            assert_eq!(watcher.try_changed().unwrap(), Some(generation));
        }
        watcher.acknowledge(generation).unwrap();
        assert_eq!(watcher.try_changed().unwrap(), None);
        assert_eq!(watcher.generation(), generation);
        let waited = timeout(Duration::from_millis(20), watcher.changed()).await;
        assert!(waited.is_err(), "{waited:?}");
    });
}

#[test]
fn all_tasks_that_wait_are_woken() {
    in_both(async || {
        let scene = Scene::new();
        let watcher = Arc::new(scene.watcher().await);
        let waiting: Vec<_> = (0..50)
            .map(|_| {
                let watcher = Arc::clone(&watcher);
                tokio::spawn(async move { watcher.changed().await.unwrap() })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(10)).await;
        let generation = scene.trigger();
        for task in waiting {
            assert_eq!(task.await.unwrap(), generation);
        }
    });
}

/// One of them acknowledges while others have yet to look: they go on waiting, and nothing is lost.
#[test]
fn tasks_that_acknowledge_for_each_other_lose_no_change() {
    in_both(async || {
        let scene = Scene::new();
        let watcher = Arc::new(scene.watcher().await);
        let last = 300;
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let watcher = Arc::clone(&watcher);
                tokio::spawn(async move {
                    loop {
                        let generation = watcher.changed().await.unwrap();
                        match watcher.acknowledge(generation) {
                            Ok(()) if generation.get() == last => return,
                            Err(error) if !error.is_stale() => panic!("{error}"),
                            _ => {}
                        }
                    }
                })
            })
            .collect();
        for _ in 0..last {
            scene.trigger();
            tokio::task::yield_now().await;
        }
        // One of them acknowledged the last change; it is told the others by another.
        let settled = async {
            while scene.outdated() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, settled).await.expect("a lost wake-up");
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
    });
}

#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn only_the_last_that_polled_is_woken() {
    in_both(async || {
        let scene = Scene::new();
        let watcher = scene.watcher().await;
        let tasks = [(); 2].map(|()| Arc::new(Woken::default()));
        for task in &tasks {
            let waker = task.clone().into();
            let polled = watcher.poll_changed(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
        let [first, last] = tasks.each_ref().map(|task| &task.0);
        let generation = scene.trigger();
        while last.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(first.load(Ordering::SeqCst), 0);
        assert_eq!(watcher.changed().await.unwrap(), generation);
    });
}

/// A caller that never acknowledges and never waits for anything else.
#[test]
fn a_busy_loop_lets_others_run() {
    // Far more than the runtime lets a task do before another has its turn.
    const TURNS: u32 = 10_000;
    in_both(async || {
        let scene = Scene::new();
        let watcher = scene.watcher().await;
        scene.trigger();
        tokio::spawn(async move {
            let other = tokio::spawn(tokio::task::yield_now());
            for _ in 0..TURNS {
                watcher.changed().await.unwrap();
            }
            assert!(other.is_finished());
            let other = tokio::spawn(tokio::task::yield_now());
            for _ in 0..TURNS {
                poll_fn(|cx| watcher.poll_changed(cx)).await.unwrap();
            }
            assert!(other.is_finished());
        })
        .await
        .unwrap();
    });
}

#[test]
fn handling_starts_over_when_the_generation_moved() {
    in_both(async || {
        let scene = Scene::new();
        let watcher = scene.watcher().await;
        scene.trigger();
        let mut seen = Vec::new();
        let handled = watcher.handle(|generation| {
            seen.push(generation);
            if seen.len() == 1 {
                scene.trigger();
            }
            async { std::io::Result::Ok(()) }
        });
        let handled = handled.await.unwrap();
        assert_eq!(seen.iter().map(|it| it.get()).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(handled.get(), 2);
        assert_eq!(watcher.try_changed().unwrap(), None);
    });
}

#[test]
fn a_rebuild_that_fails_acknowledges_nothing() {
    in_both(async || {
        let scene = Scene::new();
        let watcher = scene.watcher().await;
        let generation = scene.trigger();
        let failed = watcher.handle(async |_| Err(std::io::Error::other("no entropy")));
        let error = failed.await.unwrap_err();
        assert!(error.is_rebuild(), "{error}");
        assert_eq!(error.source().unwrap().to_string(), "no entropy");
        assert_eq!(error.path(), Some(scene.path()));
        assert_eq!(watcher.changed().await.unwrap(), generation);
        assert_eq!(scene.outdated(), 1);
    });
}

#[test]
fn tracking_is_changed() {
    in_both(async || {
        let scene = Scene::new();
        let watcher = scene.watcher().await;
        scene.trigger();
        assert_eq!(scene.outdated(), 1);
        watcher.set_tracking(false).unwrap();
        assert_eq!(scene.outdated(), 0);
        watcher.set_tracking(true).unwrap();
        assert_eq!(scene.outdated(), 1);
    });
}

#[test]
fn options_and_the_probe_are_those_of_the_sdk() {
    in_both(async || {
        let scene = Scene::new();
        let source = sysgenid::Source::at(scene.path()).unwrap();
        let options = sysgenid::Watcher::options().tracked(false);
        let watcher = Watcher::open_on(options, source.clone()).await.unwrap();
        assert_eq!(watcher.source(), Some(&source));
        let probe = watcher.probe().unwrap();
        let generation = scene.trigger();
        assert_eq!(probe.generation(), generation);
        assert_eq!(scene.outdated(), 0);
        assert_eq!(watcher.changed().await.unwrap(), generation);
    });
}

#[test]
fn a_watcher_that_is_outdated_when_it_is_registered_tells() {
    in_both(async || {
        let scene = Scene::new();
        let watcher = sysgenid::Watcher::open_at(scene.path()).unwrap();
        let generation = scene.trigger();
        let watcher = Watcher::try_from(watcher).unwrap();
        assert_eq!(watcher.changed().await.unwrap(), generation);

        // Out of the runtime and in again.
        let watcher = Watcher::new(sysgenid::Watcher::from(watcher)).unwrap();
        assert_eq!(watcher.changed().await.unwrap(), generation);
        watcher.acknowledge(generation).unwrap();
        let generation = scene.trigger();
        assert_eq!(watcher.changed().await.unwrap(), generation);
    });
}

#[test]
fn a_lost_broker_is_told_to_all_and_found_again() {
    in_both(async || {
        let mut scene = Scene::new();
        let watcher = Arc::new(scene.watcher().await);
        let waiting: Vec<_> = (0..10)
            .map(|_| {
                let watcher = Arc::clone(&watcher);
                tokio::spawn(async move { watcher.changed().await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(10)).await;
        scene.end_broker();
        for task in waiting {
            let error = timeout(SOON, task).await.unwrap().unwrap().unwrap_err();
            assert!(error.is_lost(), "{error}");
        }
        let polled = poll_fn(|cx| watcher.poll_changed(cx)).await;
        assert!(polled.unwrap_err().is_lost());

        let mut watcher = Arc::into_inner(watcher).unwrap();
        assert!(
            watcher
                .reconnect(Duration::ZERO)
                .await
                .unwrap_err()
                .is_lost()
        );
        scene.start_broker();
        let generation = scene.trigger();
        watcher.reconnect(PATIENCE).await.unwrap();
        assert_eq!(watcher.changed().await.unwrap(), generation);
        assert_eq!(scene.outdated(), 1);
        watcher.acknowledge(generation).unwrap();
        let waited = timeout(Duration::from_millis(20), watcher.changed()).await;
        assert!(waited.is_err(), "{waited:?}");
        let generation = scene.trigger();
        assert_eq!(watcher.changed().await.unwrap(), generation);
    });
}
