// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A watcher's state: up to date, outdated, acknowledged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sysgenid::{Generation, adapter};

use super::Subject;
use super::subject::{Changes, SOON, break_off, catch_up, go_on, is_outdated};
use crate::background::{Background, PATIENCE, Signal};
use crate::cases;

cases! { Subject;
    watcher_starts_up_to_date,
    watchers_have_states_of_their_own,
    wait_returns_the_new_generation,
    wait_returns_at_once_while_outdated,
    wait_on_several_threads_wakes_all,
    wait_fails_when_its_deadline_passes,
    signal_does_not_end_a_wait,
    signal_ends_a_wait_that_may_be_broken_off,
    try_changed_repeats_until_acknowledged,
    several_changes_are_seen_as_the_latest,
    acknowledgement_twice_is_accepted,
    acknowledgement_while_up_to_date_is_accepted,
    stale_acknowledgement_names_the_current_generation,
    watchers_on_several_threads_follow_racing_changes,
    racing_change_is_told_once,
}

/// Only later changes are reported.
fn watcher_starts_up_to_date(subject: &Subject) {
    let generation = subject.change();
    for watcher in [subject.watcher(), subject.bystander()] {
        assert_eq!(watcher.try_changed().unwrap(), None);
        assert_eq!(watcher.generation(), generation);
    }
}

/// One that acknowledges does not do so for another.
fn watchers_have_states_of_their_own(subject: &Subject) {
    let (first, second) = (subject.watcher(), subject.watcher());
    subject.change();
    catch_up(&first);
    assert!(!is_outdated(&first));
    assert!(is_outdated(&second));
}

/// Not before there is one.
fn wait_returns_the_new_generation(subject: &Subject) {
    let watcher = subject.watcher();
    let wait = Background::start(move || watcher.wait(PATIENCE));
    wait.expect_blocked("the generation has not changed");
    let generation = subject.change();
    assert_eq!(wait.finish("the generation changed").unwrap(), generation);
}

/// A change is reported even if the deadline has passed.
fn wait_returns_at_once_while_outdated(subject: &Subject) {
    let watcher = subject.watcher();
    let generation = subject.change();
    assert_eq!(watcher.wait(PATIENCE).unwrap(), generation);
    assert_eq!(watcher.wait(Duration::ZERO).unwrap(), generation);
}

/// A watcher can be shared.
fn wait_on_several_threads_wakes_all(subject: &Subject) {
    let watcher = Arc::new(subject.watcher());
    let waits: Vec<_> = (0..3)
        .map(|_| {
            let watcher = Arc::clone(&watcher);
            Background::start(move || watcher.wait(PATIENCE))
        })
        .collect();
    let generation = subject.change();
    for wait in waits {
        assert_eq!(wait.finish("the generation changed").unwrap(), generation);
    }
}

/// With an error of its own, and not before.
fn wait_fails_when_its_deadline_passes(subject: &Subject) {
    let watcher = subject.watcher();
    for timeout in [Duration::ZERO, SOON] {
        let start = Instant::now();
        let error = watcher.wait(timeout).unwrap_err();
        assert!(error.is_timeout(), "{error}");
        assert!(start.elapsed() >= timeout, "{timeout:?}");
    }
}

/// Nor does it move the deadline.
fn signal_does_not_end_a_wait(subject: &Subject) {
    let (watcher, impatient) = (subject.watcher(), subject.watcher());
    let wait = Background::start(move || watcher.wait(PATIENCE));
    for _ in 0..3 {
        wait.signal(Signal::Ends);
        wait.expect_blocked("a signal is no change");
    }
    let timeout = Duration::from_millis(300);
    let timed_out = Background::start(move || impatient.wait(timeout));
    let error = timed_out
        .signal_until_finished(Signal::Ends, "the deadline passed")
        .unwrap_err();
    assert!(error.is_timeout(), "{error}");

    let generation = subject.change();
    assert_eq!(wait.finish("the generation changed").unwrap(), generation);
}

/// For an interpreter, whose handler of the signal only leaves a note.
fn signal_ends_a_wait_that_may_be_broken_off(subject: &Subject) {
    let (watcher, patient) = (subject.watcher(), subject.watcher());
    let wait = Background::start(move || {
        let broken_off = adapter::interruptible(break_off, || watcher.wait(PATIENCE));
        (broken_off, watcher)
    });
    let goes_on =
        Background::start(move || adapter::interruptible(go_on, || patient.wait(PATIENCE)));
    let (broken_off, watcher) = wait.signal_until_finished(Signal::Ends, "it was broken off");
    let error = broken_off.unwrap_err();
    assert!(error.is_interrupted(), "{error}");
    goes_on.signal(Signal::Ends);
    goes_on.expect_blocked("it was not broken off");

    let generation = subject.change();
    assert_eq!(
        goes_on.finish("the generation changed").unwrap(),
        generation
    );
    assert_eq!(watcher.wait(PATIENCE).unwrap(), generation);
}

