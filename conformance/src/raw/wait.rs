// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `SYSGENID_WAIT_WATCHERS`: until no tracked watcher is outdated.

use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::Node;
use crate::background::{Background, Signal};
use crate::cases;
use crate::child::{Child, Role};

cases! { Node;
    tracked_watcher_is_waited_for,
    wait_for_nobody_returns_at_once,
    wait_returns_when_the_last_watcher_acknowledges,
    wait_of_an_outdated_caller_is_eintr,
    wait_is_eintr_when_the_caller_becomes_outdated,
    wait_that_times_out_is_etime,
    wait_lasts_as_long_as_its_timeout,
    wait_is_interrupted_by_a_signal,
    wait_is_not_restarted_after_a_signal_that_asks_for_it,
    wait_with_a_huge_timeout_does_not_end_early,
    wait_takes_32_bits,
    wait_is_eintr_after_a_stop,
    all_waits_end_together,
}

/// From the change until it acknowledges.
fn tracked_watcher_is_waited_for(node: &Node) {
    let watcher = node.open();
    watcher.ensure_tracked();
    assert_eq!(node.open().wait(1), Ok(()), "it is up to date");
    node.bump();
    assert_eq!(node.open().wait(1), Err(Errno::TIME), "it is outdated");
    watcher.catch_up();
    assert_eq!(node.open().wait(1), Ok(()), "it has acknowledged");
}

/// With any timeout, 0 (for ever) included.
fn wait_for_nobody_returns_at_once(node: &Node) {
    for ms in [0, 1, 1_000, u32::MAX] {
        let orchestrator = node.open();
        let wait = Background::start(move || orchestrator.wait(ms));
        assert_eq!(wait.finish("nobody is outdated"), Ok(()), "{ms} ms");
    }
}

/// The last one, not the first.
fn wait_returns_when_the_last_watcher_acknowledges(node: &Node) {
    let (first, second) = (node.open(), node.open());
    first.ensure_tracked();
    second.ensure_tracked();
    node.bump();
    let orchestrator = node.open();
    let wait = Background::start(move || orchestrator.wait(0));
    wait.expect_blocked("two watchers are outdated");
    first.catch_up();
    wait.expect_blocked("one watcher is outdated");
    second.catch_up();
    assert_eq!(wait.finish("no tracked watcher is outdated"), Ok(()));
}

/// Whether others are outdated or not, and whatever the timeout.
fn wait_of_an_outdated_caller_is_eintr(node: &Node) {
    let caller = node.open();
    node.bump();
    assert_eq!(caller.wait(1), Err(Errno::INTR), "nobody else is outdated");
    assert_eq!(
        caller.wait(0),
        Err(Errno::INTR),
        "nobody else is outdated, for ever"
    );
    let straggler = node.open_straggler();
    assert_eq!(caller.wait(1), Err(Errno::INTR), "another is outdated");
    assert_eq!(
        caller.wait(0),
        Err(Errno::INTR),
        "another is outdated, for ever"
    );
    drop(straggler);
    caller.catch_up();
    assert_eq!(caller.wait(1), Ok(()));
}

/// An answer about the others would belong to a generation that is gone.
fn wait_is_eintr_when_the_caller_becomes_outdated(node: &Node) {
    let _straggler = node.open_straggler();
    let caller = node.open();
    let wait = Background::start(move || caller.wait(0));
    wait.expect_blocked("a tracked watcher is outdated");
    node.bump();
    assert_eq!(wait.finish("the generation changed"), Err(Errno::INTR));
}

/// ETIME, and not ETIMEDOUT.
fn wait_that_times_out_is_etime(node: &Node) {
    let _straggler = node.open_straggler();
    for ms in [1, 10, 100] {
        assert_eq!(node.open().wait(ms), Err(Errno::TIME), "{ms} ms");
    }
}

/// Not less; how much more is the machine's.
fn wait_lasts_as_long_as_its_timeout(node: &Node) {
    let _straggler = node.open_straggler();
    let orchestrator = node.open();
    let start = Instant::now();
    assert_eq!(orchestrator.wait(300), Err(Errno::TIME));
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(300), "it lasted {waited:?}");
}

