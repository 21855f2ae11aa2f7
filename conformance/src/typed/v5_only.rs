// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a driver of the v5 dialect, which waits for every open file, does to the SDK's promises.

use sysgenid::{Probe, Watcher};

use super::Subject;
use super::subject::catch_up;
use crate::cases;

cases! { Subject;
    watcher_cannot_be_untracked,
    bare_probe_is_refused_and_holds_nobody_up,
    probe_of_a_watcher_is_acknowledged_by_it,
    probe_that_outlives_its_watcher_is_waited_for,
    orchestrator_is_waited_for_until_it_acknowledges,
}

/// Neither from the start nor later, with an error that says why. That it is tracked can be asked
/// for all the same.
fn watcher_cannot_be_untracked(subject: &Subject) {
    let untracked = Watcher::options().tracked(false).open_at(subject.path());
    let error = untracked.unwrap_err();
    assert!(error.is_unsupported(), "{error}");
    subject.change();
    subject.expect_settled("the refused watcher is closed");

    let watcher = subject.watcher();
    let error = watcher.set_tracking(false).unwrap_err();
    assert!(error.is_unsupported(), "{error}");
    watcher.set_tracking(true).unwrap();
    subject.change();
    subject.expect_unsettled("it is tracked");
}

/// The mapping would stall every orchestrator from the next change on.
fn bare_probe_is_refused_and_holds_nobody_up(subject: &Subject) {
    let error = Probe::open_at(subject.path()).unwrap_err();
    assert!(error.is_unsupported(), "{error}");
    assert!(error.to_string().contains("Watcher::probe"), "{error}");
    subject.change();
    subject.expect_settled("nothing stays open");
}

/// It is the watcher's own file that is mapped, so it needs nobody else to handle the change.
fn probe_of_a_watcher_is_acknowledged_by_it(subject: &Subject) {
    let watcher = subject.watcher();
    let probe = watcher.probe().unwrap();
    let generation = subject.change();
    assert_eq!(probe.generation(), generation);
    subject.expect_unsettled("it has not acknowledged");
    catch_up(&watcher);
    subject.expect_settled("it has acknowledged, and nothing else is open");
    probe.verify().unwrap();
}

/// Why it is to be dropped first.
fn probe_that_outlives_its_watcher_is_waited_for(subject: &Subject) {
    let watcher = subject.watcher();
    let probe = watcher.probe().unwrap();
    drop(watcher);
    subject.expect_settled("nothing has changed");
    let generation = subject.change();
    assert_eq!(probe.generation(), generation);
    subject.expect_unsettled("nobody can acknowledge for the probe");
    drop(probe);
    subject.expect_settled("the probe is dropped");
}

/// It is a watcher like any other; `settle` acknowledges before it waits.
fn orchestrator_is_waited_for_until_it_acknowledges(subject: &Subject) {
    let orchestrator = subject.orchestrator();
    orchestrator.trigger().unwrap();
    subject.expect_unsettled("the orchestrator has not acknowledged");
    orchestrator.acknowledge().unwrap();
    subject.expect_settled("it has");
}
