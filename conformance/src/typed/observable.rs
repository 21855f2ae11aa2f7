// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who holds others up, and how many watchers there are: what brokers and this project's driver
//! tell, and the shipped drivers do not.

use std::time::Instant;

use sysgenid::{Source, WatcherCounts};
use sysgenid_sys::abi::Dialect;

use super::Subject;
use super::subject::catch_up;
use crate::background::PATIENCE;
use crate::cases;
use crate::child::{Child, Role};

cases! { Subject;
    stragglers_are_named,
    straggler_of_another_process_is_named,
    status_counts_the_watchers,
}

/// By the process that has the watcher; those that have acknowledged, and untracked ones, are not
/// among them.
fn stragglers_are_named(subject: &Subject) {
    let (straggler, settled) = (subject.watcher(), subject.watcher());
    let bystander = subject.bystander();
    let before = straggler.generation();
    let orchestrator = subject.orchestrator();
    let generation = orchestrator.trigger().unwrap();
    orchestrator.acknowledge().unwrap();
    settled.acknowledge(generation).unwrap();
    // A broker does not answer acknowledgements: the answer to another request says that it was
    // read.
    settled.set_tracking(true).unwrap();
    if subject.dialect() == Dialect::V5 {
        // In v5 all are tracked.
        catch_up(&bystander);
    }

    let stragglers = orchestrator.stragglers().unwrap();
    assert_eq!(stragglers.len(), 1, "{stragglers:?}");
    assert_eq!(stragglers[0].pid, Some(std::process::id()));
    assert_eq!(stragglers[0].acknowledged, before);
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    assert_eq!(stragglers[0].command, name.trim_end());

    catch_up(&straggler);
    straggler.set_tracking(true).unwrap();
    assert_eq!(orchestrator.stragglers().unwrap(), []);
}

/// Whoever has the watcher, however it is called.
fn straggler_of_another_process_is_named(subject: &Subject) {
    let child = Child::start_on(Role::HoldWatcher, subject.path());
    assert_eq!(child.said(), "ok");
    let orchestrator = subject.orchestrator();
    let before = orchestrator.watcher().generation();
    orchestrator.trigger().unwrap();
    orchestrator.acknowledge().unwrap();
    let stragglers = orchestrator.stragglers().unwrap();
    assert_eq!(stragglers.len(), 1, "{stragglers:?}");
    assert_eq!(stragglers[0].pid, Some(child.pid()));
    assert_eq!(stragglers[0].acknowledged, before);
    drop(child);
    orchestrator.wait_for_watchers(PATIENCE).unwrap();
    assert_eq!(orchestrator.stragglers().unwrap(), []);
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