/// Looking does not acknowledge.
fn try_changed_repeats_until_acknowledged(subject: &Subject) {
    let watcher = subject.watcher();
    let generation = subject.change();
    for _ in 0..3 {
        assert_eq!(watcher.try_changed().unwrap(), Some(generation));
    }
    watcher.acknowledge(generation).unwrap();
    assert_eq!(watcher.try_changed().unwrap(), None);
}

/// Changes are not queued.
fn several_changes_are_seen_as_the_latest(subject: &Subject) {
    let watcher = subject.watcher();
    let first = subject.change();
    let last = subject.change();
    assert_ne!(first, last);
    assert_eq!(watcher.try_changed().unwrap(), Some(last));
    watcher.acknowledge(last).unwrap();
    assert_eq!(watcher.try_changed().unwrap(), None);
}

/// It is idempotent.
fn acknowledgement_twice_is_accepted(subject: &Subject) {
    let watcher = subject.watcher();
    let generation = subject.change();
    watcher.acknowledge(generation).unwrap();
    watcher.acknowledge(generation).unwrap();
    assert!(!is_outdated(&watcher));
    subject.expect_settled("it has acknowledged");
}

/// Nothing was asked, and nothing is wrong with the answer.
fn acknowledgement_while_up_to_date_is_accepted(subject: &Subject) {
    let watcher = subject.watcher();
    watcher.acknowledge(watcher.generation()).unwrap();
    assert!(!is_outdated(&watcher));
}

/// The error says what to rebuild for, nothing is acknowledged, and what it says is accepted.
fn stale_acknowledgement_names_the_current_generation(subject: &Subject) {
    let watcher = subject.watcher();
    let before = watcher.generation();
    let current = subject.change();
    for stale in [before, Generation::new(current.get().wrapping_add(1))] {
        let error = watcher.acknowledge(stale).unwrap_err();
        assert!(error.is_stale(), "{error}");
        assert_eq!(error.current(), Some(current));
        assert!(is_outdated(&watcher));
    }
    subject.expect_unsettled("nothing was acknowledged");
    watcher.acknowledge(current).unwrap();
    assert!(!is_outdated(&watcher));
    assert!(watcher.acknowledge(before).unwrap_err().is_stale());
    assert!(
        !is_outdated(&watcher),
        "a stale acknowledgement outdates nobody"
    );
}

/// Whatever each sees in between, all end with the last generation, and are up to date.
fn watchers_on_several_threads_follow_racing_changes(subject: &Subject) {
    let watchers = [subject.watcher(), subject.watcher(), subject.bystander()];
    let changes = Changes::start(subject, 400);
    let last = changes.last;
    let workers = watchers.map(|watcher| {
        Background::start_without_waiting(move || {
            let handle = || watcher.handle(PATIENCE, |_| Ok::<_, std::io::Error>(()));
            while handle().unwrap() != last {}
            watcher
        })
    });
    let watchers = workers.map(|worker| worker.finish("it follows the changes"));
    changes.finish();
    subject.expect_settled("all have acknowledged");
    for watcher in watchers {
        assert!(!is_outdated(&watcher));
    }
}

/// Whoever sees a change in the page, before it is told of it, and acknowledges at once, is not
/// told of the same change after that.
fn racing_change_is_told_once(subject: &Subject) {
    let watcher = subject.watcher();
    let changes = Changes::start(subject, 400);
    let end = Instant::now() + PATIENCE;
    let mut acknowledged = watcher.generation();
    while acknowledged != changes.last {
        assert!(
            Instant::now() < end,
            "the page shows {acknowledged}, of {}",
            changes.last
        );
        let shown = watcher.generation();
        if shown == acknowledged || watcher.acknowledge(shown).is_err() {
            continue;
        }
        acknowledged = shown;
        for _ in 0..5 {
            let told = watcher.try_changed().unwrap();
            assert_ne!(told, Some(acknowledged), "it was acknowledged");
        }
    }
    changes.finish();
    assert!(!is_outdated(&watcher));
}
