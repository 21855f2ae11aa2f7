// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Hooks in worlds.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use sysgenid::hooks::{self, run_after_restore, run_before_snapshot};
use sysgenid::testing::Restores;
use sysgenid::{generation, uniqueness};

#[test]
fn a_hook_runs_in_its_world_on_a_thread_of_its_own_too() {
    let restores = Restores::new();
    let _scope = restores.scope();
    let (tell, told) = mpsc::channel();
    for limit in [None, Some(Duration::from_secs(60))] {
        let tell = tell.clone();
        let mut options = hooks::options();
        if let Some(limit) = limit {
            options = options.deadline(limit);
        }
        options.after_restore(move |restore| tell.send((restore.generation(), uniqueness())));
    }
    for _ in 0..3 {
        let before = uniqueness();
        restores.restore();
        let now = uniqueness();
        assert_eq!(run_after_restore(generation()).unwrap().count(), 2);
        let seen: Vec<_> = told.try_iter().collect();
        assert_eq!(seen, [(generation(), now); 2]);
        assert_ne!(now, before);
        assert_eq!(uniqueness(), now, "the world knows of this restore");
    }
}

#[test]
fn tests_that_run_at_once_do_not_run_each_others_hooks() {
    let outside = hooks::before_snapshot(|_| ());
    let threads: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(|| {
                let restores = Restores::new();
                let _scope = restores.scope();
                let (tell, told) = mpsc::channel();
                hooks::before_snapshot(move |_| tell.send(()));
                for _ in 0..50 {
                    assert_eq!(run_before_snapshot().unwrap().count(), 2);
                    assert_eq!(told.try_iter().count(), 1);
                }
            })
        })
        .collect();
    assert_eq!(run_before_snapshot().unwrap().count(), 1);
    for thread in threads {
        thread.join().unwrap();
    }
    outside.unregister();
}

#[test]
fn each_world_has_its_own_background_thread() {
    const PATIENCE: Duration = Duration::from_secs(60);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(|| {
                let restores = Restores::new();
                let _scope = restores.scope();
                let (tell, told) = mpsc::channel();
                hooks::after_restore(move |restore| {
                    tell.send((restore.generation(), uniqueness()))
                });
                let background = sysgenid::background().unwrap();
                for _ in 0..10 {
                    restores.restore();
                    let seen = told.recv_timeout(PATIENCE).unwrap();
                    assert_eq!(seen, (generation(), uniqueness()));
                }
                assert!(background.stop(PATIENCE));
                assert_eq!(told.try_iter().count(), 0, "of the other worlds");
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}
