// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Triggering a change, and waiting until everybody has handled it.

use std::io;
use std::time::{Duration, Instant};

use sysgenid::adapter;

use super::Subject;
use super::subject::{Changes, SOON, break_off, catch_up, go_on, is_outdated, number};
use crate::background::{Background, PATIENCE, Signal};
use crate::cases;
use crate::child::{Child, Role};

cases! { Subject;
    trigger_changes_the_generation_for_all,
    trigger_at_least_takes_the_larger_number,
    outdated_orchestrator_may_not_wait,
    change_ends_the_wait_of_an_orchestrator,
    wait_for_watchers_fails_when_its_deadline_passes,
    signal_does_not_end_a_wait_for_watchers,
    stop_does_not_end_a_wait_for_watchers,
    signal_ends_a_wait_for_watchers_that_may_be_broken_off,
    orchestrator_that_gave_up_can_wait_again,
    deadline_that_has_passed_leaves_time_for_one_look,
    settle_rebuilds_acknowledges_and_waits,
    settle_without_a_change_rebuilds_nothing,
    settle_starts_over_when_the_generation_moves_during_the_rebuild,
    settle_starts_over_when_the_generation_moves_during_the_wait,
    settle_ends_with_the_last_of_racing_changes,
    settle_fails_when_its_deadline_passes,
    settle_fails_when_the_rebuild_fails,
}

/// The orchestrator's own watcher is one of them.
fn trigger_changes_the_generation_for_all(subject: &Subject) {
    let (watcher, bystander, probe) = (subject.watcher(), subject.bystander(), subject.probe());
    let orchestrator = subject.orchestrator();
    let before = probe.generation();
    let generation = orchestrator.trigger().unwrap();
    assert_ne!(generation, before);
    assert_eq!(probe.generation(), generation);
    for watcher in [&watcher, &bystander, orchestrator.watcher()] {
        assert_eq!(watcher.wait(PATIENCE).unwrap(), generation);
    }
}

/// Of what was asked for and of the next one.
fn trigger_at_least_takes_the_larger_number(subject: &Subject) {
    let orchestrator = subject.orchestrator();
    let before = number(subject.probe().generation());
    let asked = before + 1_000;
    assert_eq!(number(orchestrator.trigger_at_least(asked).unwrap()), asked);
    for smaller in [0, before, before + 1_000] {
        let next = number(subject.probe().generation()) + 1;
        let generation = orchestrator.trigger_at_least(smaller).unwrap();
        assert_eq!(number(generation), next, "at least {smaller}");
    }
}

/// An answer about the others would belong to a generation that is gone: whether others are
/// outdated or not.
fn outdated_orchestrator_may_not_wait(subject: &Subject) {
    let orchestrator = subject.orchestrator();
    orchestrator.trigger().unwrap();
    let error = orchestrator.wait_for_watchers(PATIENCE).unwrap_err();
    assert!(error.is_outdated(), "{error}");
    let straggler = subject.straggler();
    let error = orchestrator.wait_for_watchers(PATIENCE).unwrap_err();
    assert!(error.is_outdated(), "{error}");

    catch_up(&straggler);
    assert_eq!(orchestrator.acknowledge().unwrap(), straggler.generation());
    orchestrator.wait_for_watchers(PATIENCE).unwrap();
}

/// It must not go on as if it had been answered.
fn change_ends_the_wait_of_an_orchestrator(subject: &Subject) {
    let _straggler = subject.straggler();
    let orchestrator = subject.orchestrator();
    let wait = Background::start(move || orchestrator.wait_for_watchers(PATIENCE));
    wait.expect_blocked("a tracked watcher is outdated");
    subject.change();
    let error = wait.finish("the generation changed").unwrap_err();
    assert!(error.is_outdated(), "{error}");
}

/// With an error of its own, and not before.
fn wait_for_watchers_fails_when_its_deadline_passes(subject: &Subject) {
    let _straggler = subject.straggler();
    let orchestrator = subject.orchestrator();
    for timeout in [Duration::ZERO, SOON] {
        let start = Instant::now();
        let error = orchestrator.wait_for_watchers(timeout).unwrap_err();
        assert!(error.is_timeout(), "{error}");
        assert!(start.elapsed() >= timeout, "{timeout:?}");
    }
}

