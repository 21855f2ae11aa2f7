// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `SYSGENID_SET_WATCHER_TRACKING`, which v6 has: whether others wait for this watcher. It is off
//! until it is asked for.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::Errno;
use sysgenid_sys::abi;

use super::Node;
use super::fdinfo::Info;
use super::mapping::{Mapping, Request};
use super::wait::UNDEFINED;
use crate::background::Background;
use crate::cases;

cases! { Node;
    opened_watcher_is_untracked,
    untracked_watcher_does_not_keep_a_wait,
    mapping_of_an_untracked_watcher_holds_nobody_up,
    close_of_an_untracked_watcher_does_not_end_a_wait,
    tracking_twice_counts_once,
    tracking_an_outdated_watcher_counts_at_once,
    untracking_ends_a_wait_for_it,
    untracking_twice_counts_once,
    tracking_is_any_number_but_zero,
    tracking_takes_32_bits,
    tracking_on_needs_a_descriptor_for_writing,
    fdinfo_and_attribute_follow_the_tracking,
    tracking_toggled_by_two_threads_counts_once,
}

/// Tracking is opt-in: a mapped probe or an onlooker must not hold anybody up.
fn opened_watcher_is_untracked(node: &Node) {
    let onlooker = node.open();
    node.bump();
    assert!(onlooker.is_outdated());
    assert_eq!(node.open().wait(1), Ok(()));
}

/// A wait under way ends with the last tracked watcher, and an untracked one stays as it is.
fn untracked_watcher_does_not_keep_a_wait(node: &Node) {
    let onlooker = node.open();
    let straggler = node.open_straggler();
    let orchestrator = node.open();
    let wait = Background::start(move || orchestrator.wait(0));
    wait.expect_blocked("a tracked watcher is outdated");
    straggler.catch_up();
    assert_eq!(wait.finish("no tracked watcher is outdated"), Ok(()));
    assert!(onlooker.is_outdated());
}

/// Open, map, close: a probe costs nobody anything.
fn mapping_of_an_untracked_watcher_holds_nobody_up(node: &Node) {
    let page = Mapping::new(node.open_read_only(), Request::default()).expect("it can be mapped");
    let generation = node.bump();
    assert_eq!(node.open().wait(1), Ok(()));
    assert_eq!(page.load(), generation);
}

/// Nothing is subtracted for a watcher that was not counted.
fn close_of_an_untracked_watcher_does_not_end_a_wait(node: &Node) {
    let _straggler = node.open_straggler();
    let onlooker = node.open();
    node.bump();
    drop(onlooker);
    assert_eq!(node.open().wait(1), Err(Errno::TIME));
}

/// It is idempotent: one acknowledgement or one untracking is enough after any number of calls.
fn tracking_twice_counts_once(node: &Node) {
    let watcher = node.open();
    watcher.track(true);
    watcher.track(true);
    node.bump();
    watcher.track(true);
    assert_eq!(node.open().wait(1), Err(Errno::TIME));
    watcher.catch_up();
    assert_eq!(node.open().wait(1), Ok(()));

    node.bump();
    watcher.track(true);
    watcher.track(false);
    assert_eq!(node.open().wait(1), Ok(()));
}

/// It need not have been tracked when the generation changed.
fn tracking_an_outdated_watcher_counts_at_once(node: &Node) {
    let watcher = node.open();
    node.bump();
    assert_eq!(node.open().wait(1), Ok(()));
    watcher.track(true);
    assert_eq!(node.open().wait(1), Err(Errno::TIME));
}

/// Whoever waits is told, not only whoever asks later.
fn untracking_ends_a_wait_for_it(node: &Node) {
    let straggler = node.open_straggler();
    let orchestrator = node.open();
    let wait = Background::start(move || orchestrator.wait(0));
    wait.expect_blocked("a tracked watcher is outdated");
    straggler.track(false);
    assert_eq!(wait.finish("it is tracked no more"), Ok(()));
}

