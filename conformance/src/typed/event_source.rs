// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A watcher as mio's event source. mio waits for edges, and nothing else.

use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use sysgenid::Watcher;

use super::Subject;
use super::broker_only::Own;
use super::subject::{Changes, catch_up, is_outdated};
use crate::background::{Background, PATIENCE};
use crate::cases;
use crate::forked::Forked;
use crate::suite::Case;

cases! { Subject;
    mio_tells_of_every_change,
    mio_wakes_who_sleeps,
    mio_tells_of_a_watcher_that_was_outdated_when_registered,
    mio_tells_again_of_one_that_was_outdated_when_registered,
    mio_tells_of_an_outdated_watcher_when_it_is_registered_again,
    mio_tells_again_after_each_way_of_registering_again,
    mio_tells_nothing_of_a_deregistered_watcher,
    mio_tells_which_of_several_watchers,
    mio_tells_an_orchestrator_of_a_change,
    no_event_of_mio_is_lost_when_changes_race_with_acknowledgements,
    no_event_of_mio_is_lost_when_changes_race_with_registrations,
    reopened_watcher_is_registered_with_a_poll_of_the_childs_own,
    mio_tells_of_a_dropped_watcher_that_a_child_keeps_unless_it_was_deregistered,
}

/// What only the userspace driver has.
pub(super) const OF_BROKERS: &[Case<Subject>] = &[
    Case {
        name: "mio_tells_of_a_lost_broker_and_goes_on_after_it",
        run: mio_tells_of_a_lost_broker_and_goes_on_after_it,
    },
    Case {
        name: "mio_tells_of_a_change_that_a_lost_broker_hid",
        run: mio_tells_of_a_change_that_a_lost_broker_hid,
    },
];

/// What must not come is waited for this long. Whatever is there already is told at once.
const NOTHING: Duration = Duration::from_millis(20);

/// A poll, and the events that it was told of.
struct Loop {
    poll: Poll,
    events: Events,
}

impl Loop {
    fn new() -> Self {
        Self {
            poll: Poll::new().expect("epoll_create"),
            events: Events::with_capacity(8),
        }
    }

    /// One that has a watcher.
    fn with(watcher: &mut Watcher) -> Self {
        let this = Self::new();
        this.register(watcher, 0);
        this
    }

    fn register(&self, watcher: &mut Watcher, number: usize) {
        let registry = self.poll.registry();
        let registered = registry.register(watcher, Token(number), Interest::READABLE);
        registered.expect("it can be registered");
    }

    fn reregister(&self, watcher: &mut Watcher) {
        let registry = self.poll.registry();
        let registered = registry.reregister(watcher, Token(0), Interest::READABLE);
        registered.expect("it can be registered again");
    }

    fn deregister(&self, watcher: &mut Watcher) {
        let deregistered = self.poll.registry().deregister(watcher);
        deregistered.expect("it can be deregistered");
    }

    /// The numbers of those that there is something to tell of. Whatever is told is told once.
    fn told(&mut self, timeout: Duration) -> Vec<usize> {
        let end = Instant::now() + timeout;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.poll.poll(&mut self.events, Some(left)) {
                Ok(()) => break,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => panic!("epoll_wait: {error}"),
            }
        }
        let mut told: Vec<_> = self.events.iter().map(|event| event.token().0).collect();
        told.sort_unstable();
        told
    }

    fn expect_told(&mut self, why: &str) {
        assert_eq!(self.told(PATIENCE), [0], "{why}");
    }

    /// That there is nothing to tell. An event may be left over first, of something that has been
    /// handled; it is spurious then.
    fn expect_silence(&mut self, why: &str) {
        self.told(Duration::ZERO);
        assert!(self.told(NOTHING).is_empty(), "{why}");
    }
}

/// Of each once, if it is acknowledged in between.
fn mio_tells_of_every_change(subject: &Subject) {
    let mut watcher = subject.watcher();
    let mut events = Loop::with(&mut watcher);
    events.expect_silence("it is up to date");
    for round in 0..5 {
        subject.change();
        events.expect_told(&format!("change {round}"));
        catch_up(&watcher);
        events.expect_silence("it has acknowledged");
    }
}

