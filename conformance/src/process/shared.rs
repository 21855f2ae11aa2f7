// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the ways of telling a fork differ: children that share memory, and ids that come again.

use std::ffi::{c_int, c_void};
use std::sync::Mutex;

use sysgenid::uniqueness;

use super::Subject;
use super::clones::enter_pid_namespace;
use super::forks::expect_new;
use crate::forked::Forked;
use crate::suite::Case;

/// Where the kernel empties memory, and where it does not.
pub(super) const EVERYWHERE: &[Case<Subject>] = &[Case {
    name: "uniqueness_changes_in_a_child_of_the_same_id",
    run: uniqueness_changes_in_a_child_of_the_same_id,
}];

/// Where the kernel empties memory.
pub(super) const WITH_A_PAGE: &[Case<Subject>] = &[Case {
    name: "child_that_shares_memory_sees_no_change",
    run: child_that_shares_memory_sees_no_change,
}];

/// Where it does not.
pub(super) const BY_PROCESS_ID: &[Case<Subject>] = &[Case {
    name: "child_that_shares_memory_is_taken_for_a_fork",
    run: child_that_shares_memory_is_taken_for_a_fork,
}];

pub(super) const VFORK: c_int = libc::CLONE_VM | libc::CLONE_VFORK;

fn child_that_shares_memory_sees_no_change(_: &Subject) {
    let parent = uniqueness();
    for flags in [VFORK, libc::CLONE_VM] {
        assert_eq!(in_a_clone(flags, uniqueness), parent, "{flags:#x}");
        assert_eq!(uniqueness(), parent, "{flags:#x}");
    }
}

/// Not wanted, but harmless: the child rebuilds, and the parent sees nothing of it.
fn child_that_shares_memory_is_taken_for_a_fork(_: &Subject) {
    let parent = uniqueness();
    for flags in [VFORK, libc::CLONE_VM] {
        assert_ne!(in_a_clone(flags, uniqueness), parent, "{flags:#x}");
        assert_eq!(uniqueness(), parent, "{flags:#x}");
    }
}

/// Two namespaces, and in each the process 1.
fn uniqueness_changes_in_a_child_of_the_same_id(_: &Subject) {
    let child = Forked::start(|_| {
        enter_pid_namespace();
        let first = Forked::start(|_| {
            let own = uniqueness();
            enter_pid_namespace();
            let inner = Forked::start(|_| {
                assert_eq!(std::process::id(), 1);
                expect_new(own);
            });
            assert_eq!(std::process::id(), 1);
            inner.finish();
        });
        first.finish();
    });
    child.finish();
}

/// What a child that has this process's memory, but not its threads, sees.
pub(super) fn in_a_clone<T>(flags: c_int, look: fn() -> T) -> T {
    extern "C" fn note<T>(noted: *mut c_void) -> c_int {
        // SAFETY: It points to what the parent keeps until this child has ended, and does not touch
        // meanwhile.
        let (look, seen) = unsafe { &mut *noted.cast::<(fn() -> T, Option<T>)>() };
        *seen = Some(look());
        0
    }

    /// One at a time has the child's stack.
    static STACK: Mutex<[u128; 4096]> = Mutex::new([0; 4096]);

    let mut stack = STACK
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut noted: (fn() -> T, Option<T>) = (look, None);
    // SAFETY: The stack is aligned, large enough for two loads and a system call, and the child's
    // alone; it grows down. The child has no thread-local memory of its own and uses none.
    unsafe {
        let pid = libc::clone(
            note::<T>,
            stack.as_mut_ptr_range().end.cast(),
            flags | libc::SIGCHLD,
            (&raw mut noted).cast(),
        );
        assert!(pid > 0, "clone: {}", std::io::Error::last_os_error());
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
        assert_eq!(status, 0);
    }
    noted.1.expect("the child has looked")
}
