// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Large generations: beyond what a signed counter holds (fault 2), and the wrap (fault 10).
//!
//! Each case begins by winding the counter to its beginning, past its end, and so leaves it where
//! the cases of a later run can use it.

use rustix::io::Errno;

use super::Node;
use super::fdinfo::Info;
use crate::cases;

const INT_MAX: u32 = 0x7fff_ffff;

cases! { Node;
    generation_wraps_to_zero,
    minimum_decides_after_the_last_generation,
    generation_passes_int_max,
    minimum_above_int_max_is_honoured,
    smaller_minimum_above_int_max_is_ignored,
    last_generation_can_be_acknowledged,
    trigger_at_the_end_changes_whatever_it_asks_for,
    generation_that_comes_round_again_is_a_change,
    fdinfo_tells_what_is_outdated_by_the_same_number,
}

/// Fault 10. 2^32 - 1 and one is 0, and that is a change like any other.
fn generation_wraps_to_zero(node: &Node) {
    assert_eq!(node.bump_to(u32::MAX), u32::MAX);
    let watcher = node.open();
    assert!(!watcher.is_outdated());
    assert_eq!(node.bump(), 0);
    assert_eq!(watcher.read(), Ok(0));
    assert_eq!(node.generation(), 0);
    watcher.catch_up();
    assert!(!watcher.is_outdated());
    assert_eq!(node.bump(), 1);
}

/// max(min, generation + 1), where generation + 1 is 0.
fn minimum_decides_after_the_last_generation(node: &Node) {
    wind_to_zero(node);
    node.bump_to(u32::MAX);
    assert_eq!(node.bump_to(7), 7);
}

/// Fault 2. A signed counter would go to a negative number, or to 0.
fn generation_passes_int_max(node: &Node) {
    wind_to_zero(node);
    assert_eq!(node.bump_to(INT_MAX - 1), INT_MAX - 1);
    let watcher = node.open();
    for expected in [INT_MAX, INT_MAX + 1, INT_MAX + 2] {
        assert_eq!(node.bump(), expected);
        assert_eq!(watcher.read(), Ok(expected));
        assert_eq!(node.generation(), expected);
    }
    wind_to_zero(node);
}

/// Fault 2. A signed comparison would take a minimum of 2^31 or more for a small one.
fn minimum_above_int_max_is_honoured(node: &Node) {
    wind_to_zero(node);
    for min in [INT_MAX + 1, 0xc000_0000, u32::MAX - 1] {
        assert_eq!(node.bump_to(min), min);
    }
    wind_to_zero(node);
}

/// The comparison is right on the far side too.
fn smaller_minimum_above_int_max_is_ignored(node: &Node) {
    wind_to_zero(node);
    node.bump_to(0xc000_0000);
    assert_eq!(node.bump_to(5), 0xc000_0001);
    assert_eq!(node.bump_to(INT_MAX + 1), 0xc000_0002);
    wind_to_zero(node);
}

/// All bits set is a value like any other.
fn last_generation_can_be_acknowledged(node: &Node) {
    wind_to_zero(node);
    let watcher = node.open();
    watcher.ensure_tracked();
    node.bump_to(u32::MAX);
    assert_eq!(watcher.read(), Ok(u32::MAX));
    watcher.acknowledge(u32::MAX).expect("it is current");
    assert_eq!(node.open().wait(1), Ok(()));
    drop(watcher);
    wind_to_zero(node);
}

/// What is there already would be a change that no page shows: the next generation is 0.
fn trigger_at_the_end_changes_whatever_it_asks_for(node: &Node) {
    wind_to_zero(node);
    assert_eq!(node.bump_to(u32::MAX), u32::MAX);
    let watcher = node.open();
    assert_eq!(node.bump_to(u32::MAX), 0);
    assert_eq!(watcher.read(), Ok(0));
}

/// Whoever missed the changes between must rebuild, though the number is the one that they have
/// acknowledged.
fn generation_that_comes_round_again_is_a_change(node: &Node) {
    wind_to_zero(node);
    let watcher = node.open();
    watcher.ensure_tracked();
    wind_to_zero(node);
    assert_eq!(watcher.read(), Ok(0));
    assert_eq!(
        node.open().wait(1),
        Err(Errno::TIME),
        "it has missed two changes"
    );
    watcher.acknowledge(0).expect("it is current");
    assert_eq!(watcher.read(), Err(Errno::AGAIN));
    assert_eq!(node.open().wait(1), Ok(()));
}

/// The numbers are equal, and it is outdated all the same.
fn fdinfo_tells_what_is_outdated_by_the_same_number(node: &Node) {
    wind_to_zero(node);
    let watcher = node.open();
    watcher.ensure_tracked();
    wind_to_zero(node);
    let outdated = Info {
        acked: 0,
        tracked: 1,
        outdated: 1,
    };
    assert_eq!(Info::of(&watcher), outdated);
    node.bump_to(u32::MAX);
    watcher.catch_up();
    let up_to_date = Info {
        acked: u32::MAX,
        tracked: 1,
        outdated: 0,
    };
    assert_eq!(Info::of(&watcher), up_to_date);
    assert_eq!(node.number("generation"), u32::MAX);
    wind_to_zero(node);
}

fn wind_to_zero(node: &Node) {
    if node.generation() != u32::MAX {
        node.bump_to(u32::MAX);
    }
    assert_eq!(node.bump(), 0);
}
