// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rebuilding and acknowledging in one.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;

use super::runtime::{expect_pending, handle_change, in_each_runtime, open, soon};
use crate::cases;
use crate::typed::Subject;

cases! { Subject;
    handle_acknowledges_what_was_rebuilt_for,
    handle_repeats_when_the_generation_moved,
    handle_whose_rebuild_fails_acknowledges_nothing,
    handle_that_is_dropped_acknowledges_nothing,
}

fn handle_acknowledges_what_was_rebuilt_for(subject: &Subject) {
    in_each_runtime(async || {
        let watcher = open(subject).await;
        for _ in 0..3 {
            let generation = subject.change();
            let rebuilt = Cell::new(None);
            let handled = watcher.handle(async |generation| {
                tokio::task::yield_now().await;
                rebuilt.set(Some(generation));
                Ok::<_, Infallible>(())
            });
            assert_eq!(soon(handled, "it is outdated").await.unwrap(), generation);
            assert_eq!(rebuilt.get(), Some(generation));
            expect_pending(watcher.changed(), "it has acknowledged").await;
        }
        subject.expect_settled("it has acknowledged");
    });
}

/// Nothing is acknowledged that was not rebuilt for.
fn handle_repeats_when_the_generation_moved(subject: &Subject) {
    in_each_runtime(async || {
        let watcher = open(subject).await;
        let first = subject.change();
        let rebuilt = RefCell::new(Vec::new());
        let handled = watcher.handle(async |generation| {
            rebuilt.borrow_mut().push(generation);
            if rebuilt.borrow().len() < 3 {
                subject.change();
            }
            Ok::<_, Infallible>(())
        });
        let last = soon(handled, "it is outdated").await.unwrap();
        let rebuilt = rebuilt.into_inner();
        assert_eq!(rebuilt.len(), 3);
        assert_eq!(rebuilt.first(), Some(&first));
        assert_eq!(rebuilt.last(), Some(&last));
        assert_eq!(watcher.generation(), last);
        expect_pending(watcher.changed(), "it has acknowledged").await;
    });
}

/// It is told again.
fn handle_whose_rebuild_fails_acknowledges_nothing(subject: &Subject) {
    in_each_runtime(async || {
        let watcher = open(subject).await;
        let generation = subject.change();
        let handled = watcher.handle(async |_| Err(io::Error::other("no entropy")));
        let error = soon(handled, "it is outdated").await.unwrap_err();
        assert!(error.is_rebuild(), "{error}");
        subject.expect_unsettled("it has not acknowledged");
        assert_eq!(handle_change(&watcher, "it is outdated").await, generation);
    });
}

/// In the middle of the rebuild.
fn handle_that_is_dropped_acknowledges_nothing(subject: &Subject) {
    in_each_runtime(async || {
        let watcher = open(subject).await;
        let generation = subject.change();
        let began = Cell::new(false);
        let handled = watcher.handle(async |_| {
            began.set(true);
            std::future::pending::<Result<(), Infallible>>().await
        });
        expect_pending(handled, "the rebuild does not end").await;
        assert!(began.get());
        subject.expect_unsettled("it has not acknowledged");
        assert_eq!(handle_change(&watcher, "it is outdated").await, generation);
    });
}
