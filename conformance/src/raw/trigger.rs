// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `SYSGENID_TRIGGER_GEN_UPDATE`, and the ioctls that are none.

use rustix::io::Errno;
use rustix::ioctl::opcode;
use rustix::thread::CapabilitySet;
use sysgenid_sys::abi::{self, Dialect};

use super::Node;
use super::wait::UNDEFINED;
use crate::capability::keep;
use crate::cases;

cases! { Node;
    trigger_adds_one,
    trigger_takes_a_larger_minimum,
    trigger_ignores_a_smaller_minimum,
    trigger_takes_32_bits,
    trigger_outdates_every_watcher,
    trigger_without_capability_is_eacces_and_changes_nothing,
    trigger_needs_one_of_two_capabilities,
    unknown_ioctl_is_refused_and_changes_nothing,
    v4_ioctl_is_refused_and_changes_nothing,
}

/// With a minimum of 0.
fn trigger_adds_one(node: &Node) {
    let before = node.generation();
    assert_eq!(node.open().trigger(0), Ok(()));
    assert_eq!(node.generation(), before + 1);
}

/// max(min, generation + 1).
fn trigger_takes_a_larger_minimum(node: &Node) {
    let min = node.generation() + 1_000;
    assert_eq!(node.bump_to(min), min);
    assert_eq!(node.generation(), min);
}

/// One that is older, current, or the next.
fn trigger_ignores_a_smaller_minimum(node: &Node) {
    node.bump();
    for distance in [-1, 0, 1] {
        let before = node.generation();
        let min = before.wrapping_add_signed(distance);
        assert_eq!(
            node.bump_to(min),
            before + 1,
            "{before} with a minimum of {min}"
        );
    }
}

/// Fault 12. The upper half of the register means nothing.
fn trigger_takes_32_bits(node: &Node) {
    let before = node.generation();
    let file = node.open();
    assert_eq!(file.trigger_wide(UNDEFINED), Ok(()));
    assert_eq!(node.generation(), before + 1);
    let min = before + 1_000;
    let wide = UNDEFINED | usize::try_from(min).expect("it has 32 bits");
    assert_eq!(file.trigger_wide(wide), Ok(()));
    assert_eq!(node.generation(), min);
}

/// The caller's own too: an overseer acknowledges before it waits.
fn trigger_outdates_every_watcher(node: &Node) {
    let (caller, other, onlooker) = (node.open(), node.open(), node.open_read_only());
    assert_eq!(caller.trigger(0), Ok(()));
    let generation = node.generation();
    for watcher in [caller, other, onlooker] {
        assert_eq!(watcher.read(), Ok(generation));
    }
}

/// EACCES, and not EPERM: root's open file does not help who has dropped the capabilities.
fn trigger_without_capability_is_eacces_and_changes_nothing(node: &Node) {
    let watcher = node.open();
    let before = node.generation();
    keep(CapabilitySet::all() - (CapabilitySet::CHECKPOINT_RESTORE | CapabilitySet::SYS_ADMIN));
    assert_eq!(watcher.trigger(0), Err(Errno::ACCESS));
    assert_eq!(watcher.trigger(u32::MAX), Err(Errno::ACCESS));
    assert_eq!(node.generation(), before);
    assert!(!watcher.is_outdated());
}

/// Either is enough, alone.
fn trigger_needs_one_of_two_capabilities(node: &Node) {
    let watcher = node.open();
    for capability in [CapabilitySet::CHECKPOINT_RESTORE, CapabilitySet::SYS_ADMIN] {
        let before = node.generation();
        keep(capability);
        assert_eq!(watcher.trigger(0), Ok(()), "{capability:?} alone");
        assert_eq!(watcher.read(), Ok(before + 1));
        keep(CapabilitySet::all());
    }
}

/// ENOTTY by the kernel's rule; the shipped drivers say EINVAL, and a client accepts both.
fn unknown_ioctl_is_refused_and_changes_nothing(node: &Node) {
    const ZERO: u32 = opcode::none(abi::IOCTL_TYPE, 0);
    const FOUR: u32 = opcode::none(abi::IOCTL_TYPE, 4);
    const LAST: u32 = opcode::none(abi::IOCTL_TYPE, 0xff);
    // Codes that look like the trigger of a dialect, but say that the argument is a pointer.
    const SIZED_TWO: u32 = opcode::write::<u32>(abi::IOCTL_TYPE, 2);
    const SIZED_THREE: u32 = opcode::write::<u32>(abi::IOCTL_TYPE, 3);
    refused(node, |watcher| {
        [
            watcher.ioctl::<ZERO>(1),
            watcher.ioctl::<FOUR>(1),
            watcher.ioctl::<LAST>(1),
            watcher.ioctl::<SIZED_TWO>(1),
            watcher.ioctl::<SIZED_THREE>(1),
        ]
    });
}

/// Another type with the same numbers: nobody must take this driver for one of January 2021.
fn v4_ioctl_is_refused_and_changes_nothing(node: &Node) {
    const COUNT: u32 = abi::V4_GET_OUTDATED_WATCHERS;
    const WAIT: u32 = opcode::none(abi::V4_IOCTL_TYPE, 2);
    const FORCE: u32 = opcode::none(abi::V4_IOCTL_TYPE, 3);
    refused(node, |watcher| {
        [
            watcher.ioctl::<COUNT>(0),
            watcher.ioctl::<WAIT>(1),
            watcher.ioctl::<FORCE>(1),
        ]
    });
}

pub(super) fn refused<const N: usize>(
    node: &Node,
    calls: impl FnOnce(&super::node::OpenFile) -> [Result<(), Errno>; N],
) {
    let watcher = node.open();
    let before = node.generation();
    for (number, result) in calls(&watcher).into_iter().enumerate() {
        assert!(
            matches!(result, Err(Errno::NOTTY | Errno::INVAL)),
            "code {number} of the list: {result:?}"
        );
    }
    assert_eq!(node.generation(), before);
    assert!(!watcher.is_outdated());
    node.bump();
    let waited = match node.dialect() {
        Dialect::V5 => Err(Errno::TIME),
        _ => Ok(()),
    };
    assert_eq!(node.open().wait(1), waited, "its tracking is as it was");
}
