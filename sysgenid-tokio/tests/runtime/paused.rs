// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Deadlines are those of the runtime's clock, which a test may pause.

use std::time::{Duration, Instant};

use sysgenid::Deadline;
use tokio::time;

use crate::scene::{PATIENCE, Scene};

const HOURS: Duration = Duration::from_secs(7 * 3_600);

#[tokio::test(start_paused = true)]
async fn a_deadline_passes_in_no_time() {
    let scene = Scene::new();
    let orchestrator = scene.orchestrator().await;
    let _straggler = scene.watcher().await;
    orchestrator.trigger().await.unwrap();
    orchestrator.acknowledge().unwrap();
    let (began, by_the_runtime) = (Instant::now(), time::Instant::now());
    let error = orchestrator.wait_for_watchers(HOURS).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert!(by_the_runtime.elapsed() >= HOURS);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());

    scene.trigger();
    let rebuild = async |_| std::io::Result::Ok(());
    let error = orchestrator.settle(HOURS, rebuild).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert!(by_the_runtime.elapsed() >= 2 * HOURS);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}

/// The clock jumps to the deadline before there is any answer.
#[tokio::test(start_paused = true)]
async fn who_has_acknowledged_before_the_deadline_is_no_straggler() {
    for _ in 0..20 {
        let scene = Scene::new();
        let orchestrator = scene.orchestrator().await;
        let watcher = scene.watcher().await;
        let generation = orchestrator.trigger().await.unwrap();
        orchestrator.acknowledge().unwrap();
        let (waited, ()) = tokio::join!(orchestrator.wait_for_watchers(HOURS), async {
            time::sleep(HOURS / 2).await;
            watcher.acknowledge(generation).unwrap();
        });
        waited.unwrap();
        for deadline in [Duration::ZERO, Duration::from_millis(1), HOURS] {
            orchestrator.wait_for_watchers(deadline).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn tasks_that_wait_together_are_told_the_same() {
    let scene = Scene::new();
    let orchestrator = scene.orchestrator().await;
    let watcher = scene.watcher().await;
    let generation = orchestrator.trigger().await.unwrap();
    orchestrator.acknowledge().unwrap();
    let wait = |limit| orchestrator.wait_for_watchers(limit);
    let (never, late) = (Deadline::NEVER, HOURS / 4);
    let (first, second, third, ()) =
        tokio::join!(wait(never), wait(HOURS.into()), wait(late.into()), async {
            time::sleep(HOURS / 2).await;
            watcher.acknowledge(generation).unwrap();
            time::sleep(HOURS).await;
        });
    first.unwrap();
    second.unwrap();
    assert!(third.unwrap_err().is_timeout());
}

#[tokio::test(start_paused = true)]
async fn who_acknowledges_after_the_deadline_is_one() {
    let scene = Scene::new();
    let orchestrator = scene.orchestrator().await;
    let watcher = scene.watcher().await;
    let generation = orchestrator.trigger().await.unwrap();
    orchestrator.acknowledge().unwrap();
    let waited = orchestrator.wait_for_watchers(HOURS).await;
    watcher.acknowledge(generation).unwrap();
    assert!(waited.unwrap_err().is_timeout());
}

/// The system's clock passes the deadline, and the runtime's does not.
#[tokio::test(start_paused = true)]
async fn the_systems_clock_is_not_the_deadlines() {
    let scene = Scene::new();
    let orchestrator = scene.orchestrator().await;
    let watcher = scene.watcher().await;
    let generation = orchestrator.trigger().await.unwrap();
    orchestrator.acknowledge().unwrap();
    // As long as a blocking task runs, a paused clock stands still.
    let still = tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(300)));
    let (waited, ()) = tokio::join!(
        orchestrator.wait_for_watchers(Duration::from_millis(50)),
        async {
            still.await.unwrap();
            watcher.acknowledge(generation).unwrap();
        }
    );
    waited.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_timeout_around_any_call_is_no_trap() {
    let scene = Scene::new();
    let moment = Duration::from_millis(1);
    let mut orchestrator = scene.orchestrator().await;
    let mut watcher = time::timeout(moment, scene.watcher()).await.unwrap();
    watcher.set_tracking(false).unwrap();
    time::timeout(moment, watcher.reconnect(Duration::from_secs(60)))
        .await
        .unwrap()
        .unwrap();
    time::timeout(moment, orchestrator.trigger())
        .await
        .unwrap()
        .unwrap();
    time::timeout(moment, orchestrator.stragglers())
        .await
        .unwrap()
        .unwrap();
    time::timeout(moment, orchestrator.reconnect(Duration::from_secs(60)))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_deadline_is_none() {
    let scene = Scene::new();
    let orchestrator = scene.orchestrator().await;
    let _straggler = scene.watcher().await;
    orchestrator.trigger().await.unwrap();
    orchestrator.acknowledge().unwrap();
    for never in [Deadline::NEVER, Duration::MAX.into()] {
        let waited = time::timeout(HOURS, orchestrator.wait_for_watchers(never)).await;
        assert!(waited.is_err(), "{waited:?}");
    }
}
