// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A real fork in a test.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Does `work` in a forked child, and returns whether it ended without a panic.
pub(crate) fn in_child(work: impl FnOnce()) -> bool {
    // SAFETY: The child never returns from here. It allocates, for which the C library sees to its own
    // lock, and takes no other lock that a thread of the parent's may have held.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        let failed = catch_unwind(AssertUnwindSafe(work)).is_err();
        // SAFETY: It ends the process and runs nothing of the parent's.
        unsafe { libc::_exit(failed.into()) }
    }
    let mut status = 0;
    // SAFETY: It is this process's child, and no other thread waits for it.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    status == 0
}

/// The same where it must.
#[allow(dead_code, reason = "not each test needs it")]
pub(crate) fn assert_in_child(work: impl FnOnce()) {
    assert!(in_child(work), "the child panicked");
}
