// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The runtimes in which a case is tried, and waiting within them.

use std::future::Future;

use sysgenid::Generation;
use sysgenid_tokio::{AsyncOrchestrator, Watcher};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::background::{GLANCE, PATIENCE};
use crate::typed::Subject;

/// Tries it in a runtime of one thread, then in one of several.
pub(super) fn in_each_runtime(case: impl AsyncFn()) {
    for runtime in [current_thread(), multi_thread()] {
        runtime.block_on(async {
            let all = timeout(PATIENCE * 2, case()).await;
            let flavor = tokio::runtime::Handle::current().runtime_flavor();
            all.unwrap_or_else(|_| panic!("it takes too long, in a runtime that is {flavor:?}"));
        });
        // A failed case may leave a call that waits.
        runtime.shutdown_background();
    }
}

pub(super) fn current_thread() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime starts")
}

pub(super) fn multi_thread() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all();
    builder.build().expect("a runtime starts")
}

/// What comes of a future, which must be soon.
pub(super) async fn soon<T>(future: impl Future<Output = T>, why: &str) -> T {
    let outcome = timeout(PATIENCE, future).await;
    outcome.unwrap_or_else(|_| panic!("after {PATIENCE:?} nothing has come: {why}"))
}

/// That nothing comes of a future while one glances at it. It is dropped then.
pub(super) async fn expect_pending(future: impl Future, why: &str) {
    let outcome = timeout(GLANCE, future).await;
    assert!(outcome.is_err(), "it should wait: {why}");
}

pub(super) async fn open(subject: &Subject) -> Watcher {
    let opened = Watcher::open_at(subject.path()).await;
    opened.expect("a watcher can be opened")
}

pub(super) async fn open_orchestrator(subject: &Subject) -> AsyncOrchestrator {
    let opened = AsyncOrchestrator::open_at(subject.path()).await;
    opened.expect("an orchestrator can be opened")
}

/// Registers it with this runtime.
pub(super) fn register(watcher: sysgenid::Watcher) -> Watcher {
    Watcher::new(watcher).expect("it can be registered")
}

/// Waits for the change, and acknowledges it.
pub(super) async fn handle_change(watcher: &Watcher, why: &str) -> Generation {
    let generation = soon(watcher.changed(), why).await.expect("it can be asked");
    watcher
        .acknowledge(generation)
        .expect("it is the current one");
    generation
}
