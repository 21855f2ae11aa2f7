// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What only the userspace driver has: it can end, and come back. Each case that
//! ends a broker has one of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sysgenid::{Guarded, Orchestrator};
use sysgenid_broker::Background as Broker;
use sysgenid_sys::abi::Dialect;
use tempfile::TempDir;

use super::Subject;
use super::subject::{catch_up, is_outdated};
use crate::background::{Background, PATIENCE};
use crate::cases;

cases! { Subject;
    lost_broker_is_an_error_of_its_own,
    lost_broker_ends_a_wait,
    lost_broker_ends_a_wait_for_watchers,
    lost_broker_wakes_an_event_loop,
    threads_wait_with_one_orchestrator_each_to_its_deadline,
    reconnecting_waits_for_a_broker_that_starts,
    reconnecting_ends_at_its_deadline,
    required_watchers_are_waited_for,
    probe_and_guarded_value_outlive_the_broker,
    new_broker_goes_on_with_the_generation,
    reconnected_watcher_that_missed_nothing_is_up_to_date,
    reconnected_watcher_that_missed_a_change_is_outdated,
    reconnected_watcher_is_tracked_as_before,
    reconnected_watcher_keeps_its_place_in_an_event_loop,
}

/// Of every call that needs the broker, at once.
fn lost_broker_is_an_error_of_its_own(_: &Subject) {
    let mut own = Own::start();
    let watcher = own.subject.watcher();
    let orchestrator = own.subject.orchestrator();
    own.stop();
    let generation = watcher.generation();
    let errors = [
        watcher.try_changed().unwrap_err(),
        watcher.wait(PATIENCE).unwrap_err(),
        watcher.acknowledge(generation).unwrap_err(),
        watcher.set_tracking(false).unwrap_err(),
        orchestrator.trigger().unwrap_err(),
        orchestrator.wait_for_watchers(PATIENCE).unwrap_err(),
        sysgenid::Watcher::open_at(own.subject.path()).unwrap_err(),
    ];
    for (number, error) in errors.iter().enumerate() {
        assert!(error.is_lost(), "call {number}: {error}");
    }
}

/// Not only at its deadline.
fn lost_broker_ends_a_wait(_: &Subject) {
    let mut own = Own::start();
    let watcher = own.subject.watcher();
    let wait = Background::start(move || watcher.wait(PATIENCE));
    wait.expect_blocked("the generation has not changed");
    own.stop();
    let error = wait.finish("the broker has ended").unwrap_err();
    assert!(error.is_lost(), "{error}");
}

/// Nobody must take the silence for an answer.
fn lost_broker_ends_a_wait_for_watchers(_: &Subject) {
    let mut own = Own::start();
    let _straggler = own.subject.straggler();
    let orchestrator = own.subject.orchestrator();
    let wait = Background::start(move || orchestrator.wait_for_watchers(PATIENCE));
    wait.expect_blocked("a tracked watcher is outdated");
    own.stop();
    let error = wait.finish("the broker has ended").unwrap_err();
    assert!(error.is_lost(), "{error}");
}

/// They do not stand in each other's way.
fn threads_wait_with_one_orchestrator_each_to_its_deadline(subject: &Subject) {
    let straggler = subject.straggler();
    let orchestrator = Arc::new(subject.orchestrator());
    let first = Arc::clone(&orchestrator);
    let wait = Background::start(move || first.wait_for_watchers(PATIENCE));
    wait.expect_blocked("a tracked watcher is outdated");
    let late = orchestrator.wait_for_watchers(Duration::ZERO).unwrap_err();
    assert!(late.is_timeout(), "{late}");
    catch_up(&straggler);
    wait.finish("all have acknowledged").unwrap();
    orchestrator.wait_for_watchers(PATIENCE).unwrap();
}

/// A new broker is not bound yet when its clients notice the end of the old one.
fn reconnecting_waits_for_a_broker_that_starts(_: &Subject) {
    let mut own = Own::start();
    let mut watcher = own.subject.watcher();
    own.stop();
    let reconnecting = Background::start(move || {
        watcher.reconnect(PATIENCE)?;
        watcher.try_changed()
    });
    reconnecting.expect_blocked("no broker runs");
    own.restart();
    let changed = reconnecting.finish("a broker runs").unwrap();
    assert_eq!(changed, None);
}

/// And the watcher is as it was.
fn reconnecting_ends_at_its_deadline(_: &Subject) {
    let mut own = Own::start();
    let mut watcher = own.subject.watcher();
    own.stop();
    for time in [Duration::ZERO, Duration::from_millis(300)] {
        let began = Instant::now();
        let error = watcher.reconnect(time).unwrap_err();
        assert!(error.is_lost(), "{error}");
        assert!(began.elapsed() >= time);
    }
    own.restart();
    watcher.reconnect(PATIENCE).unwrap();
}

/// A success is not reported for nothing.
fn required_watchers_are_waited_for(_: &Subject) {
    let own = Own::start();
    let options = Orchestrator::options().require_watchers(2);
    let orchestrator = options.open_at(own.subject.path()).unwrap();
    let error = orchestrator.wait_for_watchers(Duration::ZERO).unwrap_err();
    assert!(error.is_missing(), "{error}");
    let _first = own.subject.watcher();
    let wait = Background::start(move || orchestrator.wait_for_watchers(PATIENCE));
    wait.expect_blocked("one of two is there");
    let _second = own.subject.watcher();
    let settled = wait.finish("both are there").unwrap();
    assert_eq!(settled.watchers, Some(2));
}