/// Nor does it move the deadline.
fn signal_does_not_end_a_wait_for_watchers(subject: &Subject) {
    let straggler = subject.straggler();
    let orchestrator = subject.orchestrator();
    let wait = Background::start(move || orchestrator.wait_for_watchers(PATIENCE));
    for _ in 0..3 {
        wait.signal(Signal::Ends);
        wait.expect_blocked("a signal is no acknowledgement");
    }
    let impatient = subject.orchestrator();
    let timeout = Duration::from_millis(300);
    let timed_out = Background::start(move || impatient.wait_for_watchers(timeout));
    let error = timed_out
        .signal_until_finished(Signal::Ends, "the deadline passed")
        .unwrap_err();
    assert!(error.is_timeout(), "{error}");

    catch_up(&straggler);
    wait.finish("nobody is outdated").unwrap();
}

/// A stop and SIGCONT, a suspend of the machine and a debugger that attaches interrupt the driver's
/// wait. None of them is an answer.
fn stop_does_not_end_a_wait_for_watchers(subject: &Subject) {
    let straggler = subject.straggler();
    let mut child = Child::start_on(Role::Settle, subject.path());
    assert_eq!(child.said(), "ok");
    for _ in 0..10 {
        child.stop_and_continue();
        assert!(!child.has_ended(), "a tracked watcher is outdated");
    }
    catch_up(&straggler);
    assert_eq!(child.exit_code(), Some(0), "it has acknowledged");
}

/// Nor does what was broken off keep the orchestrator from waiting again.
fn signal_ends_a_wait_for_watchers_that_may_be_broken_off(subject: &Subject) {
    let straggler = subject.straggler();
    let orchestrator = subject.orchestrator();
    let wait = Background::start(move || {
        let wait = || orchestrator.wait_for_watchers(PATIENCE);
        (adapter::interruptible(break_off, wait), orchestrator)
    });
    let (broken_off, orchestrator) = wait.signal_until_finished(Signal::Ends, "it was broken off");
    let error = broken_off.unwrap_err();
    assert!(error.is_interrupted(), "{error}");

    let wait = Background::start(move || {
        adapter::interruptible(go_on, || orchestrator.wait_for_watchers(PATIENCE))
    });
    wait.signal(Signal::Ends);
    wait.expect_blocked("it was not broken off");
    catch_up(&straggler);
    wait.finish("nobody is outdated").unwrap();
}

/// A wait that is over leaves nothing behind that the next would take for its answer.
fn orchestrator_that_gave_up_can_wait_again(subject: &Subject) {
    let straggler = subject.straggler();
    let orchestrator = subject.orchestrator();
    for _ in 0..5 {
        assert!(
            orchestrator
                .wait_for_watchers(Duration::from_millis(1))
                .unwrap_err()
                .is_timeout()
        );
    }
    catch_up(&straggler);
    orchestrator.wait_for_watchers(PATIENCE).unwrap();
    subject.change();
    let error = orchestrator.wait_for_watchers(PATIENCE).unwrap_err();
    assert!(error.is_outdated(), "{error}");
}

/// As with a watcher's wait.
fn deadline_that_has_passed_leaves_time_for_one_look(subject: &Subject) {
    let straggler = subject.straggler();
    let orchestrator = subject.orchestrator();
    for _ in 0..50 {
        let error = orchestrator.wait_for_watchers(Duration::ZERO).unwrap_err();
        assert!(error.is_timeout(), "{error}");
        catch_up(&straggler);
        orchestrator.wait_for_watchers(Duration::ZERO).unwrap();
        subject.change();
        let error = orchestrator.wait_for_watchers(Duration::ZERO).unwrap_err();
        assert!(error.is_outdated(), "{error}");
        orchestrator.acknowledge().unwrap();
    }
}

/// In this order: nobody is waited for who waits for the orchestrator.
fn settle_rebuilds_acknowledges_and_waits(subject: &Subject) {
    let watcher = subject.watcher();
    let orchestrator = subject.orchestrator();
    let generation = orchestrator.trigger().unwrap();
    let worker = Background::start(move || {
        watcher
            .handle(PATIENCE, |_| Ok::<_, io::Error>(()))
            .map(|handled| (handled, watcher))
    });
    let mut rebuilt = Vec::new();
    let settled = orchestrator.settle(PATIENCE, |generation| {
        rebuilt.push(generation);
        Ok::<_, io::Error>(())
    });
    assert_eq!(settled.unwrap().generation, generation);
    assert_eq!(rebuilt, [generation]);
    let (handled, watcher) = worker.finish("the generation changed").unwrap();
    assert_eq!(handled, generation);
    assert!(!is_outdated(&watcher));
    assert!(!is_outdated(orchestrator.watcher()));
}

