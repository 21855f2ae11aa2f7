// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `write`: the acknowledgement.

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Node;
use super::read::POSITIONS;
use crate::background::Background;
use crate::cases;

cases! { Node;
    acknowledgement_of_the_current_generation_is_accepted,
    acknowledgement_twice_is_accepted,
    acknowledgement_while_up_to_date_is_accepted,
    stale_acknowledgement_is_einval_and_changes_nothing,
    write_from_bad_memory_is_efault_and_changes_nothing,
    write_on_a_read_only_descriptor_is_ebadf,
    read_on_a_write_only_descriptor_is_ebadf,
    acknowledgement_never_blocks,
    write_at_a_position_is_a_write,
}

/// Exactly four bytes, all of them taken.
fn acknowledgement_of_the_current_generation_is_accepted(node: &Node) {
    let watcher = node.open();
    let generation = node.bump();
    assert_eq!(watcher.write_bytes(&generation.to_ne_bytes()), Ok(4));
    assert!(!watcher.is_outdated());
}

/// It is idempotent.
fn acknowledgement_twice_is_accepted(node: &Node) {
    let watcher = node.open();
    let generation = node.bump();
    assert_eq!(watcher.acknowledge(generation), Ok(()));
    assert_eq!(watcher.acknowledge(generation), Ok(()));
    assert!(!watcher.is_outdated());
}

/// Nothing was asked, and nothing is wrong with the answer.
fn acknowledgement_while_up_to_date_is_accepted(node: &Node) {
    let watcher = node.open();
    assert_eq!(watcher.acknowledge(node.generation()), Ok(()));
    assert!(!watcher.is_outdated());
}

/// Another value than the current one: an older one, one that never was, with bytes swapped.
fn stale_acknowledgement_is_einval_and_changes_nothing(node: &Node) {
    let (outdated, up_to_date) = (node.open(), node.open());
    outdated.ensure_tracked();
    let before = node.generation();
    let current = node.bump_to(before.wrapping_add(3));
    up_to_date.catch_up();

    let others = [
        before,
        current.wrapping_add(1),
        current.wrapping_sub(1),
        !current,
    ];
    for stale in others {
        assert_eq!(
            outdated.acknowledge(stale),
            Err(Errno::INVAL),
            "{stale} of {current}"
        );
        assert_eq!(
            up_to_date.acknowledge(stale),
            Err(Errno::INVAL),
            "{stale} of {current}"
        );
    }
    assert_eq!(outdated.read(), Ok(current));
    assert_eq!(
        up_to_date.wait(1),
        Err(Errno::TIME),
        "the tracked watcher is outdated still"
    );
    assert!(!up_to_date.is_outdated());
}

/// The body of a case of each dialect.
pub(super) fn refuses_a_wrong_size(node: &Node, with: Errno) {
    let watcher = node.open();
    let generation = node.bump();
    let bytes = [generation.to_ne_bytes(), generation.to_ne_bytes()].concat();
    for length in [0, 1, 2, 3, 5, 8] {
        let written = watcher.write_bytes(&bytes[..length]);
        assert_eq!(written, Err(with), "{length} bytes");
        assert_eq!(
            watcher.read(),
            Ok(generation),
            "{length} bytes acknowledge nothing"
        );
    }
}

/// It is the caller's fault, and acknowledges nothing.
fn write_from_bad_memory_is_efault_and_changes_nothing(node: &Node) {
    let watcher = node.open();
    let generation = node.bump();
    assert_eq!(watcher.write_from_nowhere(), Err(Errno::FAULT));
    assert_eq!(watcher.read(), Ok(generation));
}

/// Who may only read may not acknowledge.
fn write_on_a_read_only_descriptor_is_ebadf(node: &Node) {
    let onlooker = node.open_read_only();
    let generation = node.bump();
    assert_eq!(onlooker.acknowledge(generation), Err(Errno::BADF));
    assert!(onlooker.is_outdated());
}

/// And the other way round.
fn read_on_a_write_only_descriptor_is_ebadf(node: &Node) {
    let watcher = node.open_with(OFlags::WRONLY | OFlags::NONBLOCK);
    let generation = node.bump();
    assert_eq!(watcher.read(), Err(Errno::BADF));
    assert_eq!(watcher.acknowledge(generation), Ok(()));
}

/// Not on a blocking descriptor either, and not while another watcher is outdated.
fn acknowledgement_never_blocks(node: &Node) {
    let watcher = node.open_blocking();
    let _straggler = node.open_straggler();
    let generation = node.generation();
    let writer = Background::start(move || {
        [generation, generation.wrapping_sub(1)].map(|value| watcher.acknowledge(value))
    });
    assert_eq!(
        writer.finish("a write does not block"),
        [Ok(()), Err(Errno::INVAL)]
    );
}

/// The position is ignored, as by `pread`.
fn write_at_a_position_is_a_write(node: &Node) {
    let watcher = node.open();
    for offset in POSITIONS {
        let generation = node.bump();
        let write = |value: u32| rustix::io::pwrite(&watcher, &value.to_ne_bytes(), offset);
        assert_eq!(write(!generation), Err(Errno::INVAL), "at {offset}");
        assert!(watcher.is_outdated(), "at {offset}");
        assert_eq!(write(generation), Ok(4), "at {offset}");
        assert!(!watcher.is_outdated(), "at {offset}");
    }
}
