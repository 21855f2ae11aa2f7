// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a source says of itself without a watcher.

use std::time::Instant;

use sysgenid::{Source, WatcherCounts};

use super::Subject;
use super::subject::catch_up;
use crate::background::PATIENCE;
use crate::cases;

cases! { Subject;
    status_shows_the_generation,
    status_counts_the_watchers,
}

/// And asking is no change.
fn status_shows_the_generation(subject: &Subject) {
    let watcher = subject.watcher();
    let generation = subject.change();
    catch_up(&watcher);
    let source = Source::at(subject.path()).unwrap();
    for _ in 0..2 {
        assert_eq!(source.status(PATIENCE).unwrap().generation, generation);
    }
    assert_eq!(watcher.try_changed().unwrap(), None);
    subject.expect_settled("who asks is no watcher");
}

/// All, those who are waited for, and those of them who keep others waiting.
fn status_counts_the_watchers(subject: &Subject) {
    expect_counts(subject, (0, 0, 0));
    let watcher = subject.watcher();
    expect_counts(subject, (1, 1, 0));
    let second = subject.watcher();
    expect_counts(subject, (2, 2, 0));
    subject.change();
    expect_counts(subject, (2, 2, 2));
    catch_up(&watcher);
    expect_counts(subject, (2, 2, 1));
    drop(second);
    expect_counts(subject, (1, 1, 0));
}

/// A broker reads acknowledgements and the end of a connection a moment later.
fn expect_counts(subject: &Subject, expected: (u32, u32, u32)) {
    let counts = || {
        let source = Source::at(subject.path()).unwrap();
        let WatcherCounts {
            total,
            tracked,
            outdated,
            ..
        } = source.status(PATIENCE).unwrap().watchers.expect("it tells");
        (total, tracked, outdated)
    };
    let end = Instant::now() + PATIENCE;
    while counts() != expected && Instant::now() < end {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(counts(), expected);
}
