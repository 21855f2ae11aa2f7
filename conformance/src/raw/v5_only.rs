// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where v5 differs from v6: the numbers, and that every open file is tracked.

use rustix::io::Errno;
use rustix::ioctl::opcode;
use sysgenid_sys::abi;

use super::Node;
use super::mapping::{Mapping, Request};
use super::trigger::refused;
use super::uevent::Listener;
use super::write::refuses_a_wrong_size;
use crate::background::Background;
use crate::cases;

cases! { Node;
    write_of_a_wrong_size_is_einval_and_changes_nothing,
    number_one_waits_whatever_it_is_asked,
    number_two_changes_the_generation,
    number_three_is_enotty_and_changes_nothing,
    every_opened_watcher_is_tracked,
    watcher_that_cannot_acknowledge_is_tracked,
    mapping_stays_a_tracked_watcher,
    change_sends_a_uevent_with_the_generation,
}

/// EINVAL tells this dialect from the newer ones, so it is also the answer to no bytes at all.
fn write_of_a_wrong_size_is_einval_and_changes_nothing(node: &Node) {
    refuses_a_wrong_size(node, Errno::INVAL);
}

/// It is v6's number for tracking: with 0, "off", it waits for ever, and with 1 for a millisecond.
fn number_one_waits_whatever_it_is_asked(node: &Node) {
    const ONE: u32 = opcode::none(abi::IOCTL_TYPE, 1);
    let straggler = node.open_straggler();
    assert_eq!(node.open().ioctl::<ONE>(1), Err(Errno::TIME));
    let caller = node.open();
    let wait = Background::start(move || caller.ioctl::<ONE>(0));
    wait.expect_blocked("a watcher is outdated");
    straggler.catch_up();
    assert_eq!(wait.finish("nobody is outdated"), Ok(()));
}

/// It is v6's number for waiting.
fn number_two_changes_the_generation(node: &Node) {
    const TWO: u32 = opcode::none(abi::IOCTL_TYPE, 2);
    let before = node.generation();
    assert_eq!(node.open().ioctl::<TWO>(0), Ok(()));
    assert_eq!(node.generation(), before + 1);
}

/// It is v6's number for changing the generation: whoever takes the dialects for one another must
/// not outdate everybody.
fn number_three_is_enotty_and_changes_nothing(node: &Node) {
    const THREE: u32 = opcode::none(abi::IOCTL_TYPE, 3);
    refused(node, |watcher| [watcher.ioctl::<THREE>(0)]);
    refused(node, |watcher| [watcher.ioctl::<THREE>(1_000_000)]);
    assert_eq!(node.open().ioctl::<THREE>(0), Err(Errno::NOTTY));
}

/// From when it is opened, and nothing needs to be asked for.
fn every_opened_watcher_is_tracked(node: &Node) {
    let watcher = node.open();
    node.bump();
    assert_eq!(node.open().wait(1), Err(Errno::TIME));
    watcher.catch_up();
    assert_eq!(node.open().wait(1), Ok(()));
}

/// A descriptor for reading too, though all it can do is go away.
fn watcher_that_cannot_acknowledge_is_tracked(node: &Node) {
    let onlooker = node.open_read_only();
    node.bump();
    assert_eq!(node.open().wait(1), Err(Errno::TIME));
    drop(onlooker);
    assert_eq!(node.open().wait(1), Ok(()));
}

/// Open, map, close: how a probe is made that does not know this dialect. Nobody can acknowledge
/// for it any more.
fn mapping_stays_a_tracked_watcher(node: &Node) {
    let page = Mapping::new(node.open_read_only(), Request::default()).expect("it can be mapped");
    assert_eq!(node.open().wait(1), Ok(()), "nothing has changed");
    let generation = node.bump();
    assert_eq!(node.open().wait(1), Err(Errno::TIME), "it is mapped");
    assert_eq!(page.load(), generation);
    drop(page);
    assert_eq!(node.open().wait(1), Ok(()), "it is unmapped");
}

/// Each change, once it is the latest: udev and its rules are told.
fn change_sends_a_uevent_with_the_generation(node: &Node) {
    let listener = Listener::new(node);
    for _ in 0..3 {
        let generation = node.bump();
        listener.expect_generation(generation);
    }
    let generation = node.bump_to(node.generation() + 1_000);
    listener.expect_generation(generation);
}
