// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `Watcher::handle`: wait, rebuild, acknowledge, and again if the generation moved meanwhile.

use std::error::Error;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Subject;
use super::subject::{SOON, is_outdated};
use crate::background::PATIENCE;
use crate::cases;

cases! { Subject;
    handle_rebuilds_once_and_acknowledges,
    handle_repeats_when_the_generation_moves_during_the_rebuild,
    handle_fails_when_its_deadline_passes,
    failed_rebuild_leaves_the_watcher_outdated,
    panicking_rebuild_leaves_the_watcher_outdated,
}

/// For the generation that it returns.
fn handle_rebuilds_once_and_acknowledges(subject: &Subject) {
    let watcher = subject.watcher();
    let generation = subject.change();
    let mut rebuilt = Vec::new();
    let handled = watcher.handle(PATIENCE, |generation| {
        rebuilt.push(generation);
        Ok::<_, io::Error>(())
    });
    assert_eq!(handled.unwrap(), generation);
    assert_eq!(rebuilt, [generation]);
    assert!(!is_outdated(&watcher));
    subject.expect_settled("it has acknowledged");
}

/// What was built for a generation that is gone is not acknowledged.
fn handle_repeats_when_the_generation_moves_during_the_rebuild(subject: &Subject) {
    let watcher = subject.watcher();
    let first = subject.change();
    let mut rebuilt = Vec::new();
    let handled = watcher.handle(PATIENCE, |generation| {
        rebuilt.push(generation);
        if rebuilt.len() < 3 {
            subject.change();
        }
        Ok::<_, io::Error>(())
    });
    let last = handled.unwrap();
    assert_eq!(rebuilt.len(), 3);
    assert_eq!((rebuilt[0], rebuilt[2]), (first, last));
    assert_eq!(watcher.generation(), last);
    assert!(!is_outdated(&watcher));
}

/// Without a change nothing is rebuilt.
fn handle_fails_when_its_deadline_passes(subject: &Subject) {
    let watcher = subject.watcher();
    let handled = watcher.handle(SOON, |_| -> io::Result<()> {
        panic!("nothing has changed")
    });
    let error = handled.unwrap_err();
    assert!(error.is_timeout(), "{error}");
}

/// Nothing is acknowledged, and the cause is told.
fn failed_rebuild_leaves_the_watcher_outdated(subject: &Subject) {
    let watcher = subject.watcher();
    let generation = subject.change();
    let handled = watcher.handle(PATIENCE, |_| Err(io::Error::other("no entropy")));
    let error = handled.unwrap_err();
    assert!(error.is_rebuild(), "{error}");
    assert_eq!(error.source().unwrap().to_string(), "no entropy");
    assert_eq!(watcher.try_changed().unwrap(), Some(generation));
    subject.expect_unsettled("it has not acknowledged");
}

/// A panic is no success either, and the watcher can be used after it.
fn panicking_rebuild_leaves_the_watcher_outdated(subject: &Subject) {
    let watcher = subject.watcher();
    let generation = subject.change();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _ = watcher.handle(PATIENCE, |_| -> io::Result<()> { panic!("on purpose") });
    }));
    assert!(panicked.is_err());
    assert_eq!(watcher.try_changed().unwrap(), Some(generation));
    let handled = watcher.handle(PATIENCE, |_| Ok::<_, io::Error>(()));
    assert_eq!(handled.unwrap(), generation);
}
