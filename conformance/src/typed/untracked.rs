// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who is not waited for. On a driver of the v5 dialect there is no such thing.

use super::Subject;
use super::subject::{catch_up, is_outdated};
use super::tracking::wait_in_background;
use crate::cases;

cases! { Subject;
    untracked_watcher_holds_nobody_up,
    tracking_twice_counts_once,
    tracking_an_outdated_watcher_counts_at_once,
    untracking_ends_a_wait_for_it,
    orchestrator_holds_nobody_up,
    probe_holds_nobody_up,
    probe_of_a_watcher_outlives_it_and_holds_nobody_up,
}

/// However long it is outdated.
fn untracked_watcher_holds_nobody_up(subject: &Subject) {
    let onlooker = subject.onlooker();
    subject.change();
    assert!(is_outdated(&onlooker));
    subject.expect_settled("nobody is tracked");
}

/// It is idempotent: one acknowledgement or one untracking is enough.
fn tracking_twice_counts_once(subject: &Subject) {
    let watcher = subject.watcher();
    watcher.set_tracking(true).unwrap();
    subject.change();
    watcher.set_tracking(true).unwrap();
    subject.expect_unsettled("it is outdated");
    catch_up(&watcher);
    subject.expect_settled("it has acknowledged");

    subject.change();
    watcher.set_tracking(false).unwrap();
    watcher.set_tracking(false).unwrap();
    subject.expect_settled("it is tracked no more");
}

/// It need not have been tracked when the generation changed.
fn tracking_an_outdated_watcher_counts_at_once(subject: &Subject) {
    let watcher = subject.onlooker();
    subject.change();
    subject.expect_settled("it is untracked");
    watcher.set_tracking(true).unwrap();
    subject.expect_unsettled("it is tracked and outdated");
}

/// Whoever waits is told, not only whoever asks later.
fn untracking_ends_a_wait_for_it(subject: &Subject) {
    let straggler = subject.straggler();
    let wait = wait_in_background(subject);
    wait.expect_blocked("a tracked watcher is outdated");
    straggler.set_tracking(false).unwrap();
    wait.finish("it is tracked no more").unwrap();
}

/// Its own watcher is untracked: another orchestrator does not wait for it.
fn orchestrator_holds_nobody_up(subject: &Subject) {
    let orchestrator = subject.orchestrator();
    subject.change();
    assert!(is_outdated(orchestrator.watcher()));
    subject.expect_settled("nobody else is tracked");
}

/// It is no watcher that anybody waits for, while it is mapped and after.
fn probe_holds_nobody_up(subject: &Subject) {
    let probe = subject.probe();
    let generation = subject.change();
    subject.expect_settled("a probe is mapped");
    assert_eq!(probe.generation(), generation);
    drop(probe);
    subject.expect_settled("a probe was mapped");
}

/// Not even if the watcher was tracked and outdated when it was closed.
fn probe_of_a_watcher_outlives_it_and_holds_nobody_up(subject: &Subject) {
    let watcher = subject.straggler();
    let probe = watcher.probe().unwrap();
    drop(watcher);
    subject.expect_settled("the watcher is closed");
    let generation = subject.change();
    assert_eq!(probe.generation(), generation);
    subject.expect_settled("the watcher is closed, and another change came");
}