/// EINTR, with a timeout and without.
fn wait_is_interrupted_by_a_signal(node: &Node) {
    let _straggler = node.open_straggler();
    for ms in [0, 3_600_000] {
        let orchestrator = node.open();
        let wait = Background::start(move || orchestrator.wait(ms));
        wait.expect_blocked("a tracked watcher is outdated");
        assert_eq!(
            wait.signal_until_finished(Signal::Ends, "a wait sleeps interruptibly"),
            Err(Errno::INTR),
            "{ms} ms"
        );
    }
}

/// EINTR, because a restart would begin the timeout anew: signals that come often enough would keep
/// it from ending.
fn wait_is_not_restarted_after_a_signal_that_asks_for_it(node: &Node) {
    let _straggler = node.open_straggler();
    for ms in [0, 3_600_000] {
        let orchestrator = node.open();
        let wait = Background::start(move || orchestrator.wait(ms));
        wait.expect_blocked("a tracked watcher is outdated");
        let ended = wait.signal_until_finished(Signal::Restarts, "a wait is not restarted");
        assert_eq!(ended, Err(Errno::INTR), "{ms} ms");
    }
}

/// A number of milliseconds that does not fit somewhere on the way to the timer must not become a
/// small one: beyond 32 bits of nanoseconds and of microseconds, beyond 31 bits, and all bits set.
fn wait_with_a_huge_timeout_does_not_end_early(node: &Node) {
    let straggler = node.open_straggler();
    let waits = HUGE.map(|ms| {
        let orchestrator = node.open();
        (ms, Background::start(move || orchestrator.wait(ms)))
    });
    for (ms, wait) in &waits {
        wait.expect_blocked(&format!("a tracked watcher is outdated, {ms} ms"));
    }
    straggler.catch_up();
    for (ms, wait) in waits {
        assert_eq!(wait.finish(&format!("nobody is outdated, {ms} ms")), Ok(()));
    }
}

/// As nanoseconds, the first is 2^32 and 32,704; as microseconds, the second is 2^32 and 704.
const HUGE: [u32; 5] = [4_295, 4_294_968, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

/// Fault 12. The upper half of the register means nothing: 1 ms does not become 348 days, and 0 is
/// still without a limit.
fn wait_takes_32_bits(node: &Node) {
    let straggler = node.open_straggler();
    let orchestrator = node.open();
    let wait = Background::start(move || orchestrator.wait_wide(UNDEFINED | 1));
    assert_eq!(wait.finish("it waits for 1 ms"), Err(Errno::TIME));
    let orchestrator = node.open();
    let wait = Background::start(move || orchestrator.wait_wide(UNDEFINED));
    wait.expect_blocked("it waits without a limit");
    straggler.catch_up();
    assert_eq!(wait.finish("it has acknowledged"), Ok(()));
}

/// An upper half as C may leave it in a register whose lower half is an `int`.
#[cfg(target_pointer_width = "64")]
pub(super) const UNDEFINED: usize = 0x0000_0007_0000_0000;
#[cfg(target_pointer_width = "32")]
pub(super) const UNDEFINED: usize = 0;

/// EINTR without any signal that is caught: the caller looks whether it is outdated, and waits
/// again. The freezer and a tracer that attaches interrupt it in the same way.
fn wait_is_eintr_after_a_stop(node: &Node) {
    let straggler = node.open_straggler();
    let mut child = Child::start(Role::WaitForWatchers, node.open().into());
    assert_eq!(child.said(), "ok");
    assert_eq!(child.stop_until_it_ends(), Some(Errno::INTR.raw_os_error()));
    assert!(straggler.is_outdated());
}

/// No matter how many wait, and on which descriptors.
fn all_waits_end_together(node: &Node) {
    let straggler = node.open_straggler();
    let shared = node.open();
    let mut waits: Vec<_> = (0..3)
        .map(|_| {
            let duplicate = shared.duplicate();
            Background::start(move || duplicate.wait(0))
        })
        .collect();
    for _ in 0..3 {
        let orchestrator = node.open();
        waits.push(Background::start(move || orchestrator.wait(0)));
    }
    waits[0].expect_blocked("a tracked watcher is outdated");
    straggler.catch_up();
    for wait in waits {
        assert_eq!(wait.finish("nobody is outdated"), Ok(()));
    }
}
