// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A broker that neither answers nor ends: no thread of the executor waits for it.

use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use sysgenid::{Error, Source};
use sysgenid_tokio::{AsyncOrchestrator, Watcher};

use tokio::time::timeout;

use crate::scene::{Process, Ticks, one_thread};

/// How long a call without a deadline of its own waits for an answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// Fails with a timeout after five seconds, in which other tasks of the same thread run.
async fn times_out<T: std::fmt::Debug>(call: impl Future<Output = Result<T, Error>>) {
    let ticks = Ticks::start();
    let began = Instant::now();
    let error = call.await.unwrap_err();
    let took = began.elapsed();
    assert!(error.is_timeout(), "{error}");
    assert!(took >= ANSWER_TIME, "{took:?}");
    assert!(took < 3 * ANSWER_TIME, "{took:?}");
    // On a busy machine it is not each millisecond, but it would be once if the thread were blocked.
    assert!(ticks.so_far() > 100, "{}", ticks.so_far());
}

#[test]
fn every_call_to_a_stopped_broker_lets_others_run_and_times_out() {
    let process = Process::new();
    one_thread().block_on(async {
        let path = process.path();
        let source = Source::at(path).unwrap();
        let mut watcher = Watcher::open_at(path).await.unwrap();
        let waiting = Watcher::open_at(path).await.unwrap();
        let mut orchestrator = AsyncOrchestrator::open_at(path).await.unwrap();
        let other = AsyncOrchestrator::open_at(path).await.unwrap();
        process.freeze();
        // All at once, because each takes five seconds.
        tokio::join!(
            times_out(Watcher::open_at(path)),
            times_out(Watcher::open_on(
                sysgenid::Watcher::options(),
                source.clone()
            )),
            times_out(AsyncOrchestrator::open_at(path)),
            times_out(AsyncOrchestrator::open_on(
                sysgenid::Orchestrator::options(),
                source
            )),
            times_out(watcher.reconnect(ANSWER_TIME)),
            times_out(orchestrator.reconnect(ANSWER_TIME)),
            times_out(other.trigger()),
            times_out(other.wait_for_watchers(ANSWER_TIME)),
        );
        times_out(other.stragglers()).await;

        // It waits for nobody.
        waiting.set_tracking(false).unwrap();

        process.thaw();
        // Nothing was lost, and no answer that comes late is taken for another's.
        let generation = other.trigger().await.unwrap();
        assert_eq!(watcher.changed().await.unwrap(), generation);
        watcher.acknowledge(generation).unwrap();
        waiting.set_tracking(true).unwrap();
        assert_eq!(waiting.changed().await.unwrap(), generation);
        waiting.acknowledge(generation).unwrap();
        other.acknowledge().unwrap();
        other.wait_for_watchers(ANSWER_TIME).await.unwrap();
        watcher.reconnect(2 * ANSWER_TIME).await.unwrap();
        orchestrator.reconnect(2 * ANSWER_TIME).await.unwrap();
    });
}

/// Not even the connection is taken.
#[test]
fn a_socket_that_nobody_serves_lets_others_run_and_times_out() {
    let process = Process::new();
    let folder = tempfile::tempdir().unwrap();
    symlink(process.path().join("page"), folder.path().join("page")).unwrap();
    let listen = |name| socket::listen(&folder.path().join(name));
    let _sockets = ["watch.sock", "control.sock"].map(listen);
    one_thread().block_on(async {
        tokio::join!(
            times_out(Watcher::open_at(folder.path())),
            times_out(AsyncOrchestrator::open_at(folder.path())),
        );
    });
}

#[test]
fn reconnecting_waits_for_a_call_that_was_dropped() {
    let process = Process::new();
    one_thread().block_on(async {
        let mut orchestrator = AsyncOrchestrator::open_at(process.path()).await.unwrap();
        let control = process.path().join("control.sock");
        std::fs::rename(&control, process.path().join("away")).unwrap();
        let _nobody_serves = socket::listen(&control);
        let trigger = timeout(Duration::from_millis(50), orchestrator.trigger());
        assert!(trigger.await.is_err());
        let began = Instant::now();
        orchestrator.reconnect(2 * ANSWER_TIME).await.unwrap();
        assert!(began.elapsed() > ANSWER_TIME / 2, "{:?}", began.elapsed());
    });
}

/// As the documentation says: the pool is waited for, and a call in it ends by itself.
#[test]
fn a_runtime_that_is_dropped_waits_for_a_call_and_need_not() {
    let process = Process::new();
    process.freeze();
    let opening = || {
        let runtime = one_thread();
        let path = process.path().to_owned();
        runtime.spawn(Watcher::open_at(path));
        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(50)).await });
        (runtime, Instant::now())
    };
    let (runtime, began) = opening();
    runtime.shutdown_background();
    assert!(began.elapsed() < ANSWER_TIME / 5, "{:?}", began.elapsed());
    let (runtime, began) = opening();
    drop(runtime);
    assert!(began.elapsed() < 2 * ANSWER_TIME, "{:?}", began.elapsed());
}

#[test]
fn acknowledging_to_a_stopped_broker_does_not_wait() {
    let process = Process::new();
    one_thread().block_on(async {
        let watcher = Watcher::open_at(process.path()).await.unwrap();
        let orchestrator = AsyncOrchestrator::open_at(process.path()).await.unwrap();
        let generation = orchestrator.trigger().await.unwrap();
        process.freeze();
        let began = Instant::now();
        assert_eq!(watcher.changed().await.unwrap(), generation);
        watcher.acknowledge(generation).unwrap();
        orchestrator.acknowledge().unwrap();
        assert!(began.elapsed() < ANSWER_TIME / 5);
    });
}

mod socket {
    use std::os::fd::OwnedFd;
    use std::path::Path;

    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen as start, socket};

    pub(super) fn listen(path: &Path) -> OwnedFd {
        let fd = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
        bind(&fd, &SocketAddrUnix::new(path).unwrap()).unwrap();
        start(&fd, 16).unwrap();
        fd
    }
}
