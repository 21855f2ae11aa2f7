// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Many changes in a row, each handled by several watchers while an orchestrator begins to wait:
//! no wake-up of a watcher is lost, and no acknowledgement is missed by the wait.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use sysgenid::{Orchestrator, Watcher};

const ROUNDS: u32 = 3_000;
const WATCHERS: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn every_change_is_handled_once_by_each_watcher_and_every_wait_ends() {
    let folder = tempfile::tempdir().unwrap();
    let _broker = sysgenid_broker::spawn(folder.path()).unwrap();
    let handled = AtomicU32::new(0);
    let done = AtomicBool::new(false);
    let watchers: Vec<_> = (0..WATCHERS)
        .map(|_| Watcher::open_at(folder.path()).unwrap())
        .collect();
    let orchestrator = Orchestrator::open_at(folder.path()).unwrap();

    thread::scope(|scope| {
        for watcher in &watchers {
            scope.spawn(|| {
                loop {
                    watcher.wait(PATIENCE).unwrap();
                    if done.load(Ordering::Acquire) {
                        break;
                    }
                    watcher
                        .handle(PATIENCE, |_generation| {
                            handled.fetch_add(1, Ordering::Relaxed);
                            Ok::<_, Infallible>(())
                        })
                        .unwrap();
                }
            });
        }
        for round in 1..=ROUNDS {
            let generation = orchestrator.trigger().unwrap();
            let settled = orchestrator.settle(PATIENCE, |_| Ok::<_, Infallible>(()));
            assert_eq!(settled.unwrap().generation, generation);
            assert_eq!(handled.load(Ordering::Relaxed), round * WATCHERS);
        }
        done.store(true, Ordering::Release);
        orchestrator.trigger().unwrap();
    });
}
