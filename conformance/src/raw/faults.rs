// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The faults of the posted and shipped drivers, which this one must not have. Signed arithmetic
//! and the wrap are among the cases of the end of the range, the race of two threads (fault 3) among
//! those of tracking.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use super::Node;
use super::mapping::{Mapping, Request};
use super::node::OpenFile;
use crate::background::{Background, PATIENCE, Signal};
use crate::cases;
use crate::child::{Child, Role};

cases! { Node;
    epoll_wakes_again_after_it_was_added_while_outdated,
    edge_triggered_epoll_wakes_again_after_it_was_added_while_outdated,
    root_of_a_user_namespace_may_not_trigger,
    wait_of_five_seconds_is_not_shorter,
    exclusive_epoll_users_are_all_woken,
    exclusive_epoll_users_of_one_open_file_are_all_woken,
    page_and_read_are_one_counter,
    interrupted_wait_is_told_from_an_outdated_caller_by_poll,
    wait_for_a_watcher_that_does_not_acknowledge_times_out,
}

/// Fault 1. epoll asks to be put on the wait queue only when a descriptor is added; a driver that
/// first looks whether it is outdated never puts it there, and no later change wakes.
fn epoll_wakes_again_after_it_was_added_while_outdated(node: &Node) {
    wakes_again(node, EventFlags::IN);
}

/// Fault 1, as mio and tokio are hit by it.
fn edge_triggered_epoll_wakes_again_after_it_was_added_while_outdated(node: &Node) {
    wakes_again(node, EventFlags::IN | EventFlags::ET);
}

fn wakes_again(node: &Node, flags: EventFlags) {
    let watcher = node.open();
    node.bump();
    let epoll = new_epoll(&watcher, flags);
    assert!(
        is_ready(&epoll, PATIENCE),
        "it was outdated when it was added"
    );
    for round in 0..3 {
        watcher.catch_up();
        assert!(
            !is_ready(&epoll, Duration::ZERO),
            "round {round}: it has acknowledged"
        );
        node.bump();
        assert!(
            is_ready(&epoll, PATIENCE),
            "round {round}: the change wakes nobody"
        );
    }
}

/// Fault 4. Anyone can be root in a user namespace of their own, and a change is seen by all.
fn root_of_a_user_namespace_may_not_trigger(node: &Node) {
    let before = node.generation();
    let child = Child::start(Role::TriggerAsNamespaceRoot, node.open().into());
    assert_eq!(child.said(), "EACCES");
    assert_eq!(node.generation(), before);
}

/// Fault 5. Milliseconds times a million overflow 32 bits: 5000 ms became 705 ms.
fn wait_of_five_seconds_is_not_shorter(node: &Node) {
    let _straggler = node.open_straggler();
    let orchestrator = node.open();
    let start = Instant::now();
    assert_eq!(orchestrator.wait(5_000), Err(Errno::TIME));
    let waited = start.elapsed();
    assert!(waited >= Duration::from_secs(5), "it lasted {waited:?}");
}

/// Fault 6. One wake-up for one exclusive waiter is no news to the next, whose descriptor is
/// another.
fn exclusive_epoll_users_are_all_woken(node: &Node) {
    are_all_woken(node, || node.open());
}

/// `EPOLLEXCLUSIVE` says that one of them is enough, but it is no promise that there is only one:
/// each of these may be the event loop of another process that inherited the descriptor.
fn exclusive_epoll_users_of_one_open_file_are_all_woken(node: &Node) {
    let watcher = node.open();
    are_all_woken(node, || watcher.duplicate());
}

fn are_all_woken(node: &Node, open: impl Fn() -> OpenFile) {
    let sleepers: Vec<_> = (0..4)
        .map(|_| {
            let watcher = open();
            let epoll = new_epoll(&watcher, EventFlags::IN | EventFlags::EXCLUSIVE);
            Background::start(move || {
                let ready = is_ready(&epoll, PATIENCE);
                drop(watcher);
                ready
            })
        })
        .collect();
    sleepers[0].expect_blocked("the generation has not changed");
    node.bump();
    for (number, sleeper) in sleepers.into_iter().enumerate() {
        assert!(
            sleeper.finish("it sleeps with a timeout"),
            "sleeper {number} was not woken"
        );
    }
}

