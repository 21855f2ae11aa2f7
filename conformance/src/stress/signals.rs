// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Signals that end whatever a thread sleeps in.

use std::sync::mpsc::Receiver;
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use crate::random::Random;

const SIGNAL: libc::c_int = libc::SIGUSR1;

extern "C" fn ignore(_: libc::c_int) {}

/// Handles the signal by doing nothing. Without `SA_RESTART`, so that calls end with `EINTR`.
pub(super) fn handle() {
    // SAFETY: All zeroes is an action without flags and with an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // SAFETY: The action is initialised, and its handler is safe wherever it interrupts.
    let set = unsafe { libc::sigaction(SIGNAL, &action, std::ptr::null_mut()) };
    assert_eq!(set, 0, "sigaction: {}", std::io::Error::last_os_error());
}

/// The number of the calling thread, by which it can be signalled.
pub(super) fn address() -> libc::pid_t {
    // SAFETY: It takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

/// Sends signals to threads at random until all have ended; returns how many.
pub(super) fn send_until_ended(
    workers: &[ScopedJoinHandle<'_, ()>],
    addresses: &Receiver<libc::pid_t>,
    random: &mut Random,
) -> u64 {
    let addresses: Vec<_> = addresses.iter().take(workers.len()).collect();
    let mut sent = 0;
    while workers.iter().any(|worker| !worker.is_finished()) {
        thread::sleep(Duration::from_millis(u64::from(1 + random.below(10))));
        let thread = *random.pick(&addresses);
        // SAFETY: It takes numbers. A thread that has ended is none of this process any more, and
        // then the call fails.
        let signalled = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, SIGNAL) };
        sent += u64::from(signalled == 0);
    }
    sent
}
