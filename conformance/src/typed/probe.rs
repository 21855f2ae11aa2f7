// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The mapped counter.

use super::Subject;
use super::subject::is_outdated;
use crate::cases;

cases! { Subject;
    probe_shows_the_change_when_the_trigger_returns,
    probes_and_watchers_show_one_generation,
    probe_acknowledges_nothing,
    probe_is_of_the_file_that_the_path_names,
}

/// Without a system call of its own.
fn probe_shows_the_change_when_the_trigger_returns(subject: &Subject) {
    let probe = subject.probe();
    let orchestrator = subject.orchestrator();
    for _ in 0..100 {
        let generation = orchestrator.trigger().unwrap();
        assert_eq!(probe.generation(), generation);
    }
}

/// Whenever they were opened.
fn probes_and_watchers_show_one_generation(subject: &Subject) {
    let (early, watcher) = (subject.probe(), subject.watcher());
    let generation = subject.change();
    let late = subject.probe();
    let own = watcher.probe().unwrap();
    for probe in [early, late, own] {
        assert_eq!(probe.generation(), generation);
    }
    assert_eq!(watcher.generation(), generation);
    assert_eq!(watcher.try_changed().unwrap(), Some(generation));
}

/// Looking at the counter is not handling its change.
fn probe_acknowledges_nothing(subject: &Subject) {
    let watcher = subject.watcher();
    let probe = watcher.probe().unwrap();
    let generation = subject.change();
    assert_eq!(probe.generation(), generation);
    assert!(is_outdated(&watcher));
    subject.expect_unsettled("it has not acknowledged");
}

/// The health check finds nothing.
fn probe_is_of_the_file_that_the_path_names(subject: &Subject) {
    subject.probe().verify().unwrap();
    subject.watcher().probe().unwrap().verify().unwrap();
}
