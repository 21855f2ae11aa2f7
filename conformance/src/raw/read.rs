// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `read`: the current generation, while the watcher is outdated.

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::Node;
use crate::background::{Background, Signal};
use crate::cases;

cases! { Node;
    read_of_nothing_is_nothing,
    read_of_less_than_a_counter_is_einval,
    read_of_more_than_a_counter_returns_four_bytes,
    read_while_up_to_date_is_eagain,
    read_repeats_until_acknowledged,
    read_returns_the_latest_of_several_changes,
    read_blocks_until_the_generation_changes,
    read_is_interrupted_by_a_signal,
    read_is_restarted_after_a_signal_that_asks_for_it,
    read_to_bad_memory_is_efault,
    read_works_on_a_read_only_descriptor,
    read_at_a_position_is_a_read,
    file_has_no_position,
}

/// 0 bytes: 0, outdated or not, and a blocking descriptor does not block.
fn read_of_nothing_is_nothing(node: &Node) {
    let (blocking, watcher) = (node.open_blocking(), node.open());
    let reader = Background::start(move || blocking.read_bytes(&mut []));
    assert_eq!(reader.finish("a read of nothing does not block"), Ok(0));
    assert_eq!(watcher.read_bytes(&mut []), Ok(0));
    node.bump();
    assert_eq!(watcher.read_bytes(&mut []), Ok(0));
}

/// 1 to 3 bytes cannot hold a counter: EINVAL, outdated or not.
fn read_of_less_than_a_counter_is_einval(node: &Node) {
    let watcher = node.open();
    for _ in 0..2 {
        for length in 1..4 {
            let mut buffer = [0xAA; 3];
            assert_eq!(
                watcher.read_bytes(&mut buffer[..length]),
                Err(Errno::INVAL),
                "{length}"
            );
            assert_eq!(buffer, [0xAA; 3], "nothing was written");
        }
        node.bump();
    }
}

/// A larger buffer gets the counter, and keeps the rest.
fn read_of_more_than_a_counter_returns_four_bytes(node: &Node) {
    let watcher = node.open();
    let generation = node.bump();
    let mut buffer = [0xAA; 16];
    assert_eq!(watcher.read_bytes(&mut buffer), Ok(4));
    assert_eq!(buffer[..4], generation.to_ne_bytes());
    assert_eq!(buffer[4..], [0xAA; 12]);
}

/// It is not a getter: nothing is to be read by a watcher that is up to date.
fn read_while_up_to_date_is_eagain(node: &Node) {
    let watcher = node.open();
    assert_eq!(watcher.read(), Err(Errno::AGAIN));
    node.bump();
    watcher.catch_up();
    assert_eq!(watcher.read(), Err(Errno::AGAIN));
}

/// A read does not acknowledge: it returns the value every time until somebody does.
fn read_repeats_until_acknowledged(node: &Node) {
    let watcher = node.open();
    let generation = node.bump();
    for _ in 0..3 {
        assert_eq!(watcher.read(), Ok(generation));
    }
    watcher.acknowledge(generation).expect("it is current");
    assert_eq!(watcher.read(), Err(Errno::AGAIN));
}

/// Changes are not queued.
fn read_returns_the_latest_of_several_changes(node: &Node) {
    let watcher = node.open();
    let first = node.bump();
    let last = node.bump();
    assert_ne!(first, last);
    assert_eq!(watcher.read(), Ok(last));
    watcher.acknowledge(last).expect("it is current");
    assert_eq!(watcher.read(), Err(Errno::AGAIN));
}

/// A blocking descriptor sleeps while it is up to date, and the change wakes it.
fn read_blocks_until_the_generation_changes(node: &Node) {
    let watcher = node.open_blocking();
    let reader = Background::start(move || watcher.read());
    reader.expect_blocked("the generation has not changed");
    let generation = node.bump();
    assert_eq!(reader.finish("the generation changed"), Ok(generation));
}

/// The sleep can be interrupted: EINTR, with a handler that does not restart calls.
fn read_is_interrupted_by_a_signal(node: &Node) {
    let watcher = node.open_blocking();
    let reader = Background::start(move || watcher.read());
    reader.expect_blocked("the generation has not changed");
    assert_eq!(
        reader.signal_until_finished(Signal::Ends, "read sleeps interruptibly"),
        Err(Errno::INTR)
    );
}

/// With a handler that restarts calls, the program does not notice.
fn read_is_restarted_after_a_signal_that_asks_for_it(node: &Node) {
    let watcher = node.open_blocking();
    let reader = Background::start(move || watcher.read());
    for _ in 0..3 {
        reader.signal(Signal::Restarts);
        reader.expect_blocked("the generation has not changed");
    }
    let generation = node.bump();
    assert_eq!(reader.finish("the generation changed"), Ok(generation));
}

/// It is the caller's fault, and nobody else's.
fn read_to_bad_memory_is_efault(node: &Node) {
    let watcher = node.open();
    let generation = node.bump();
    assert_eq!(watcher.read_to_nowhere(), Err(Errno::FAULT));
    assert_eq!(watcher.read(), Ok(generation));
}

/// What only looks needs no write access.
fn read_works_on_a_read_only_descriptor(node: &Node) {
    let onlooker = node.open_read_only();
    assert_eq!(onlooker.read(), Err(Errno::AGAIN));
    let generation = node.bump();
    assert_eq!(onlooker.read(), Ok(generation));
}

/// The posted and the third-party drivers ignore the position, and clients may rely on that.
fn read_at_a_position_is_a_read(node: &Node) {
    let watcher = node.open();
    for offset in POSITIONS {
        let read = |buffer: &mut [u8]| rustix::io::pread(&watcher, buffer, offset);
        assert_eq!(read(&mut [0; 4]), Err(Errno::AGAIN), "at {offset}");
        let generation = node.bump();
        let mut buffer = [0; 4];
        assert_eq!(read(&mut buffer), Ok(4), "at {offset}");
        assert_eq!(u32::from_ne_bytes(buffer), generation, "at {offset}");
        assert_eq!(read(&mut [0; 3]), Err(Errno::INVAL), "at {offset}");
        watcher.acknowledge(generation).expect("it is current");
    }
}

/// Where `pread` and `pwrite` are tried.
pub(super) const POSITIONS: [u64; 4] = [0, 1, 4096, 1 << 40];

/// Reads and writes of any number do not move a position, and there is none to set.
fn file_has_no_position(node: &Node) {
    let watcher = node.open();
    for _ in 0..3 {
        let generation = node.bump();
        assert_eq!(watcher.read(), Ok(generation));
        watcher.acknowledge(generation).expect("it is current");
    }
    assert_eq!(seek(&watcher, SeekFrom::Start(4)), Err(Errno::SPIPE));
    assert_eq!(seek(&watcher, SeekFrom::Current(0)), Err(Errno::SPIPE));
}