/// Which then asks, and is told.
fn lost_broker_wakes_an_event_loop(_: &Subject) {
    let mut own = Own::start();
    let watcher = own.subject.watcher();
    own.stop();
    assert!(is_ready(&watcher, PATIENCE.as_secs()));
    assert!(watcher.try_changed().unwrap_err().is_lost());
}

/// The page stays where it is.
fn probe_and_guarded_value_outlive_the_broker(_: &Subject) {
    let mut own = Own::start();
    let generation = own.subject.change();
    let probe = own.subject.probe();
    let mut secret = Guarded::unwiped_with_witness(own.subject.probe(), Ok);
    own.stop();
    assert_eq!(probe.generation(), generation);
    assert_eq!(*secret.get().unwrap(), generation);
    probe.verify().unwrap();

    own.restart();
    let generation = own.subject.change();
    assert_eq!(
        probe.generation(),
        generation,
        "the new broker has the same page"
    );
    assert_eq!(*secret.get().unwrap(), generation);
    probe.verify().unwrap();
}

/// It does not begin at 0 again, nor is its start a change.
fn new_broker_goes_on_with_the_generation(_: &Subject) {
    let mut own = Own::start();
    let generation = own.subject.change_to(41);
    own.stop();
    own.restart();
    assert_eq!(own.subject.watcher().generation(), generation);
    assert_eq!(own.subject.change().get(), 42);
}

/// Nothing happened, so there is nothing to rebuild.
fn reconnected_watcher_that_missed_nothing_is_up_to_date(_: &Subject) {
    let mut own = Own::start();
    let mut watcher = own.subject.watcher();
    own.subject.change();
    catch_up(&watcher);
    own.stop();
    own.restart();
    watcher.reconnect(PATIENCE).unwrap();
    assert_eq!(watcher.try_changed().unwrap(), None);
    let generation = own.subject.change();
    assert_eq!(watcher.wait(PATIENCE).unwrap(), generation);
}

/// Whether the change came before the broker ended or after it came back.
fn reconnected_watcher_that_missed_a_change_is_outdated(_: &Subject) {
    let mut own = Own::start();
    let (mut early, mut late) = (own.subject.watcher(), own.subject.watcher());
    own.subject.change();
    catch_up(&late);
    own.stop();
    own.restart();
    early.reconnect(PATIENCE).unwrap();
    let generation = own.subject.change();
    late.reconnect(PATIENCE).unwrap();
    for watcher in [&early, &late] {
        assert_eq!(watcher.try_changed().unwrap(), Some(generation));
    }
    own.subject.expect_unsettled("both are tracked");
    catch_up(&early);
    catch_up(&late);
    own.subject.expect_settled("both have acknowledged");
}

/// Also if it was changed after it was opened.
fn reconnected_watcher_is_tracked_as_before(_: &Subject) {
    let mut own = Own::start();
    let (mut tracked, mut untracked) = (own.subject.onlooker(), own.subject.watcher());
    tracked.set_tracking(true).unwrap();
    untracked.set_tracking(false).unwrap();
    own.stop();
    own.restart();
    tracked.reconnect(PATIENCE).unwrap();
    untracked.reconnect(PATIENCE).unwrap();
    own.subject.change();
    own.subject.expect_unsettled("one is tracked");
    catch_up(&tracked);
    own.subject.expect_settled("the other is not");
    assert!(is_outdated(&untracked));
}

/// The descriptor stays the same, so nothing is to be registered again.
fn reconnected_watcher_keeps_its_place_in_an_event_loop(_: &Subject) {
    use std::os::fd::AsRawFd;

    let mut own = Own::start();
    let mut watcher = own.subject.watcher();
    let before = watcher.as_raw_fd();
    own.stop();
    own.restart();
    watcher.reconnect(PATIENCE).unwrap();
    assert_eq!(watcher.as_raw_fd(), before);
    assert!(!is_ready(&watcher, 0), "it has missed nothing");
    own.subject.change();
    assert!(is_ready(&watcher, PATIENCE.as_secs()));
    catch_up(&watcher);
    assert!(!is_ready(&watcher, 0), "it has acknowledged");
}

/// A broker that a case may end.
pub(crate) struct Own {
    folder: TempDir,
    broker: Option<Broker>,
    subject: Subject,
}

impl Own {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let subject = Subject::new(folder.path().to_owned(), Dialect::V6);
        let mut own = Self {
            folder,
            broker: None,
            subject,
        };
        own.restart();
        own
    }

    pub(crate) fn subject(&self) -> &Subject {
        &self.subject
    }

    pub(crate) fn stop(&mut self) {
        self.broker = None;
    }

    pub(crate) fn restart(&mut self) {
        self.broker = Some(sysgenid_broker::spawn(self.folder.path()).expect("a broker starts"));
    }
}

fn is_ready(watcher: &sysgenid::Watcher, seconds: u64) -> bool {
    let timeout = Timespec {
        tv_sec: seconds.cast_signed(),
        tv_nsec: 0,
    };
    poll(&mut [PollFd::new(watcher, PollFlags::IN)], Some(&timeout)).expect("poll") > 0
}