fn mio_wakes_who_sleeps(subject: &Subject) {
    let mut watcher = subject.watcher();
    let sleeper = Background::start(move || {
        let told = Loop::with(&mut watcher).told(PATIENCE);
        (told, is_outdated(&watcher))
    });
    sleeper.expect_blocked("the generation has not changed");
    subject.change();
    assert_eq!(sleeper.finish("the generation changed"), (vec![0], true));
}

/// An event loop may start late.
fn mio_tells_of_a_watcher_that_was_outdated_when_registered(subject: &Subject) {
    let mut watcher = subject.straggler();
    Loop::with(&mut watcher).expect_told("it is outdated");
}

/// What the posted drivers would lose: they do not take the caller to their wait queue then.
fn mio_tells_again_of_one_that_was_outdated_when_registered(subject: &Subject) {
    let mut watcher = subject.straggler();
    let mut events = Loop::with(&mut watcher);
    events.expect_told("it was outdated when it was registered");
    expect_rounds(subject, &watcher, &mut events);
}

/// The edge was told of already, and whoever registers again has not heard it.
fn mio_tells_of_an_outdated_watcher_when_it_is_registered_again(subject: &Subject) {
    let mut watcher = subject.watcher();
    let mut events = Loop::with(&mut watcher);
    subject.change();
    events.expect_told("it is outdated");
    assert!(events.told(NOTHING).is_empty(), "an edge is told of once");
    events.reregister(&mut watcher);
    events.expect_told("it is outdated still");
    expect_rounds(subject, &watcher, &mut events);
}

/// Up to date or not, and by whichever way.
fn mio_tells_again_after_each_way_of_registering_again(subject: &Subject) {
    let mut watcher = subject.watcher();
    let mut events = Loop::with(&mut watcher);
    for is_outdated in [false, true] {
        for is_anew in [false, true] {
            if is_outdated {
                subject.change();
            }
            if is_anew {
                events.deregister(&mut watcher);
                events.register(&mut watcher, 0);
            } else {
                events.reregister(&mut watcher);
            }
            if is_outdated {
                events.expect_told("it is outdated");
                catch_up(&watcher);
            }
            events.expect_silence("it is up to date");
            subject.change();
            events.expect_told("the change came after it");
            catch_up(&watcher);
        }
    }
}

/// Also of one that is outdated; registered once more, it is told of.
fn mio_tells_nothing_of_a_deregistered_watcher(subject: &Subject) {
    let mut watcher = subject.watcher();
    let mut events = Loop::with(&mut watcher);
    events.deregister(&mut watcher);
    subject.change();
    assert!(events.told(NOTHING).is_empty(), "it is not registered");
    events.register(&mut watcher, 0);
    events.expect_told("it is outdated");
}

fn mio_tells_which_of_several_watchers(subject: &Subject) {
    let (mut first, mut second) = (subject.watcher(), subject.bystander());
    let mut events = Loop::with(&mut first);
    events.register(&mut second, 1);
    subject.change();
    let mut told = events.told(PATIENCE);
    if told.len() < 2 {
        // Not both in the same moment.
        told.extend(events.told(PATIENCE));
        told.sort_unstable();
    }
    assert_eq!(told, [0, 1]);
    catch_up(&second);
    events.reregister(&mut first);
    assert_eq!(events.told(PATIENCE), [0], "the other has acknowledged");
}

fn mio_tells_an_orchestrator_of_a_change(subject: &Subject) {
    let mut orchestrator = subject.orchestrator();
    let mut events = Loop::with(orchestrator.watcher_mut());
    for _ in 0..3 {
        subject.change();
        events.expect_told("it is outdated");
        orchestrator.acknowledge().expect("nothing disturbs it");
        events.expect_silence("it has acknowledged");
    }
}

/// However a change falls between the steps of an acknowledgement, the watcher is up to date when
/// it is done asking, or there is an event to come.
fn no_event_of_mio_is_lost_when_changes_race_with_acknowledgements(subject: &Subject) {
    race(subject, |_, _| {});
}

