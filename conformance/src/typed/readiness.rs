// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A watcher in an event loop: readable while outdated.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sysgenid::Watcher;

use super::Subject;
use super::subject::{Changes, catch_up};
use crate::background::{Background, PATIENCE};
use crate::cases;

cases! { Subject;
    poll_is_ready_while_outdated,
    poll_wakes_when_the_generation_changes,
    level_triggered_epoll_is_ready_while_outdated,
    edge_triggered_epoll_wakes_on_every_change,
    epoll_reports_a_watcher_that_was_outdated_when_added,
    epoll_wakes_again_after_it_was_added_while_outdated,
    edge_triggered_epoll_wakes_again_after_it_was_added_while_outdated,
    one_shot_epoll_wakes_again_when_it_is_armed_again,
    epoll_tells_which_of_several_watchers,
    several_event_loops_are_all_woken,
    no_wake_up_is_lost_when_changes_race_with_acknowledgements,
    no_edge_is_lost_when_changes_race_with_acknowledgements,
}

const EDGE: EventFlags = EventFlags::IN.union(EventFlags::ET);

/// Until it acknowledges; asking does not end it.
fn poll_is_ready_while_outdated(subject: &Subject) {
    let watcher = subject.watcher();
    assert!(!polls_ready(&watcher, Duration::ZERO), "it is up to date");
    subject.change();
    for _ in 0..3 {
        assert!(polls_ready(&watcher, PATIENCE), "it is outdated");
        watcher.try_changed().unwrap();
    }
    catch_up(&watcher);
    assert!(
        !polls_ready(&watcher, Duration::ZERO),
        "it has acknowledged"
    );
}

/// A sleeper, not only one who asks later.
fn poll_wakes_when_the_generation_changes(subject: &Subject) {
    let watcher = subject.watcher();
    let sleeper = Background::start(move || polls_ready(&watcher, PATIENCE));
    sleeper.expect_blocked("the generation has not changed");
    subject.change();
    assert!(sleeper.finish("the generation changed"));
}

/// As `poll`.
fn level_triggered_epoll_is_ready_while_outdated(subject: &Subject) {
    let watcher = subject.watcher();
    let epoll = new_epoll([(&watcher, EventFlags::IN)]);
    assert!(!is_ready(&epoll, Duration::ZERO), "it is up to date");
    for _ in 0..3 {
        subject.change();
        assert!(is_ready(&epoll, PATIENCE), "it is outdated");
        assert!(is_ready(&epoll, PATIENCE), "it is outdated still");
        catch_up(&watcher);
        assert!(!is_ready(&epoll, Duration::ZERO), "it has acknowledged");
    }
}

/// Once it has acknowledged, the next change is an edge.
fn edge_triggered_epoll_wakes_on_every_change(subject: &Subject) {
    let watcher = subject.watcher();
    let epoll = new_epoll([(&watcher, EDGE)]);
    assert!(!is_ready(&epoll, Duration::ZERO), "it is up to date");
    for round in 0..5 {
        subject.change();
        assert!(is_ready(&epoll, PATIENCE), "change {round}");
        catch_up(&watcher);
    }
}

/// An event loop may start late.
fn epoll_reports_a_watcher_that_was_outdated_when_added(subject: &Subject) {
    for flags in [EventFlags::IN, EDGE] {
        let watcher = subject.watcher();
        subject.change();
        let epoll = new_epoll([(&watcher, flags)]);
        assert!(is_ready(&epoll, PATIENCE), "{flags:?}");
    }
}

/// The fault of the posted drivers: one that was outdated when it was added is never reported
/// again.
fn epoll_wakes_again_after_it_was_added_while_outdated(subject: &Subject) {
    wakes_again(subject, EventFlags::IN);
}

/// The same, as mio and tokio wait.
fn edge_triggered_epoll_wakes_again_after_it_was_added_while_outdated(subject: &Subject) {
    wakes_again(subject, EDGE);
}

fn wakes_again(subject: &Subject, flags: EventFlags) {
    let watcher = subject.watcher();
    subject.change();
    let epoll = new_epoll([(&watcher, flags)]);
    assert!(
        is_ready(&epoll, PATIENCE),
        "it was outdated when it was added"
    );
    for round in 0..3 {
        catch_up(&watcher);
        // An event may be left over; it is spurious then, and asking decides.
        is_ready(&epoll, Duration::ZERO);
        assert!(
            !is_ready(&epoll, Duration::ZERO),
            "round {round}: it has acknowledged"
        );
        subject.change();
        assert!(
            is_ready(&epoll, PATIENCE),
            "round {round}: the change wakes nobody"
        );
    }
}

