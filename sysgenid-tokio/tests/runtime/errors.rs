// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What fails says so, and gives back what it was given.

use std::error::Error as StdError;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use sysgenid::{Error, Orchestrator, Result, Source, adapter};
use sysgenid_tokio::{AsyncOrchestrator, NotRegistered, Watcher};
use tokio::io::unix::AsyncFd;

use crate::scene::{PATIENCE, Scene, one_thread, poll_once};

/// Fails at once, because there is nothing that could wait.
#[track_caller]
fn needs_a_runtime<T: std::fmt::Debug>(call: impl Future<Output = Result<T>>) {
    match poll_once(pin!(call)) {
        Poll::Ready(Err(error)) => {
            assert!(error.is_runtime(), "{error}");
            assert!(error.to_string().contains("Runtime::block_on"), "{error}");
        }
        polled => panic!("{polled:?}"),
    }
}

/// Fails at once, because what could wait is no more.
#[track_caller]
fn is_ending<T: std::fmt::Debug>(call: impl Future<Output = Result<T>>) {
    match poll_once(pin!(call)) {
        Poll::Ready(Err(error)) => {
            assert!(error.is_runtime(), "{error}");
            assert!(error.to_string().contains("shutting down"), "{error}");
        }
        polled => panic!("{polled:?}"),
    }
}

async fn rebuild(_: sysgenid::Generation) -> io::Result<()> {
    Ok(())
}

#[test]
fn without_a_runtime_every_call_fails() {
    let scene = Scene::new();
    let path = scene.path();
    let source = || Source::at(path).unwrap();
    needs_a_runtime(Watcher::open());
    needs_a_runtime(Watcher::open_at(path));
    needs_a_runtime(Watcher::open_on(sysgenid::Watcher::options(), source()));
    needs_a_runtime(AsyncOrchestrator::open());
    needs_a_runtime(AsyncOrchestrator::open_at(path));
    needs_a_runtime(AsyncOrchestrator::open_on(
        sysgenid::Orchestrator::options(),
        source(),
    ));

    let runtime = one_thread();
    let open = async { (scene.watcher().await, scene.orchestrator().await) };
    let (mut watcher, mut orchestrator) = runtime.block_on(open);
    watcher.set_tracking(true).unwrap();
    needs_a_runtime(watcher.reconnect(Duration::ZERO));
    needs_a_runtime(orchestrator.trigger());
    needs_a_runtime(orchestrator.trigger_at_least(7));
    needs_a_runtime(orchestrator.stragglers());
    needs_a_runtime(orchestrator.wait_for_watchers(Duration::ZERO));
    needs_a_runtime(orchestrator.settle(Duration::ZERO, rebuild));
    needs_a_runtime(orchestrator.reconnect(Duration::ZERO));

    // What belongs to a runtime can be awaited by any other executor.
    let generation = scene.trigger();
    let told = pin!(watcher.changed());
    runtime.block_on(async { tokio::time::sleep(Duration::from_millis(20)).await });
    let Poll::Ready(told) = poll_once(told) else {
        panic!("a change that the runtime has seen")
    };
    assert_eq!(told.unwrap(), generation);
}

#[test]
fn without_a_runtime_a_watcher_is_given_back() {
    let scene = Scene::new();
    let watcher = sysgenid::Watcher::open_at(scene.path()).unwrap();
    let generation = scene.trigger();
    let refused: NotRegistered = Watcher::new(watcher).unwrap_err();
    assert!(refused.error().is_runtime(), "{refused}");
    let (watcher, error) = refused.into_parts();
    assert_eq!(error.path(), Some(scene.path()));
    assert_eq!(watcher.try_changed().unwrap(), Some(generation));
    watcher.acknowledge(generation).unwrap();

    let orchestrator = Arc::new(Orchestrator::open_at(scene.path()).unwrap());
    let refused = AsyncOrchestrator::new(orchestrator).unwrap_err();
    assert!(refused.error().is_runtime(), "{refused}");
    let (orchestrator, _) = refused.into_parts();
    orchestrator.wait_for_watchers(PATIENCE).unwrap();
}

