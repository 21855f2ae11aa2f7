// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Futures that are dropped at each point where they wait lose nothing.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use crate::scene::{PATIENCE, SOON, Scene, in_both, poll_once};

/// Polls a future once, twice, and so on, a moment apart, and drops it, until one comes to its end.
/// Looks after each that was dropped.
async fn drop_at_each_point<F: Future>(
    mut future: impl FnMut() -> F,
    mut look: impl AsyncFnMut(usize),
) -> F::Output {
    for polls in 1..1_000 {
        let mut future = Box::pin(future());
        for poll in 0..polls {
            if poll > 0 {
                sleep(Duration::from_micros(300)).await;
            }
            if let std::task::Poll::Ready(output) = poll_once(future.as_mut()) {
                return output;
            }
        }
        drop(future);
        look(polls).await;
    }
    panic!("it never ends")
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let held = async {
        while !holds() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(timeout(PATIENCE, held).await.is_ok(), "{what}");
}

fn watchers(scene: &Scene) -> u32 {
    let status = sysgenid::Source::at(scene.path()).unwrap().status(PATIENCE);
    status.unwrap().watchers.unwrap().total
}

#[test]
fn opening() {
    in_both(async || {
        let scene = Scene::new();
        let before = watchers(&scene);
        let open = || sysgenid_tokio::Watcher::open_at(scene.path());
        let opened = drop_at_each_point(open, async |_| {
            eventually("it is closed", || watchers(&scene) == before).await;
        });
        let watcher = opened.await.unwrap();
        // A call that was dropped early may not have opened its own before that was looked at.
        eventually("it alone is open", || watchers(&scene) == before + 1).await;
        drop(watcher);
        let open = || sysgenid_tokio::AsyncOrchestrator::open_at(scene.path());
        let opened = drop_at_each_point(open, async |_| {
            eventually("it is closed", || watchers(&scene) == before).await;
        });
        drop(opened.await.unwrap());
        eventually("none is open", || watchers(&scene) == before).await;
    });
}

#[test]
fn waiting_for_a_change() {
    in_both(async || {
        let scene = Scene::new();
        let watcher = scene.watcher().await;
        for round in 0..200 {
            let waiting = watcher.changed();
            {
                let mut waiting = pin!(waiting);
                assert!(poll_once(waiting.as_mut()).is_pending());
                scene.trigger();
                // Dropped before, or while, the runtime learns of it, or when it has been woken.
                for _ in 0..round % 4 {
                    yield_now().await;
                }
            }
            let told = timeout(SOON, watcher.changed())
                .await
                .expect("lost")
                .unwrap();
            watcher.acknowledge(told).unwrap();
        }
    });
}

#[test]
fn a_loop_of_select() {
    in_both(async || {
        let scene = Scene::new();
        let watcher = scene.watcher().await;
        let acknowledged = AtomicU32::new(0);
        let serving = async {
            loop {
                tokio::select! {
                    told = watcher.changed() => {
                        if watcher.acknowledge(told.unwrap()).is_ok() {
                            acknowledged.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    () = yield_now() => {}
                    () = sleep(Duration::from_micros(10)) => {}
                }
            }
        };
        let driving = async {
            for round in 1..=100 {
                scene.trigger();
                eventually("each change is handled", || {
                    acknowledged.load(Ordering::Relaxed) == round
                })
                .await;
            }
        };
        tokio::select! {
            () = serving => {}
            () = driving => {}
        }
    });
}

#[test]
fn handling() {
    in_both(async || {
        let scene = Scene::new();
        let watcher = scene.watcher().await;
        let generation = scene.trigger();
        let rebuilt = AtomicU32::new(0);
        let handle = || {
            watcher.handle(async |_| {
                for _ in 0..5 {
                    yield_now().await;
                }
                rebuilt.fetch_add(1, Ordering::Relaxed);
                std::io::Result::Ok(())
            })
        };
        let handled = drop_at_each_point(handle, async |_| {
            // It was dropped within the rebuild at the latest: nothing is acknowledged.
            assert_eq!(rebuilt.load(Ordering::Relaxed), 0);
            assert_eq!(watcher.try_changed().unwrap(), Some(generation));
            assert_eq!(scene.outdated(), 1);
        });
        assert_eq!(handled.await.unwrap(), generation);
        assert_eq!(rebuilt.load(Ordering::Relaxed), 1);
        assert_eq!(watcher.try_changed().unwrap(), None);
    });
}

#[test]
fn connecting_again() {
    in_both(async || {
        let mut scene = Scene::new();
        let mut watcher = scene.watcher().await;
        scene.end_broker();
        assert!(watcher.changed().await.unwrap_err().is_lost());
        scene.start_broker();
        let generation = scene.trigger();
        for polls in 1.. {
            let mut reconnecting = Box::pin(watcher.reconnect(PATIENCE));
            let mut is_done = false;
            for _ in 0..polls {
                is_done = poll_once(reconnecting.as_mut()).is_ready();
                if is_done {
                    break;
                }
                sleep(Duration::from_micros(300)).await;
            }
            drop(reconnecting);
            if is_done {
                break;
            }
            // As it was.
            assert!(watcher.try_changed().unwrap_err().is_lost());
        }
        assert_eq!(watcher.changed().await.unwrap(), generation);
        eventually("connections that were given up are closed", || {
            watchers(&scene) == 2
        })
        .await;
        assert_eq!(scene.outdated(), 1);

        let mut orchestrator = scene.orchestrator().await;
        for _ in 0..10 {
            let _ = poll_once(pin!(orchestrator.reconnect(PATIENCE)));
        }
        orchestrator.reconnect(PATIENCE).await.unwrap();
        let generation = scene.trigger();
        assert_eq!(orchestrator.changed().await.unwrap(), generation);

        // Right after a wait that was given up.
        orchestrator.acknowledge().unwrap();
        let wait = orchestrator.wait_for_watchers(PATIENCE);
        assert!(timeout(Duration::from_millis(5), wait).await.is_err());
        orchestrator.reconnect(PATIENCE).await.unwrap();
    });
}

#[test]
fn triggering_and_listing() {
    in_both(async || {
        let scene = Scene::new();
        let orchestrator = scene.orchestrator().await;
        let _straggler = scene.watcher().await;
        let _ = poll_once(pin!(orchestrator.trigger()));
        eventually("it is triggered all the same", || {
            orchestrator.generation().get() == 1
        })
        .await;
        for _ in 0..20 {
            let _ = poll_once(pin!(orchestrator.stragglers()));
        }
        assert_eq!(orchestrator.stragglers().await.unwrap().len(), 1);
        assert_eq!(orchestrator.trigger().await.unwrap().get(), 2);
    });
}

#[test]
fn waiting_for_watchers() {
    in_both(async || {
        let scene = Scene::new();
        let orchestrator = scene.orchestrator().await;
        let watcher = scene.watcher().await;
        let generation = orchestrator.trigger().await.unwrap();
        orchestrator.acknowledge().unwrap();
        let wait = || orchestrator.wait_for_watchers(PATIENCE);
        let waited = drop_at_each_point(wait, async |polls| {
            if polls == 20 {
                watcher.acknowledge(generation).unwrap();
            }
            // The connection is free for a wait of another kind.
            if polls % 5 == 0 {
                let late = orchestrator
                    .wait_for_watchers(Duration::from_millis(5))
                    .await;
                assert!(late.is_ok() == (polls >= 20), "{polls}: {late:?}");
            }
        });
        waited.await.unwrap();

        let generation = orchestrator.trigger().await.unwrap();
        orchestrator.acknowledge().unwrap();
        let limited = timeout(
            Duration::from_millis(20),
            orchestrator.wait_for_watchers(PATIENCE),
        );
        assert!(limited.await.is_err());
        watcher.acknowledge(generation).unwrap();
        let waited = timeout(SOON, orchestrator.wait_for_watchers(PATIENCE)).await;
        waited.expect("the next wait works").unwrap();
    });
}

#[test]
fn settling() {
    in_both(async || {
        let scene = Scene::new();
        let orchestrator = Arc::new(scene.orchestrator().await);
        let watcher = scene.watcher().await;
        let generation = scene.trigger();
        let rebuilt = AtomicU32::new(0);
        let settle = || {
            orchestrator.settle(PATIENCE, async |_| {
                yield_now().await;
                yield_now().await;
                rebuilt.fetch_add(1, Ordering::Relaxed);
                std::io::Result::Ok(())
            })
        };
        let settled = drop_at_each_point(settle, async |polls| {
            // Before the end of the rebuild nothing is acknowledged; after it, it is not repeated.
            let own = orchestrator.as_ref().as_ref().watcher();
            let is_outdated = own.try_changed().unwrap().is_some();
            assert_eq!(is_outdated, rebuilt.load(Ordering::Relaxed) == 0);
            if polls == 20 {
                watcher.acknowledge(generation).unwrap();
            }
        });
        assert_eq!(settled.await.unwrap().generation, generation);
        assert_eq!(rebuilt.load(Ordering::Relaxed), 1);

        // Aborted, as a task.
        let generation = scene.trigger();
        let settling = Arc::clone(&orchestrator);
        let task = tokio::spawn(async move {
            let rebuild = async |_| std::io::Result::Ok(());
            settling.settle(PATIENCE, rebuild).await
        });
        sleep(Duration::from_millis(20)).await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        watcher.acknowledge(generation).unwrap();
        let rebuild = async |_| std::io::Result::Ok(());
        let settled = timeout(SOON, orchestrator.settle(PATIENCE, rebuild)).await;
        assert_eq!(settled.unwrap().unwrap().generation, generation);
    });
}
