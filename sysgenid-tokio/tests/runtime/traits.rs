// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What can be sent, shared and moved: it compiles.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;
use sysgenid::{Generation, Orchestrator, Result, Source, WatcherOptions};
use sysgenid_tokio::{AsyncOrchestrator, Changes, NotRegistered, Watcher};

fn is_free<T: Send + Sync + Unpin + 'static>() {}

/// A future that a task of a runtime of several threads may hold, and that may be shared.
fn is_free_future<F: Future + Send + Sync>(_: F) {}

fn is_stream<S: Stream<Item = T> + Unpin, T>() {}

async fn rebuild(_: Generation) -> std::io::Result<()> {
    Ok(())
}

#[test]
fn types_are_send_sync_and_unpin() {
    is_free::<Watcher>();
    is_free::<AsyncOrchestrator>();
    is_free::<Changes>();
    is_free::<sysgenid::Change>();
    is_free::<NotRegistered>();
    is_free::<NotRegistered<Arc<Orchestrator>>>();
    is_stream::<Watcher, Result<Generation>>();
    is_stream::<Changes, sysgenid::Change>();
}

/// Never called: to name the futures is enough.
#[expect(dead_code, reason = "it compiles, and that is the test")]
fn futures_are_send_and_sync(
    changes: &mut Changes,
    watcher: &mut Watcher,
    orchestrator: &mut AsyncOrchestrator,
    source: &Source,
    options: &WatcherOptions,
) {
    is_free_future(changes.next_change());
    is_free_future(Watcher::open());
    is_free_future(Watcher::open_at("/run/sysgenid"));
    is_free_future(Watcher::open_at(PathBuf::new()));
    is_free_future(Watcher::open_on(options.clone(), source.clone()));
    is_free_future(watcher.changed());
    is_free_future(watcher.handle(rebuild));
    is_free_future(watcher.reconnect(Duration::ZERO));
    is_free_future(AsyncOrchestrator::open());
    is_free_future(AsyncOrchestrator::open_at("/run/sysgenid"));
    is_free_future(AsyncOrchestrator::open_on(
        sysgenid::Orchestrator::options(),
        source.clone(),
    ));
    is_free_future(orchestrator.trigger());
    is_free_future(orchestrator.trigger_at_least(1));
    is_free_future(orchestrator.stragglers());
    is_free_future(orchestrator.changed());
    is_free_future(orchestrator.wait_for_watchers(Duration::ZERO));
    is_free_future(orchestrator.settle(Duration::ZERO, rebuild));
    is_free_future(orchestrator.reconnect(Duration::ZERO));
}