#[test]
fn a_refusal_of_the_kernel_gives_the_watcher_back() {
    let scene = Scene::new();
    one_thread().block_on(async {
        let watcher = sysgenid::Watcher::open_at(scene.path()).unwrap();
        #[expect(deprecated, reason = "the descriptor lives longer than this")]
        let twice = AsyncFd::new(adapter::events(&watcher).as_raw_fd()).unwrap();
        let refused = Watcher::new(watcher).unwrap_err();
        let (watcher, error) = refused.into_parts();
        assert!(!error.is_runtime(), "{error}");
        assert_eq!(
            error.raw_os_error(),
            Some(rustix::io::Errno::EXIST.raw_os_error()),
            "{error}"
        );
        drop(twice);
        let watcher = Watcher::new(watcher).unwrap();
        let generation = scene.trigger();
        assert_eq!(watcher.changed().await.unwrap(), generation);
    });
}

#[test]
fn a_runtime_that_ended_is_told() {
    let scene = Scene::new();
    let ended = one_thread();
    let open = async { (scene.watcher().await, scene.orchestrator().await) };
    let (mut watcher, orchestrator) = ended.block_on(open);
    let handle = ended.handle().clone();
    drop(ended);

    // Polled in another one: what waits in the first is told.
    one_thread().block_on(async {
        assert!(watcher.changed().await.unwrap_err().is_runtime());
        assert!(orchestrator.changed().await.unwrap_err().is_runtime());
        let polled = std::future::poll_fn(|cx| watcher.poll_changed(cx)).await;
        assert!(polled.unwrap_err().is_runtime());
        // And what does not wait in it works.
        watcher.set_tracking(false).unwrap();
        watcher.reconnect(Duration::ZERO).await.unwrap();
        orchestrator.trigger().await.unwrap();
        orchestrator.acknowledge().unwrap();
        orchestrator.wait_for_watchers(PATIENCE).await.unwrap();
    });

    let _entered = handle.enter();
    is_ending(Watcher::open_at(scene.path()));
    watcher.set_tracking(true).unwrap();
    is_ending(watcher.reconnect(Duration::ZERO));
    is_ending(orchestrator.trigger());
    is_ending(orchestrator.stragglers());
    let (watcher, error) = Watcher::new(watcher.into()).unwrap_err().into_parts();
    assert!(error.is_runtime(), "{error}");
    watcher.acknowledge(watcher.generation()).unwrap();
}

#[test]
fn errors_are_everybodys() {
    async fn to_io(folder: &std::path::Path) -> io::Result<Watcher> {
        Ok(Watcher::open_at(folder).await?)
    }
    async fn to_any(folder: &std::path::Path) -> Result<Watcher, Box<dyn StdError + Send + Sync>> {
        let watcher = sysgenid::Watcher::open_at(folder)?;
        Ok(Watcher::new(watcher)?)
    }
    fn register(watcher: sysgenid::Watcher) -> Result<Watcher, Error> {
        Ok(Watcher::new(watcher)?)
    }
    let scene = Scene::new();
    one_thread().block_on(async {
        let missing = scene.path().join("missing");
        let error = to_io(&missing).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let error = error.into_inner().unwrap().downcast::<Error>().unwrap();
        assert!(error.is_absent());
        assert!(to_any(&missing).await.is_err());
        to_any(scene.path()).await.unwrap();
    });
    let watcher = sysgenid::Watcher::open_at(scene.path()).unwrap();
    assert!(register(watcher).unwrap_err().is_runtime());
}

/// Tokio's own panics, as the documentation says.
mod without_a_driver {
    use tokio::runtime::Builder;

    use super::*;

    #[test]
    #[should_panic(expected = "IO is disabled")]
    fn opening_panics() {
        let scene = Scene::new();
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let _ = runtime.block_on(Watcher::open_at(scene.path()));
    }

    #[test]
    #[should_panic(expected = "timers are disabled")]
    fn a_deadline_panics() {
        let scene = Scene::new();
        let runtime = Builder::new_current_thread().enable_io().build().unwrap();
        let orchestrator = runtime.block_on(scene.orchestrator());
        let _ = runtime.block_on(orchestrator.wait_for_watchers(PATIENCE));
    }

    #[test]
    fn no_deadline_needs_no_timer() {
        let scene = Scene::new();
        let runtime = Builder::new_current_thread().enable_io().build().unwrap();
        let orchestrator = runtime.block_on(scene.orchestrator());
        let wait = orchestrator.wait_for_watchers(sysgenid::Deadline::NEVER);
        runtime.block_on(wait).unwrap();
    }
}
