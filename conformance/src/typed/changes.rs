// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `Changes` over a source that has watchers: reported, acknowledged, overtaken, dropped, forked.

use std::time::{Duration, Instant};

use sysgenid::{Acknowledged, Change, Changes, Generation, Source};

use super::Subject;
use super::subject::SOON;
use crate::background::{Background, PATIENCE};
use crate::cases;
use crate::forked::Forked;

cases! { Subject;
    changes_begin_with_what_is_there,
    changes_report_each_change_until_it_is_acknowledged,
    changes_hold_up_an_orchestrator_until_they_are_acknowledged,
    changes_wake_who_waits,
    changes_report_a_newer_change_while_one_is_held,
    change_that_is_dropped_is_reported_again,
    change_that_was_overtaken_acknowledges_nothing,
    changes_in_a_forked_child_report_what_the_parent_owes,
    changes_in_a_forked_child_report_what_has_come_since,
}

fn changes(subject: &Subject) -> Changes {
    let before = tracked(subject);
    let mut changes = Changes::options()
        .at(subject.path())
        // Whatever is reported, an event has come.
        .look_every(Duration::from_secs(3600))
        .open();
    expect_quiet(&mut changes);
    // A broker answers in its own time. A driver that does not tell has answered already.
    let until = Instant::now() + PATIENCE;
    while before.is_some() && tracked(subject) == before {
        assert!(Instant::now() < until, "it is not a watcher");
        expect_quiet(&mut changes);
    }
    changes
}

fn tracked(subject: &Subject) -> Option<u32> {
    let source = Source::at(subject.path()).expect("it is there");
    let status = source.status(PATIENCE).expect("it can be asked");
    status.watchers.map(|watchers| watchers.tracked)
}

fn expect_quiet(changes: &mut Changes) {
    let told = changes.wait(SOON);
    assert!(
        told.as_ref().is_err_and(sysgenid::Error::is_timeout),
        "{told:?}"
    );
}

fn next(changes: &mut Changes) -> Change {
    changes.wait(PATIENCE).expect("a change")
}

fn handle(changes: &mut Changes, generation: Generation) {
    let change = next(changes);
    assert_eq!(change.generation(), generation);
    assert_eq!(change.acknowledge().expect("it can"), Acknowledged::Yes);
}

/// What has changed before is past.
fn changes_begin_with_what_is_there(subject: &Subject) {
    subject.change();
    let mut changes = changes(subject);
    expect_quiet(&mut changes);
    assert_eq!(changes.sources().count(), 1);
}

/// And not after that.
fn changes_report_each_change_until_it_is_acknowledged(subject: &Subject) {
    let mut changes = changes(subject);
    for _ in 0..3 {
        let generation = subject.change();
        handle(&mut changes, generation);
        expect_quiet(&mut changes);
    }
}

fn changes_hold_up_an_orchestrator_until_they_are_acknowledged(subject: &Subject) {
    let mut changes = changes(subject);
    let generation = subject.change();
    let change = next(&mut changes);
    subject.expect_unsettled("it is not acknowledged");
    assert_eq!(change.generation(), generation);
    assert_eq!(change.acknowledge().expect("it can"), Acknowledged::Yes);
    subject.expect_settled("it is acknowledged");
}

/// Without any deadline.
fn changes_wake_who_waits(subject: &Subject) {
    let mut changes = changes(subject);
    let waker = changes.waker();
    let waiting = Background::start(move || changes.next().map(|change| change.generation()));
    let generation = subject.change();
    assert_eq!(waiting.finish("it is woken"), Some(generation));
    drop(waker);
}

/// Although a driver is outdated all the time, and so readable.
fn changes_report_a_newer_change_while_one_is_held(subject: &Subject) {
    let mut changes = changes(subject);
    subject.change();
    let mut held = next(&mut changes);
    for _ in 0..3 {
        expect_quiet(&mut changes);
        let generation = subject.change();
        let newer = next(&mut changes);
        assert_eq!(newer.generation(), generation);
        let older = std::mem::replace(&mut held, newer);
        assert_eq!(
            older.acknowledge().expect("no error"),
            Acknowledged::Overtaken
        );
    }
    assert_eq!(held.acknowledge().expect("it can"), Acknowledged::Yes);
    expect_quiet(&mut changes);
}

fn change_that_is_dropped_is_reported_again(subject: &Subject) {
    let mut changes = changes(subject);
    let generation = subject.change();
    for _ in 0..2 {
        assert_eq!(next(&mut changes).generation(), generation);
    }
    subject.expect_unsettled("it is not acknowledged");
    handle(&mut changes, generation);
    expect_quiet(&mut changes);
}

fn change_that_was_overtaken_acknowledges_nothing(subject: &Subject) {
    let mut changes = changes(subject);
    subject.change();
    let change = next(&mut changes);
    let generation = subject.change();
    let acknowledged = change.acknowledge().expect("no error");
    assert_eq!(acknowledged, Acknowledged::Overtaken);
    subject.expect_unsettled("nothing is acknowledged");
    handle(&mut changes, generation);
    subject.expect_settled("the newer one is acknowledged");
}

/// Whatever the child does, the parent has to acknowledge by itself.
fn changes_in_a_forked_child_report_what_the_parent_owes(subject: &Subject) {
    let mut changes = changes(subject);
    let generation = subject.change();
    let change = next(&mut changes);
    let child = Forked::start(|_| handle(&mut changes, generation));
    child.finish();
    subject.expect_unsettled("the parent has not acknowledged");
    assert_eq!(change.acknowledge().expect("it can"), Acknowledged::Yes);
    expect_quiet(&mut changes);
}

fn changes_in_a_forked_child_report_what_has_come_since(subject: &Subject) {
    let mut changes = changes(subject);
    let generation = subject.change();
    handle(&mut changes, generation);
    let child = Forked::start(|_| {
        expect_quiet(&mut changes);
        let generation = subject.change();
        handle(&mut changes, generation);
    });
    child.finish();
    let change = next(&mut changes);
    assert_eq!(change.acknowledge().expect("it can"), Acknowledged::Yes);
    subject.expect_settled("all have acknowledged");
}
