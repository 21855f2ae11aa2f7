// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A clock that is cheap to read.

/// Returns milliseconds since a moment that means nothing, exact to one tick of the kernel (1 to 10
/// ms). The clock stands while the machine is suspended, and may go back for a process that is
/// restored on another machine.
///
/// It is read by the C library, which finds the vDSO in places where others fail, such as valgrind.
#[must_use]
pub fn coarse_milliseconds() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: The pointer is that of a `timespec` of this function. A failure leaves it as it is.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds
        .wrapping_mul(1000)
        .wrapping_add(nanoseconds / 1_000_000)
}
