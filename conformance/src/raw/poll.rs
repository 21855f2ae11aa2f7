// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `poll`: readable while outdated.

use rustix::event::PollFlags;
use sysgenid_sys::device::wait_outdated;

use super::Node;
use crate::background::Background;
use crate::cases;

cases! { Node;
    poll_is_silent_while_up_to_date,
    poll_reports_pollin_and_pollrdnorm_while_outdated,
    poll_never_reports_pollout,
    poll_wakes_all_sleepers,
    poll_works_on_a_read_only_descriptor,
}

/// Nothing at all, of everything that can be asked for.
fn poll_is_silent_while_up_to_date(node: &Node) {
    let watcher = node.open();
    assert_eq!(watcher.events(), PollFlags::empty());
    node.bump();
    watcher.catch_up();
    assert_eq!(watcher.events(), PollFlags::empty());
}

/// Both, and as long as it is outdated: a read does not end it.
fn poll_reports_pollin_and_pollrdnorm_while_outdated(node: &Node) {
    let watcher = node.open();
    node.bump();
    assert_eq!(watcher.events(), PollFlags::IN | PollFlags::RDNORM);
    watcher.read().expect("it is outdated");
    assert_eq!(watcher.events(), PollFlags::IN | PollFlags::RDNORM);
}

/// An acknowledgement never blocks, so there is nothing to wait for; an event loop that asks for
/// everything would spin.
fn poll_never_reports_pollout(node: &Node) {
    let watcher = node.open();
    let out = PollFlags::OUT | PollFlags::WRNORM | PollFlags::WRBAND;
    assert!(!watcher.events().intersects(out));
    node.bump();
    assert!(!watcher.events().intersects(out));
}

/// Each sleeps on a descriptor of its own.
fn poll_wakes_all_sleepers(node: &Node) {
    let sleepers: Vec<_> = (0..4)
        .map(|_| {
            let watcher = node.open();
            Background::start(move || wait_outdated(&watcher, None))
        })
        .collect();
    sleepers[0].expect_blocked("the generation has not changed");
    node.bump();
    for sleeper in sleepers {
        assert_eq!(sleeper.finish("the generation changed"), Ok(true));
    }
}

/// What only looks needs no write access.
fn poll_works_on_a_read_only_descriptor(node: &Node) {
    let onlooker = node.open_read_only();
    assert!(!onlooker.is_outdated());
    node.bump();
    assert!(onlooker.is_outdated());
}
