// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Asynchronous hooks: in one order with ordinary ones, and with the same policies.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

use std::error::Error;
use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sysgenid::hooks::{self, Hook, HookErrors, HookOptions};
use sysgenid::{Background, Changes, Source};
use sysgenid_tokio::{hook, run_after_restore, run_before_snapshot};
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(30);

static TURN: Mutex<()> = Mutex::new(());

/// The hooks are the process's, so the tests take turns.
#[derive(Default)]
struct Hooks(Vec<Hook>);

impl Hooks {
    fn new() -> (MutexGuard<'static, ()>, Self) {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        (turn, Self::default())
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|hook| hook.unregister());
    }
}

fn runtimes() -> [Runtime; 2] {
    [
        Builder::new_current_thread().enable_all().build().unwrap(),
        Builder::new_multi_thread().enable_all().build().unwrap(),
    ]
}

fn errors(error: &sysgenid::Error) -> &HookErrors {
    assert!(error.is_rebuild(), "{error:?}");
    error.source().unwrap().downcast_ref().unwrap()
}

fn options() -> HookOptions {
    hooks::options()
}

#[test]
fn they_run_in_one_order_with_ordinary_ones_in_every_runtime() {
    for runtime in runtimes() {
        let (_turn, mut kept) = Hooks::new();
        runtime.block_on(async {
            let log = Arc::new(Mutex::new(Vec::new()));
            let note = |what: &'static str| {
                let log = Arc::clone(&log);
                move || log.lock().unwrap().push(what)
            };
            let awaiting = |what| {
                let note = Arc::new(note(what));
                hook(move |_| {
                    let note = Arc::clone(&note);
                    async move {
                        yield_now().await;
                        note();
                    }
                })
                .unwrap()
            };
            let ordinary = note("second");
            kept.0.push(options().after_restore(awaiting("first")));
            kept.0.push(options().after_restore(move |_| ordinary()));
            kept.0.push(options().after_restore(awaiting("third")));
            kept.0.push(options().before_snapshot(awaiting("on top")));
            let ran = run_after_restore(sysgenid::generation()).await.unwrap();
            assert_eq!(ran.count(), 3);
            assert_eq!(run_before_snapshot().await.unwrap().count(), 1);
            assert_eq!(*log.lock().unwrap(), ["first", "second", "third", "on top"]);
        });
    }
}

async fn panics() {
    panic!("in a task");
}

#[test]
fn failures_and_panics_are_those_of_the_hook() {
    for runtime in runtimes() {
        let (_turn, mut kept) = Hooks::new();
        runtime.block_on(async {
            let fails = hook(|_| async { Err::<(), _>(io::Error::other("no entropy")) });
            kept.0.push(options().after_restore(fails.unwrap()));
            let panics = hook(|_| panics());
            kept.0.push(options().after_restore(panics.unwrap()));
            let error = run_after_restore(sysgenid::generation()).await.unwrap_err();
            let failures = errors(&error).failures();
            assert!(failures[0].error().unwrap().is::<io::Error>());
            assert!(failures[1].is_panic());
        });
    }
}

#[test]
fn a_hook_that_hangs_is_late_then_dropped_and_may_be_called_again() {
    struct Dropped(Arc<AtomicU32>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    for runtime in runtimes() {
        let (_turn, mut kept) = Hooks::new();
        runtime.block_on(async {
            let (calls, drops) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
            let (called, dropped) = (Arc::clone(&calls), Arc::clone(&drops));
            let hangs = hook(move |_| {
                called.fetch_add(1, Ordering::SeqCst);
                let dropped = Dropped(Arc::clone(&dropped));
                async move {
                    pending::<()>().await;
                    drop(dropped);
                }
            });
            let options = options().deadline(Duration::from_millis(10));
            kept.0.push(options.after_restore(hangs.unwrap()));
            let error = run_after_restore(sysgenid::generation()).await.unwrap_err();
            assert!(errors(&error).failures()[0].is_timeout(), "{error:?}");
            let began = Instant::now();
            while calls.load(Ordering::SeqCst) < 2 {
                assert!(began.elapsed() < LONG, "it is never called again");
                let _ = run_after_restore(sysgenid::generation()).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(drops.load(Ordering::SeqCst) >= 1);
        });
    }
}

#[test]
fn the_background_thread_runs_them() {
    for runtime in runtimes() {
        let (_turn, mut kept) = Hooks::new();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let _broker = sysgenid_broker::spawn(folder.path()).unwrap();
            let source = Source::at(folder.path()).unwrap();
            let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
            let noted = hook(move |restore| {
                let sender = sender.clone();
                async move { sender.send(restore.generation()) }
            });
            kept.0.push(options().after_restore(noted.unwrap()));
            let options = Background::options().changes(Changes::options().on(source.clone()));
            let background = options.start().unwrap();
            let generation = source.trigger(LONG).unwrap();
            let told = tokio::time::timeout(LONG, seen.recv()).await;
            assert_eq!(told.unwrap(), Some(generation));
            let stopped = tokio::task::spawn_blocking(move || background.stop(LONG));
            assert!(stopped.await.unwrap());
        });
    }
}

#[test]
fn it_is_an_error_where_nothing_can_run_them() {
    let (_turn, mut kept) = Hooks::new();
    let error = hook(|_| async {}).map(drop).unwrap_err();
    assert!(error.is_runtime(), "{error}");
    for runtime in runtimes() {
        runtime.block_on(async {
            let empty = hook(|_| async {}).unwrap();
            kept.0.push(options().after_restore(empty));
            // The caller's thread is the runtime's, which this would hold up.
            let blocked = hooks::run_after_restore(sysgenid::generation()).unwrap_err();
            assert!(blocked.failures()[0].is_panic(), "{blocked}");
        });
        drop(runtime);
        let ended = hooks::run_after_restore(sysgenid::generation()).unwrap_err();
        assert!(ended.to_string().contains("shutting down"), "{ended}");
        kept.0.drain(..).for_each(|hook| hook.unregister());
    }
}
