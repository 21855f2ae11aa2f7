// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A barrier of which one side costs nothing, because the other has all threads of the process execute it.

use crate::internal::sync::{AtomicU32, Ordering, fence, shared};

shared! {
    static MODE: AtomicU32 = AtomicU32::new(UNKNOWN);
}

const UNKNOWN: u32 = 0;
const ASYMMETRIC: u32 = 1;
/// The kernel or a sandbox refuses the call.
const SYMMETRIC: u32 = 2;

/// Whether [`light`] and [`heavy`] together are a full barrier in both threads. Once it is so, it stays so. What the caller does after this comes after a full barrier.
pub(crate) fn is_asymmetric() -> bool {
    let mut mode = MODE.load(Ordering::Relaxed);
    if mode == UNKNOWN {
        let known = if register() { ASYMMETRIC } else { SYMMETRIC };
        // Relaxed: it is the fence below that orders it. What one thread has stored holds for all.
        mode = match MODE.compare_exchange(UNKNOWN, known, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => known,
            Err(stored) => stored,
        };
    }
    // Its partner is the fence in `heavy`: if that one comes first, whatever is loaded after this sees
    // what was stored before it; else it finds the mode stored.
    full();
    mode == ASYMMETRIC
}

/// A barrier for the compiler alone, and with [`heavy`] for the processor.
#[inline(always)]
pub(crate) fn light() {
    // A model has no system call that would make the difference.
    #[cfg(sysgenid_loom)]
    full();
    #[cfg(not(sysgenid_loom))]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
}

/// A full barrier in this thread.
pub(crate) fn full() {
    fence(Ordering::SeqCst);
}

/// A full barrier in this thread, and in all others that rely on [`light`] ones. Returns false if there
/// was none in the others: a sandbox that was closed since may refuse the call.
pub(crate) fn heavy() -> bool {
    full();
    MODE.load(Ordering::Relaxed) != ASYMMETRIC || execute()
}

#[cfg(sysgenid_loom)]
fn register() -> bool {
    true
}

#[cfg(sysgenid_loom)]
fn execute() -> bool {
    true
}

#[cfg(not(sysgenid_loom))]
fn register() -> bool {
    use rustix::thread::{MembarrierCommand, membarrier};

    membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
}

#[cfg(not(sysgenid_loom))]
fn execute() -> bool {
    use rustix::thread::{MembarrierCommand, membarrier};

    let execute = || membarrier(MembarrierCommand::PrivateExpedited).is_ok();
    #[cfg(test)]
    if tests::IS_REFUSED.with(std::cell::Cell::get) {
        return false;
    }
    // A process that was restored by CRIU may have to register again.
    execute() || register() && execute()
}

/// As where the call is refused from the start.
#[cfg(all(test, sysgenid_loom))]
pub(crate) fn refuse() {
    MODE.store(SYMMETRIC, Ordering::Relaxed);
}

#[cfg(all(test, not(sysgenid_loom)))]
pub(crate) mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// Whether a sandbox that was closed since refuses the call to this thread.
        pub(crate) static IS_REFUSED: Cell<bool> = const { Cell::new(false) };
    }

    #[test]
    fn the_kernel_executes_it() {
        assert!(is_asymmetric(), "no membarrier here");
        assert!(heavy());
    }
}
