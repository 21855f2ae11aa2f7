// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The lock of this crate, taken by a signal handler between any two instructions of its owner.
//!
//! The processor is told to trap after each instruction of a thread that takes the lock and opens it,
//! and the handler of that trap takes the lock as well. It must never wait: either the lock is free,
//! or it is its own thread that holds it, which would not go on before the handler returns.
#![cfg(all(target_os = "linux", target_arch = "x86_64", not(sysgenid_loom)))]
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

// The crate's own, which it keeps to itself.
#[allow(dead_code, reason = "not all of it is used here")]
#[path = "../src/base/fork_lock.rs"]
mod fork_lock;
#[allow(dead_code, unused_imports, reason = "not all of it is used here")]
#[path = "../src/base/sync.rs"]
mod sync;

use std::arch::asm;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::fork_lock::ForkLock;

/// Longer than a few thousand traps take on a machine that emulates another one.
const PATIENCE: Duration = Duration::from_secs(60);

static LOCK: ForkLock = ForkLock::new();
/// How often the handler found it free, and how often held by its own thread.
static FREE: AtomicU32 = AtomicU32::new(0);
static OWN: AtomicU32 = AtomicU32::new(0);

extern "C" fn on_step(_: libc::c_int) {
    let outcome = match LOCK.lock() {
        Some(_guard) => &FREE,
        None => &OWN,
    };
    outcome.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn a_signal_handler_never_waits_for_its_own_thread() {
    // What is set up at the first use allocates, and a handler may not.
    drop(LOCK.lock());
    // SAFETY: The handler keeps to what a handler may do: atomic operations, loads of this thread's
    // memory, and system calls.
    unsafe {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        action.sa_sigaction = on_step as *const () as libc::sighandler_t;
        assert_eq!(
            libc::sigaction(libc::SIGTRAP, &action, std::ptr::null_mut()),
            0
        );
    }
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || {
        for _ in 0..3 {
            step_through(|| drop(LOCK.lock()));
        }
        done.send(()).unwrap();
    });
    assert!(is_done.recv_timeout(PATIENCE).is_ok(), "it hangs");
    assert!(FREE.load(Ordering::Relaxed) > 10 && OWN.load(Ordering::Relaxed) > 10);
}

/// Has the processor trap after each instruction of `work`.
fn step_through(work: impl FnOnce()) {
    /// Of the processor's flags.
    const TRAP: u64 = 1 << 8;

    // SAFETY: The flags are written back as they were but for the one that makes the processor trap,
    // for which there is a handler. The stack is as it was, and the compiler keeps nothing below it,
    // because it is not told that the stack is left alone.
    unsafe {
        asm!("pushfq", "or qword ptr [rsp], {trap}", "popfq", trap = const TRAP);
    }
    work();
    // SAFETY: As above.
    unsafe {
        asm!("pushfq", "and qword ptr [rsp], {other}", "popfq", other = const !(TRAP as i64));
    }
}
