// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The changes as a stream.

use tokio_stream::StreamExt;

use super::runtime::{expect_pending, in_each_runtime, open, soon};
use crate::cases;
use crate::typed::{Changes, Subject};

cases! { Subject;
    stream_yields_every_generation_that_is_acknowledged,
    stream_yields_a_generation_once,
    stream_yields_changes_in_a_row_up_to_the_last,
    stream_that_nobody_acknowledges_is_told_of_thousands_of_changes,
}

fn stream_yields_every_generation_that_is_acknowledged(subject: &Subject) {
    in_each_runtime(async || {
        let mut watcher = open(subject).await;
        for _ in 0..5 {
            let generation = subject.change();
            let told = soon(watcher.next(), "the generation changed").await;
            assert_eq!(told.unwrap().unwrap(), generation);
            watcher.acknowledge(generation).unwrap();
        }
        expect_pending(watcher.next(), "it has acknowledged").await;
    });
}

/// Also if nobody acknowledges it.
fn stream_yields_a_generation_once(subject: &Subject) {
    in_each_runtime(async || {
        let mut watcher = open(subject).await;
        for _ in 0..5 {
            let generation = subject.change();
            let told = soon(watcher.next(), "the generation changed").await;
            assert_eq!(told.unwrap().unwrap(), generation);
            expect_pending(watcher.next(), "it was told").await;
        }
        subject.expect_unsettled("to be told is not to acknowledge");
    });
}

fn stream_yields_changes_in_a_row_up_to_the_last(subject: &Subject) {
    in_each_runtime(async || {
        let mut watcher = open(subject).await;
        let changes = Changes::start(subject, 200);
        let mut last = None;
        while last != Some(changes.last) {
            let told = soon(watcher.next(), "the last change is not told").await;
            let told = told.unwrap().unwrap();
            assert_ne!(last.replace(told), Some(told), "it was told before");
            if told.get() % 3 == 0 {
                let _ = watcher.acknowledge(told);
            }
        }
        changes.finish();
    });
}

/// However many wake-ups are left where they are.
fn stream_that_nobody_acknowledges_is_told_of_thousands_of_changes(subject: &Subject) {
    in_each_runtime(async || {
        let mut watcher = open(subject).await;
        let changes = Changes::start(subject, 5000);
        let mut last = None;
        while last != Some(changes.last) {
            let told = soon(watcher.next(), "the last change is not told").await;
            last = Some(told.unwrap().unwrap());
        }
        changes.finish();
    });
}
