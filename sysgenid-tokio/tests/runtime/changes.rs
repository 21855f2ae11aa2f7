// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Changes of whichever source there is.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use sysgenid::{Acknowledged, Change, Generation, PageFile, Source};
use sysgenid_tokio::Changes;
use tokio::time::timeout;
use tokio_stream::StreamExt;

use crate::scene::{PATIENCE, Process, Scene, Ticks, one_thread, threads};

/// As long as something is waited for that is not to come.
const A_MOMENT: Duration = Duration::from_millis(60);

/// Looks at nothing by a timer: whatever is reported, an event has come.
fn at(path: &Path) -> Changes {
    looking(path, Duration::from_secs(3600))
}

fn looking(path: &Path, period: Duration) -> Changes {
    let options = sysgenid::Changes::options().look_every(period);
    options.at(path).open().into()
}

async fn next(changes: &mut Changes) -> Change {
    let change = timeout(PATIENCE, changes.next_change()).await;
    change.expect("a change").unwrap()
}

async fn handle(changes: &mut Changes, generation: Generation) {
    let change = next(changes).await;
    assert_eq!(change.generation(), generation);
    assert_eq!(change.acknowledge().unwrap(), Acknowledged::Yes);
}

async fn is_quiet(changes: &mut Changes) {
    let told = timeout(A_MOMENT, changes.next_change()).await;
    assert!(told.is_err(), "{told:?}");
}

#[test]
fn changes_are_told_and_acknowledged_in_every_runtime() {
    for runtime in [one_thread(), threads()] {
        runtime.block_on(async {
            let scene = Scene::new();
            let mut changes = at(scene.path());
            for _ in 0..5 {
                is_quiet(&mut changes).await;
                let generation = scene.trigger();
                handle(&mut changes, generation).await;
            }
            assert_eq!(scene.outdated(), 0);
        });
    }
}

#[test]
fn a_task_that_waits_is_woken() {
    threads().block_on(async {
        let scene = Scene::new();
        let mut changes = at(scene.path());
        is_quiet(&mut changes).await;
        let task = tokio::spawn(async move {
            let change = changes.next().await.unwrap();
            (change, changes)
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        let generation = scene.trigger();
        let (change, _changes) = timeout(PATIENCE, task).await.unwrap().unwrap();
        assert_eq!(change.generation(), generation);
        change.acknowledge().unwrap();
    });
}

#[test]
fn a_broker_is_found_late_lost_and_found_again() {
    one_thread().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let mut changes = looking(&path, Duration::from_millis(10));
        is_quiet(&mut changes).await;
        let mut broker = sysgenid_broker::spawn(&path).unwrap();
        next(&mut changes).await.acknowledge().unwrap();
        for _ in 0..3 {
            is_quiet(&mut changes).await;
            drop(broker);
            is_quiet(&mut changes).await;
            broker = sysgenid_broker::spawn(&path).unwrap();
            let source = Source::at(&path).unwrap();
            let generation = source.trigger(PATIENCE).unwrap();
            handle(&mut changes, generation).await;
        }
    });
}

#[test]
fn a_change_that_another_task_drops_is_told_again() {
    one_thread().block_on(async {
        let scene = Scene::new();
        let mut changes = at(scene.path());
        let generation = scene.trigger();
        let change = next(&mut changes).await;
        is_quiet(&mut changes).await;
        let dropping = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(change);
        });
        handle(&mut changes, generation).await;
        dropping.await.unwrap();
        is_quiet(&mut changes).await;
    });
}

#[test]
fn a_newer_change_is_told_while_an_older_one_is_held() {
    one_thread().block_on(async {
        let scene = Scene::new();
        let mut changes = at(scene.path());
        is_quiet(&mut changes).await;
        scene.trigger();
        let mut held = next(&mut changes).await;
        for _ in 0..5 {
            is_quiet(&mut changes).await;
            let generation = scene.trigger();
            let newer = next(&mut changes).await;
            assert_eq!(newer.generation(), generation);
            assert_eq!(held.acknowledge().unwrap(), Acknowledged::Overtaken);
            held = newer;
        }
        assert_eq!(held.acknowledge().unwrap(), Acknowledged::Yes);
        is_quiet(&mut changes).await;
    });
}

/// Whatever is dropped has told of nothing.
#[test]
fn a_future_that_is_dropped_loses_no_change() {
    one_thread().block_on(async {
        let scene = Scene::new();
        let mut changes = at(scene.path());
        for _ in 0..20 {
            let polled_once = tokio::select! {
                biased;
                change = changes.next_change() => Some(change),
                () = tokio::task::yield_now() => None,
            };
            assert!(polled_once.is_none());
            let generation = scene.trigger();
            handle(&mut changes, generation).await;
        }
    });
}

#[test]
fn a_page_is_looked_at_by_the_runtimes_timer() {
    one_thread().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page");
        let mut page = PageFile::open(&path).unwrap();
        let mut changes = looking(&path, Duration::from_millis(10));
        is_quiet(&mut changes).await;
        let generation = page.change().unwrap();
        handle(&mut changes, generation).await;
    });
}

#[test]
fn a_broker_that_hangs_blocks_no_thread_and_is_watched_when_it_goes_on() {
    let process = Process::new();
    one_thread().block_on(async {
        process.freeze();
        let ticks = Ticks::start();
        let mut changes = at(process.path());
        for _ in 0..10 {
            is_quiet(&mut changes).await;
        }
        // It would be one at most if the thread waited for the answer.
        assert!(ticks.so_far() > 20, "{}", ticks.so_far());
        process.thaw();
        let source = Source::at(process.path()).unwrap();
        let triggered = tokio::task::spawn_blocking(move || source.trigger(PATIENCE));
        let change = next(&mut changes).await;
        assert_eq!(change.generation(), triggered.await.unwrap().unwrap());
        change.acknowledge().unwrap();
        is_quiet(&mut changes).await;
    });
}

#[test]
fn a_stream_ends_when_it_is_stopped() {
    one_thread().block_on(async {
        let scene = Scene::new();
        let mut changes = at(scene.path());
        let waker = changes.as_ref().waker();
        let stopping = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            waker.wake();
            tokio::time::sleep(Duration::from_millis(20)).await;
            waker.stop();
        });
        let told = timeout(PATIENCE, changes.next()).await.unwrap();
        assert!(told.is_none());
        stopping.await.unwrap();
        assert!(changes.next_change().await.unwrap_err().is_interrupted());
    });
}

#[test]
fn without_a_runtime_there_is_an_error() {
    let scene = Scene::new();
    let mut changes = at(scene.path());
    {
        let mut waiting = pin!(changes.next_change());
        let polled = waiting
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        let std::task::Poll::Ready(Err(error)) = polled else {
            panic!("nothing can wait here");
        };
        assert!(error.is_runtime(), "{error}");
    }
    // It goes on in one.
    let generation = scene.trigger();
    one_thread().block_on(handle(&mut changes, generation));
}

#[test]
fn when_its_runtime_ends_who_waits_is_told() {
    let scene = Scene::new();
    let mut changes = at(scene.path());
    one_thread().block_on(is_quiet(&mut changes));
    let error = one_thread().block_on(changes.next_change()).unwrap_err();
    assert!(error.is_runtime(), "{error}");
    // Without a runtime it goes on.
    let mut changes = sysgenid::Changes::from(changes);
    let generation = scene.trigger();
    assert_eq!(changes.wait(PATIENCE).unwrap().generation(), generation);
}