/// Fault 7. There is one counter: once `read` has returned a generation, the page is not older,
/// and once the page shows one, `read` is not behind.
fn page_and_read_are_one_counter(node: &Node) {
    const CHANGES: u32 = 3_000;
    let watcher = node.open();
    let page = Mapping::new(&watcher, Request::default()).expect("it can be mapped");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let trigger = node.open();
            let end = Instant::now() + Duration::from_secs(10);
            for _ in 0..CHANGES {
                trigger.trigger(0).expect("root may trigger");
                if Instant::now() > end {
                    break;
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut acknowledged = page.load();
        while !done.load(Ordering::Relaxed) {
            let shown = page.load();
            fence(Ordering::Acquire);
            match watcher.read() {
                Ok(read) => {
                    let shown_after = page.load();
                    assert!(!is_older(read, shown), "page {shown}, then read {read}");
                    assert!(
                        !is_older(shown_after, read),
                        "read {read}, then page {shown_after}"
                    );
                    // Stale by now, perhaps.
                    if watcher.acknowledge(read).is_ok() {
                        acknowledged = read;
                    }
                }
                Err(Errno::AGAIN) => assert!(
                    !is_older(acknowledged, shown),
                    "page {shown}, then nothing to read although {acknowledged} was acknowledged"
                ),
                Err(errno) => panic!("read: {errno}"),
            }
        }
    });
}

/// Of two generations that are near each other. Only a test that does all changes itself, each by
/// one, can say so.
fn is_older(one: u32, other: u32) -> bool {
    one.wrapping_sub(other) > u32::MAX / 2
}

/// Fault 8. EINTR has two meanings, and the watcher's readiness tells which.
fn interrupted_wait_is_told_from_an_outdated_caller_by_poll(node: &Node) {
    let _straggler = node.open_straggler();
    let caller = node.open();

    let duplicate = caller.duplicate();
    let wait = Background::start(move || duplicate.wait(0));
    wait.expect_blocked("a tracked watcher is outdated");
    assert_eq!(
        wait.signal_until_finished(Signal::Ends, "a wait sleeps interruptibly"),
        Err(Errno::INTR)
    );
    assert!(!caller.is_outdated(), "it was a signal");

    let duplicate = caller.duplicate();
    let wait = Background::start(move || duplicate.wait(0));
    node.bump();
    assert_eq!(wait.finish("the caller is outdated"), Err(Errno::INTR));
    assert!(caller.is_outdated(), "it was a change");
}

/// Fault 9. A watcher may be tracked and hang; a wait with a timeout ends, and closing the watcher
/// ends the trouble.
fn wait_for_a_watcher_that_does_not_acknowledge_times_out(node: &Node) {
    let straggler = node.open_straggler();
    assert_eq!(node.open().wait(10), Err(Errno::TIME));
    drop(straggler);
    assert_eq!(node.open().wait(1), Ok(()));
}

fn new_epoll(watcher: &OpenFile, flags: EventFlags) -> OwnedFd {
    let epoll = epoll::create(CreateFlags::CLOEXEC).expect("epoll_create");
    epoll::add(&epoll, watcher, EventData::new_u64(0), flags).expect("epoll_ctl");
    epoll
}

fn is_ready(epoll: impl AsFd, timeout: Duration) -> bool {
    let mut events = Vec::with_capacity(1);
    let timeout = Timespec::try_from(timeout).expect("it is short");
    epoll::wait(
        epoll,
        rustix::buffer::spare_capacity(&mut events),
        Some(&timeout),
    )
    .expect("epoll_wait");
    !events.is_empty()
}
