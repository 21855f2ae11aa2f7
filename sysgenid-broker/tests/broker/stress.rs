// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Acknowledgements that race with changes: no wake-up is lost.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sysgenid_broker::spawn;

use crate::client::{Client, Watcher};

const WATCHERS: usize = 4;
const TIME: Duration = Duration::from_secs(2);

/// Each watcher sleeps until it is woken and acknowledges what it finds. If one wake-up were lost,
/// its watcher would sleep on at an old generation and the last loop would give up.
#[test]
fn no_wake_up_is_lost_while_changes_race_with_acknowledgements() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    let ended = AtomicBool::new(false);
    let (bumps, results) = std::thread::scope(|scope| {
        let watchers: Vec<_> = (0..WATCHERS)
            .map(|_| scope.spawn(|| acknowledge_until(directory.path(), &ended)))
            .collect();
        let end = Instant::now() + TIME;
        let mut bumps = 0_u32;
        while Instant::now() < end {
            control.trigger(0);
            bumps += 1;
        }
        ended.store(true, Ordering::SeqCst);
        // The last change, after which everyone must come to rest.
        control.trigger(0);
        bumps += 1;
        let results = watchers
            .into_iter()
            .map(|watcher| watcher.join().expect("a watcher"));
        (bumps, results.collect::<Vec<_>>())
    });
    assert_eq!(control.status().generation, bumps);
    for (acknowledged, woken, stale) in results {
        eprintln!("{bumps} changes: woken {woken} times, {stale} stale");
        assert_eq!(acknowledged, bumps);
    }
}

fn acknowledge_until(dir: &Path, ended: &AtomicBool) -> (u32, u32, u32) {
    let mut watcher = Watcher::tracked(dir);
    let mut client = Client::watch(dir);
    let (mut woken, mut stale) = (0, 0);
    loop {
        watcher.wait_readable();
        woken += 1;
        let was_ended = ended.load(Ordering::SeqCst);
        let generation = watcher.map.load();
        if watcher.acknowledge(generation).is_err() {
            stale += 1;
            continue;
        }
        if !was_ended {
            continue;
        }
        // The broker's view: stale there means that it has made the watcher readable again.
        let status = client.status();
        if status.generation == generation && !watcher.is_readable() {
            return (generation, woken, stale);
        }
    }
}