/// Nothing is subtracted for a watcher that was not counted.
fn untracking_twice_counts_once(node: &Node) {
    let watcher = node.open();
    watcher.track(false);
    let straggler = node.open_straggler();
    watcher.track(false);
    watcher.track(false);
    assert_eq!(
        node.open().wait(1),
        Err(Errno::TIME),
        "another watcher is outdated"
    );
    straggler.catch_up();
    assert_eq!(node.open().wait(1), Ok(()));
}

/// The argument is a truth value of 32 bits.
fn tracking_is_any_number_but_zero(node: &Node) {
    let watcher = node.open();
    node.bump();
    for number in [1, 2, 0x100, 0x8000_0000, 0xffff_ffff] {
        assert_eq!(
            watcher.ioctl::<{ abi::SET_WATCHER_TRACKING }>(number),
            Ok(())
        );
        assert_eq!(node.open().wait(1), Err(Errno::TIME), "{number:#x}");
        assert_eq!(watcher.ioctl::<{ abi::SET_WATCHER_TRACKING }>(0), Ok(()));
        assert_eq!(node.open().wait(1), Ok(()), "after {number:#x}");
    }
}

/// Fault 12. Most clients pass a C `int`, and a 0 whose upper half is dirty turned tracking on.
fn tracking_takes_32_bits(node: &Node) {
    let watcher = node.open();
    watcher.track(true);
    let set = |number| watcher.ioctl::<{ abi::SET_WATCHER_TRACKING }>(number);
    assert_eq!(set(UNDEFINED), Ok(()));
    assert_eq!(Info::of(&watcher).tracked, 0);
    assert_eq!(set(UNDEFINED | 1), Ok(()));
    assert_eq!(Info::of(&watcher).tracked, 1);
}

/// A descriptor that cannot acknowledge must not delay an orchestrator. Turning tracking off needs
/// nothing.
fn tracking_on_needs_a_descriptor_for_writing(node: &Node) {
    let onlooker = node.open_read_only();
    node.bump();
    let set = |number| onlooker.ioctl::<{ abi::SET_WATCHER_TRACKING }>(number);
    assert_eq!(set(1), Err(Errno::BADF));
    assert_eq!(set(0), Ok(()));
    assert_eq!(set(1), Err(Errno::BADF));
    assert_eq!(Info::of(&onlooker).tracked, 0);
    assert_eq!(node.open().wait(1), Ok(()), "it is not tracked");

    let writer = node.open_with(OFlags::WRONLY);
    writer.track(true);
    assert_eq!(Info::of(&writer).tracked, 1);
}

/// Also of one that is outdated.
fn fdinfo_and_attribute_follow_the_tracking(node: &Node) {
    let watcher = node.open();
    node.bump();
    for tracked in [true, true, false, false, true] {
        watcher.track(tracked);
        let info = Info::of(&watcher);
        assert_eq!((info.tracked, info.outdated), (u32::from(tracked), 1));
        assert_eq!(node.number("tracked_watchers"), u32::from(tracked));
        assert_eq!(node.number("outdated_watchers"), u32::from(tracked));
    }
}

/// Fault 3. Two threads that switch the tracking of one open file at once must not be counted
/// twice or subtracted twice: a wait would never end, or not wait.
fn tracking_toggled_by_two_threads_counts_once(node: &Node) {
    const ROUNDS: u32 = 40;
    const TOGGLES: u32 = 250;
    let watcher = node.open();
    let orchestrator = node.open();
    node.bump();
    orchestrator.catch_up();
    let end = Instant::now() + Duration::from_secs(10);
    for _ in 0..ROUNDS {
        let start = Barrier::new(2);
        let toggle = || {
            start.wait();
            for number in 0..TOGGLES {
                watcher.track(number % 2 == 0);
            }
        };
        thread::scope(|scope| {
            scope.spawn(toggle);
            scope.spawn(toggle);
        });
        watcher.track(false);
        assert_eq!(orchestrator.wait(2_000), Ok(()), "nobody is tracked");
        watcher.track(true);
        assert_eq!(orchestrator.wait(1), Err(Errno::TIME), "one is tracked");
        if Instant::now() > end {
            break;
        }
    }
    watcher.catch_up();
    assert_eq!(orchestrator.wait(2_000), Ok(()), "it has acknowledged");
}
