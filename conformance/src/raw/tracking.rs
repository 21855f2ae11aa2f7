// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `SYSGENID_SET_WATCHER_TRACKING`: whether others wait for this watcher.

use rustix::io::Errno;
use sysgenid_sys::abi;

use super::Node;
use crate::background::Background;
use crate::cases;

cases! { Node;
    tracked_watcher_is_waited_for,
    tracking_twice_counts_once,
    tracking_an_outdated_watcher_counts_at_once,
    untracking_ends_a_wait_for_it,
    untracking_twice_counts_once,
    tracking_is_any_number_but_zero,
}

/// From the change until it acknowledges.
fn tracked_watcher_is_waited_for(node: &Node) {
    let watcher = node.open();
    watcher.track(true);
    assert_eq!(node.open().wait(1), Ok(()), "it is up to date");
    node.bump();
    assert_eq!(node.open().wait(1), Err(Errno::TIME), "it is outdated");
    watcher.catch_up();
    assert_eq!(node.open().wait(1), Ok(()), "it has acknowledged");
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

/// The argument is a truth value.
fn tracking_is_any_number_but_zero(node: &Node) {
    let watcher = node.open();
    node.bump();
    for number in [1, 2, 0x100, usize::MAX] {
        assert_eq!(
            watcher.ioctl::<{ abi::SET_WATCHER_TRACKING }>(number),
            Ok(())
        );
        assert_eq!(node.open().wait(1), Err(Errno::TIME), "{number:#x}");
        assert_eq!(watcher.ioctl::<{ abi::SET_WATCHER_TRACKING }>(0), Ok(()));
        assert_eq!(node.open().wait(1), Ok(()), "after {number:#x}");
    }
}