/// The others are waited for all the same.
fn settle_without_a_change_rebuilds_nothing(subject: &Subject) {
    let straggler = subject.straggler();
    let orchestrator = subject.orchestrator();
    let settle = Background::start(move || {
        orchestrator.settle(PATIENCE, |_| -> io::Result<()> {
            panic!("nothing has changed")
        })
    });
    settle.expect_blocked("a tracked watcher is outdated");
    catch_up(&straggler);
    let settled = settle.finish("nobody is outdated").unwrap();
    assert_eq!(settled.generation, straggler.generation());
}

/// The generation that it returns is the one that everybody has acknowledged.
fn settle_starts_over_when_the_generation_moves_during_the_rebuild(subject: &Subject) {
    let orchestrator = subject.orchestrator();
    let first = orchestrator.trigger().unwrap();
    let mut rebuilt = Vec::new();
    let settled = orchestrator.settle(PATIENCE, |generation| {
        rebuilt.push(generation);
        if rebuilt.len() == 1 {
            subject.change();
        }
        Ok::<_, io::Error>(())
    });
    let last = settled.unwrap().generation;
    assert_eq!(rebuilt, [first, last]);
    assert_ne!(first, last);
    assert_eq!(subject.probe().generation(), last);
}

/// The same, if the change comes while the others are waited for.
fn settle_starts_over_when_the_generation_moves_during_the_wait(subject: &Subject) {
    let watcher = subject.watcher();
    let orchestrator = subject.orchestrator();
    let first = orchestrator.trigger().unwrap();
    let settle = Background::start(move || {
        let mut rebuilt = Vec::new();
        let settled = orchestrator.settle(PATIENCE, |generation| {
            rebuilt.push(generation);
            Ok::<_, io::Error>(())
        });
        settled.map(|settled| (settled, rebuilt))
    });
    settle.expect_blocked("a tracked watcher is outdated");
    let last = subject.change();
    settle.expect_blocked("it is outdated still");
    watcher.acknowledge(last).unwrap();
    let (settled, rebuilt) = settle.finish("nobody is outdated").unwrap();
    assert_eq!(settled.generation, last);
    assert_eq!(rebuilt, [first, last]);
}

/// What it returns is acknowledged by all, and if that was not the last, it settles again.
fn settle_ends_with_the_last_of_racing_changes(subject: &Subject) {
    let watchers = [subject.watcher(), subject.watcher()];
    let orchestrator = subject.orchestrator();
    let changes = Changes::start(subject, 200);
    let last = changes.last;
    let workers = watchers.map(|watcher| {
        Background::start_without_waiting(move || {
            let handle = || watcher.handle(PATIENCE, |_| Ok::<_, io::Error>(()));
            while handle().unwrap() != last {}
        })
    });
    let mut settled = None;
    while settled != Some(last) {
        // Nothing is told twice: without a change there is nothing to settle.
        orchestrator.watcher().wait(PATIENCE).unwrap();
        settled = Some(
            orchestrator
                .settle(PATIENCE, |_| Ok::<_, io::Error>(()))
                .unwrap()
                .generation,
        );
    }
    for worker in workers {
        worker.finish("it follows the changes");
    }
    changes.finish();
    subject.expect_settled("all have acknowledged");
}

/// Because of others; its own part is done then.
fn settle_fails_when_its_deadline_passes(subject: &Subject) {
    let _watcher = subject.watcher();
    let orchestrator = subject.orchestrator();
    orchestrator.trigger().unwrap();
    let settled = orchestrator.settle(Duration::from_millis(300), |_| Ok::<_, io::Error>(()));
    let error = settled.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert!(!is_outdated(orchestrator.watcher()));
}

/// Nothing is acknowledged, and nobody resumes.
fn settle_fails_when_the_rebuild_fails(subject: &Subject) {
    let orchestrator = subject.orchestrator();
    orchestrator.trigger().unwrap();
    let settled = orchestrator.settle(PATIENCE, |_| Err(io::Error::other("no entropy")));
    let error = settled.unwrap_err();
    assert!(error.is_rebuild(), "{error}");
    assert!(is_outdated(orchestrator.watcher()));
}