/// Armed before or after the change.
fn one_shot_epoll_wakes_again_when_it_is_armed_again(subject: &Subject) {
    let watcher = subject.watcher();
    let one_shot = EventFlags::IN | EventFlags::ONESHOT;
    let epoll = new_epoll([(&watcher, one_shot)]);
    let arm = || epoll::modify(&epoll, &watcher, EventData::new_u64(0), one_shot).unwrap();
    subject.change();
    assert!(is_ready(&epoll, PATIENCE), "armed when it was added");
    assert!(!is_ready(&epoll, Duration::ZERO), "it was one shot");
    arm();
    assert!(is_ready(&epoll, PATIENCE), "armed while outdated");
    catch_up(&watcher);
    arm();
    assert!(!is_ready(&epoll, Duration::ZERO), "it has acknowledged");
    subject.change();
    assert!(is_ready(&epoll, PATIENCE), "armed before the change");
}

/// Of those in one event loop, only those that are outdated are reported.
fn epoll_tells_which_of_several_watchers(subject: &Subject) {
    let watchers = [subject.watcher(), subject.bystander(), subject.watcher()];
    let [first, second, third] = &watchers;
    let epoll = new_epoll([
        (first, EventFlags::IN),
        (second, EventFlags::IN),
        (third, EventFlags::IN),
    ]);
    subject.change();
    assert_eq!(ready_in(&epoll, PATIENCE), [0, 1, 2]);
    catch_up(second);
    assert_eq!(ready_in(&epoll, PATIENCE), [0, 2]);
    catch_up(first);
    assert_eq!(ready_in(&epoll, PATIENCE), [2]);
    catch_up(third);
    assert!(!is_ready(&epoll, Duration::ZERO));
}

/// A wake-up for one is no news to another, whose watcher is another. (`EPOLLEXCLUSIVE` is for bare
/// files: the kernel refuses it for a descriptor that is an epoll instance, as a watcher's is.)
fn several_event_loops_are_all_woken(subject: &Subject) {
    let sleepers: Vec<_> = (0..3)
        .map(|_| {
            let watcher = subject.watcher();
            Background::start(move || {
                let epoll = new_epoll([(&watcher, EventFlags::IN)]);
                is_ready(&epoll, PATIENCE)
            })
        })
        .collect();
    subject.change();
    for (number, sleeper) in sleepers.into_iter().enumerate() {
        assert!(
            sleeper.finish("it sleeps with a timeout"),
            "sleeper {number} was not woken"
        );
    }
}

/// However a change falls between the steps of an acknowledgement, the watcher is up to date at
/// the end, or it is reported.
fn no_wake_up_is_lost_when_changes_race_with_acknowledgements(subject: &Subject) {
    race(subject, EventFlags::IN);
}

/// Also for an event loop that is told of edges only, and asks until there is nothing to tell.
fn no_edge_is_lost_when_changes_race_with_acknowledgements(subject: &Subject) {
    race(subject, EDGE);
}

fn race(subject: &Subject, flags: EventFlags) {
    let watcher = subject.watcher();
    let epoll = new_epoll([(&watcher, flags)]);
    let changes = Changes::start(subject, 400);
    let mut acknowledged = watcher.generation();
    while acknowledged != changes.last {
        let ready = is_ready(&epoll, PATIENCE);
        assert!(
            ready,
            "{acknowledged} was acknowledged, and {} is not told",
            changes.last
        );
        while let Some(generation) = watcher.try_changed().unwrap() {
            match watcher.acknowledge(generation) {
                Ok(()) => acknowledged = generation,
                Err(error) => assert!(error.is_stale(), "{error}"),
            }
        }
    }
    changes.finish();
    subject.expect_settled("it has acknowledged the last change");
    assert_eq!(watcher.try_changed().unwrap(), None);
}

fn polls_ready(watcher: &Watcher, timeout: Duration) -> bool {
    let mut fds = [PollFd::new(watcher, PollFlags::IN)];
    poll(&mut fds, Some(&timespec(timeout))).expect("poll");
    fds[0].revents().contains(PollFlags::IN)
}

/// An epoll instance in which each watcher is known by its place in the list.
fn new_epoll<'a>(watchers: impl IntoIterator<Item = (&'a Watcher, EventFlags)>) -> OwnedFd {
    let epoll = epoll::create(CreateFlags::CLOEXEC).expect("epoll_create");
    for ((watcher, flags), number) in watchers.into_iter().zip(0..) {
        epoll::add(&epoll, watcher, EventData::new_u64(number), flags).expect("epoll_ctl");
    }
    epoll
}

fn is_ready(epoll: &OwnedFd, timeout: Duration) -> bool {
    !ready_in(epoll, timeout).is_empty()
}

/// The places of the watchers that are ready.
fn ready_in(epoll: &OwnedFd, timeout: Duration) -> Vec<u64> {
    let mut events = Vec::with_capacity(8);
    epoll::wait(
        epoll,
        rustix::buffer::spare_capacity(&mut events),
        Some(&timespec(timeout)),
    )
    .expect("epoll_wait");
    let mut numbers: Vec<u64> = events.iter().map(|event| event.data.u64()).collect();
    numbers.sort_unstable();
    numbers
}

fn timespec(timeout: Duration) -> Timespec {
    Timespec::try_from(timeout).expect("it is short")
}
