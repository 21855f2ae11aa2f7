// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A child that is forked from a program with a tokio runtime has copies of what is registered
//! there: what it may do with them, and what harms its parent.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[path = "common/child.rs"]
mod child;

use std::time::Duration;

use sysgenid::Orchestrator;
use sysgenid_tokio::{AsyncOrchestrator, Watcher};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use child::in_child;

const PATIENCE: Duration = Duration::from_secs(20);
const MOMENT: Duration = Duration::from_millis(100);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_forked_child_leaves_its_parents_runtime_alone() {
    let folder = tempfile::tempdir().unwrap();
    let _broker = sysgenid_broker::spawn(folder.path()).unwrap();
    let overseer = Orchestrator::open_at(folder.path()).unwrap();
    let runtime = runtime();
    let (watcher, orchestrator) = runtime.block_on(async {
        let watcher = Watcher::open_at(folder.path()).await.unwrap();
        (
            watcher,
            AsyncOrchestrator::open_at(folder.path()).await.unwrap(),
        )
    });
    let generation = overseer.trigger().unwrap();

    // What does not wait says whose the watcher is.
    let refused = in_child(|| {
        assert!(watcher.try_changed().unwrap_err().is_forked());
        assert!(watcher.acknowledge(generation).unwrap_err().is_forked());
        assert!(watcher.probe().unwrap_err().is_forked());
        assert!(orchestrator.acknowledge().unwrap_err().is_forked());
        assert_eq!(watcher.generation(), generation);
    });
    assert!(refused);

    // A child that goes on has its own, in a runtime of its own.
    let own = in_child(|| {
        let own = self::runtime();
        own.block_on(async {
            let watcher = Watcher::open_at(folder.path()).await.unwrap();
            assert_eq!(watcher.try_changed().unwrap(), None);
            let orchestrator = AsyncOrchestrator::open_at(folder.path()).await.unwrap();
            let generation = orchestrator.trigger().await.unwrap();
            assert_eq!(watcher.changed().await.unwrap(), generation);
        });
    });
    assert!(own);

    runtime.block_on(async {
        let told = watcher.changed().await.unwrap();
        assert_eq!(told.get(), generation.get() + 1);
        watcher.acknowledge(told).unwrap();
        assert!(timeout(MOMENT, watcher.changed()).await.is_err());
        let again = overseer.trigger().unwrap();
        let told = timeout(PATIENCE, watcher.changed()).await;
        assert_eq!(told.unwrap().unwrap(), again);
    });
}

/// Why the documentation says that a child must not drop them: the two processes share the runtime's
/// epoll instance. If this is no longer so, it may say something better.
#[test]
fn a_forked_child_that_drops_a_watcher_takes_it_out_of_its_parents_runtime() {
    let folder = tempfile::tempdir().unwrap();
    let _broker = sysgenid_broker::spawn(folder.path()).unwrap();
    let overseer = Orchestrator::open_at(folder.path()).unwrap();
    let runtime = runtime();
    let mut watcher = Some(runtime.block_on(Watcher::open_at(folder.path())).unwrap());
    assert!(in_child(|| drop(watcher.take())));

    let watcher = watcher.unwrap();
    let generation = overseer.trigger().unwrap();
    runtime.block_on(async {
        assert!(timeout(MOMENT, watcher.changed()).await.is_err());
        assert_eq!(watcher.try_changed().unwrap(), Some(generation));
        // To register it anew is the cure.
        let watcher = Watcher::new(watcher.into()).unwrap();
        let told = timeout(PATIENCE, watcher.changed()).await;
        assert_eq!(told.unwrap().unwrap(), generation);
    });
}
