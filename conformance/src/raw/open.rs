// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `open`: a new watcher, up to date, whose state is the open file's.

use rustix::io::Errno;
use sysgenid_sys::abi::Dialect;
use sysgenid_sys::device::Device;

use super::Node;
use crate::cases;
use crate::child::{Child, Role};

cases! { Node;
    opened_watcher_is_up_to_date,
    open_files_have_states_of_their_own,
    duplicate_shares_the_state,
    child_process_shares_the_state,
    dialect_is_told_without_side_effects,
    proven_device_takes_its_ioctls,
}

/// The acknowledged generation is the current one, also when there were changes before.
fn opened_watcher_is_up_to_date(node: &Node) {
    node.bump();
    let watcher = node.open();
    assert!(!watcher.is_outdated());
    assert_eq!(watcher.read(), Err(Errno::AGAIN));
}

/// One that acknowledges does not do so for another.
fn open_files_have_states_of_their_own(node: &Node) {
    let (first, second) = (node.open(), node.open());
    node.bump();
    first.catch_up();
    assert!(!first.is_outdated());
    assert!(second.is_outdated());
}

/// `dup` makes another name of the same watcher: its acknowledgement and its tracking count for
/// both.
fn duplicate_shares_the_state(node: &Node) {
    let original = node.open();
    let duplicate = original.duplicate();
    duplicate.ensure_tracked();
    node.bump();
    assert_eq!(original.read(), duplicate.read());
    assert_eq!(
        node.open().wait(1),
        Err(Errno::TIME),
        "one of them was tracked, so both are"
    );
    original.catch_up();
    assert!(!duplicate.is_outdated());
    assert_eq!(
        node.open().wait(1),
        Ok(()),
        "there is one watcher, and it has acknowledged"
    );
}

/// A forked child has the parent's open file: if it acknowledges, the parent is silent too.
fn child_process_shares_the_state(node: &Node) {
    let parent = node.open();
    node.bump();
    assert!(parent.is_outdated());
    let child = Child::start(Role::Acknowledge, parent.duplicate().into());
    assert_eq!(child.said(), "ok");
    assert!(!parent.is_outdated());
}

/// The way to tell the dialects apart works on this driver, and finds the one it is to speak.
fn dialect_is_told_without_side_effects(node: &Node) {
    let before = node.generation();
    let watcher = node.open();
    let device = Device::detect(watcher.duplicate().into()).expect("it is the device");
    assert_eq!(device.dialect(), node.dialect());
    assert!(!watcher.is_outdated());
    assert_eq!(node.generation(), before);
    let refused = Device::detect(node.open_read_only().into()).unwrap_err();
    assert_eq!(refused.errno, Errno::BADF);
}

/// The calls of `sysgenid-sys` reach the same watcher as the cases' own.
fn proven_device_takes_its_ioctls(node: &Node) {
    let watcher = node.open();
    let device = Device::detect(watcher.duplicate().into()).expect("it is the device");
    let expected = match node.dialect() {
        Dialect::V6 => Ok(()),
        _ => Err(Errno::OPNOTSUPP),
    };
    assert_eq!(device.set_watcher_tracking(true), expected);
    assert_eq!(device.wait_watchers(1), Ok(()));
    let before = node.generation();
    assert_eq!(device.trigger_gen_update(0), Ok(()));
    assert_eq!(node.generation(), before.wrapping_add(1));
    assert_eq!(node.open().wait(1), Err(Errno::TIME), "it is tracked");
    watcher.catch_up();
    assert_eq!(node.open().wait(1), Ok(()));
}