/// As a program does that changes its interests all the time.
fn no_event_of_mio_is_lost_when_changes_race_with_registrations(subject: &Subject) {
    let mut is_anew = false;
    race(subject, move |events, watcher| {
        is_anew = !is_anew;
        if !is_anew {
            events.reregister(watcher);
        } else {
            events.deregister(watcher);
            events.register(watcher, 0);
        }
    });
}

fn race(subject: &Subject, mut besides: impl FnMut(&Loop, &mut Watcher)) {
    let mut watcher = subject.watcher();
    let mut events = Loop::with(&mut watcher);
    let changes = Changes::start(subject, 400);
    let mut acknowledged = watcher.generation();
    while acknowledged != changes.last {
        let is_told = !events.told(PATIENCE).is_empty();
        assert!(
            is_told,
            "{acknowledged} was acknowledged, and {} is not told",
            changes.last
        );
        besides(&events, &mut watcher);
        while let Some(generation) = watcher.try_changed().unwrap() {
            match watcher.acknowledge(generation) {
                Ok(()) => acknowledged = generation,
                Err(error) => assert!(error.is_stale(), "{error}"),
            }
        }
        besides(&events, &mut watcher);
    }
    changes.finish();
    subject.expect_settled("it has acknowledged the last change");
    assert_eq!(watcher.try_changed().unwrap(), None);
}

/// Each is told of its own, and what the child does with its own leaves the parent's as it was.
fn reopened_watcher_is_registered_with_a_poll_of_the_childs_own(subject: &Subject) {
    let mut watcher = subject.watcher();
    let mut events = Loop::with(&mut watcher);
    let child = Forked::start(|steps| {
        watcher.reopen().expect("it can be reopened");
        let mut own = Loop::with(&mut watcher);
        own.expect_silence("it is up to date");
        steps.step();
        own.expect_told("the generation changed");
        catch_up(&watcher);
        own.expect_silence("it has acknowledged");
    });
    child.arrives();
    subject.change();
    child.go_on();
    child.finish();
    events.expect_told("the parent has not acknowledged");
    expect_rounds(subject, &watcher, &mut events);
}

/// Dropping closes one of two copies, and that ends no registration.
fn mio_tells_of_a_dropped_watcher_that_a_child_keeps_unless_it_was_deregistered(subject: &Subject) {
    for is_deregistered in [false, true] {
        let mut watcher = subject.watcher();
        let mut events = Loop::with(&mut watcher);
        let child = Forked::start(|steps| steps.step());
        child.arrives();
        if is_deregistered {
            events.deregister(&mut watcher);
        }
        drop(watcher);
        subject.change();
        if is_deregistered {
            assert!(events.told(NOTHING).is_empty(), "it is not registered");
        } else {
            events.expect_told("the child keeps it");
        }
    }
}

/// The registration stays, and nothing has been missed.
fn mio_tells_of_a_lost_broker_and_goes_on_after_it(_: &Subject) {
    let mut own = Own::start();
    let mut watcher = own.subject().watcher();
    let mut events = Loop::with(&mut watcher);
    for round in ["the first time", "once more"] {
        own.stop();
        events.expect_told(round);
        assert!(watcher.try_changed().unwrap_err().is_lost(), "{round}");
        own.restart();
        watcher.reconnect(PATIENCE).unwrap();
        events.expect_silence("nothing has changed");
        own.subject().change();
        events.expect_told("the generation changed");
        catch_up(&watcher);
    }
}

fn mio_tells_of_a_change_that_a_lost_broker_hid(_: &Subject) {
    let mut own = Own::start();
    let mut watcher = own.subject().watcher();
    let mut events = Loop::with(&mut watcher);
    own.stop();
    events.expect_told("the broker is lost");
    own.restart();
    own.subject().change();
    assert!(events.told(NOTHING).is_empty(), "it is not connected");
    watcher.reconnect(PATIENCE).unwrap();
    events.expect_told("it has missed a change");
    expect_rounds(own.subject(), &watcher, &mut events);
}

/// From an outdated watcher on: once it has acknowledged, the next change is told of.
fn expect_rounds(subject: &Subject, watcher: &Watcher, events: &mut Loop) {
    for round in 0..3 {
        catch_up(watcher);
        events.expect_silence("it has acknowledged");
        subject.change();
        events.expect_told(&format!("round {round}"));
    }
    catch_up(watcher);
}
