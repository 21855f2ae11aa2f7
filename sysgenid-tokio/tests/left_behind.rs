// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What remains of dropped futures and of runtimes that end: nothing. One test after the other,
//! because they count the process's threads and descriptors.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that fails panics, also in a helper"
)]

use std::fs;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use sysgenid::{Deadline, Orchestrator};
use sysgenid_tokio::{AsyncOrchestrator, Watcher};
use tokio::runtime::{Builder, Runtime};
use tokio_stream::StreamExt;

const PATIENCE: Duration = Duration::from_secs(20);

/// Threads and descriptors of this process.
fn belongings() -> (usize, usize) {
    let count = |folder| fs::read_dir(folder).unwrap().count();
    (count("/proc/self/task"), count("/proc/self/fd"))
}

/// Threads that wait for watchers.
fn helpers() -> usize {
    let names = fs::read_dir("/proc/self/task").unwrap().filter_map(|task| {
        // A thread may end while it is looked at.
        fs::read_to_string(task.ok()?.path().join("comm")).ok()
    });
    names.filter(|name| name.trim() == "sysgenid-wait").count()
}

fn eventually<T: PartialEq + std::fmt::Debug>(wanted: T, look: impl Fn() -> T) {
    let deadline = Instant::now() + PATIENCE;
    while look() != wanted {
        assert!(Instant::now() < deadline, "{:?}, not {wanted:?}", look());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One after the other.
fn runtimes() -> impl Iterator<Item = Runtime> {
    let builders = [Builder::new_current_thread(), Builder::new_multi_thread()];
    builders
        .into_iter()
        .map(|mut builder| builder.enable_all().build().unwrap())
}

#[test]
fn nothing_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let _broker = sysgenid_broker::spawn(folder.path()).unwrap();
    let before = belongings();
    a_runtime_that_ends_takes_all_with_it(folder.path(), before);
    a_wait_has_no_thread(folder.path());
    a_pool_without_a_free_thread_holds_no_wait_up(folder.path());
    eventually(before, belongings);
}

fn a_runtime_that_ends_takes_all_with_it(path: &Path, before: (usize, usize)) {
    for runtime in runtimes() {
        runtime.block_on(async {
            let straggler = Watcher::open_at(path).await.unwrap();
            let waiting = Arc::new(AsyncOrchestrator::open_at(path).await.unwrap());
            waiting.trigger().await.unwrap();
            waiting.acknowledge().unwrap();
            let settling = Arc::clone(&waiting);
            tokio::spawn(async move { waiting.wait_for_watchers(Deadline::NEVER).await });
            tokio::spawn(async move {
                let rebuild = async |_| std::io::Result::Ok(());
                settling.settle(PATIENCE, rebuild).await
            });
            let watcher = Watcher::open_at(path).await.unwrap();
            tokio::spawn(async move { watcher.changed().await });
            let mut watcher = Watcher::open_at(path).await.unwrap();
            tokio::spawn(async move { watcher.next().await });
            tokio::spawn(async move {
                std::future::pending::<()>().await;
                drop(straggler);
            });
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert_eq!(helpers(), 0, "the runtime itself waits");
        });
        let began = Instant::now();
        drop(runtime);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?}");
        eventually(before, belongings);
    }
}

/// Nor does one that was dropped leave a connection.
fn a_wait_has_no_thread(path: &Path) {
    for runtime in runtimes() {
        runtime.block_on(async {
            let _straggler = Watcher::open_at(path).await.unwrap();
            let orchestrator = AsyncOrchestrator::open_at(path).await.unwrap();
            orchestrator.trigger().await.unwrap();
            orchestrator.acknowledge().unwrap();
            let before = belongings();
            for _ in 0..500 {
                let wait = pin!(orchestrator.wait_for_watchers(Deadline::NEVER));
                let polled = wait.poll(&mut Context::from_waker(Waker::noop()));
                assert!(polled.is_pending());
                assert_eq!(helpers(), 0);
            }
            eventually(before.1, || belongings().1);
        });
    }
}

fn a_pool_without_a_free_thread_holds_no_wait_up(path: &Path) {
    let mut builder = Builder::new_current_thread();
    let runtime = builder
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let overseer = Orchestrator::open_at(path).unwrap();
    let (release, wait) = mpsc::channel::<()>();
    runtime.block_on(async {
        let watcher = Watcher::open_at(path).await.unwrap();
        let orchestrator = AsyncOrchestrator::open_at(path).await.unwrap();
        tokio::task::spawn_blocking(move || wait.recv());
        overseer.trigger().unwrap();
        let (settled, handled) = tokio::join!(
            orchestrator.settle(PATIENCE, async |_| std::io::Result::Ok(())),
            watcher.handle(async |_| std::io::Result::Ok(())),
        );
        assert_eq!(settled.unwrap().generation, handled.unwrap());
        // What goes to the pool waits for it, as its documentation says.
        let triggered = tokio::time::timeout(Duration::from_millis(50), orchestrator.trigger());
        assert!(triggered.await.is_err());
        drop(release);
        orchestrator.trigger().await.unwrap();
    });
}
