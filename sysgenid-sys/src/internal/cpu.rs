// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random numbers of the processor's own, which no snapshot holds.
//!
//! They are for mixing into others, which they can make no worse: not every processor has them, and
//! a hypervisor may make them up.

/// A number that the processor drew just now. `None` if it cannot, or did not in a few attempts.
///
/// Known here is RDRAND of `x86_64`.
#[must_use]
pub fn random() -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("rdrand") {
        // SAFETY: The processor has the instruction: it was asked.
        return unsafe { rdrand() };
    }
    None
}

/// The maker asks for up to ten attempts.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "rdrand")]
unsafe fn rdrand() -> Option<u64> {
    let mut number = 0;
    for _ in 0..10 {
        #[allow(unused_unsafe, reason = "the oldest compiler asks for it")]
        // SAFETY: The instruction is there, as the caller says, and writes to a variable.
        let done = unsafe { std::arch::x86_64::_rdrand64_step(&mut number) };
        if done == 1 {
            return Some(number);
        }
    }
    None
}
