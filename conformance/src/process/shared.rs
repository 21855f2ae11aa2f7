// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the ways of telling a fork differ: children that share memory, and ids that come again.

use std::ffi::{c_int, c_void};
use std::sync::Mutex;

use sysgenid::{Uniqueness, uniqueness};

use super::Subject;
use super::clones::enter_pid_namespace;
use super::forks::expect_new;
use crate::forked::Forked;
use crate::suite::Case;

/// Where the kernel empties memory.
pub(super) const WITH_A_PAGE: &[Case<Subject>] = &[
    Case {
        name: "child_that_shares_memory_sees_no_change",
        run: child_that_shares_memory_sees_no_change,
    },
    Case {
        name: "uniqueness_changes_in_a_child_of_the_same_id",
        run: uniqueness_changes_in_a_child_of_the_same_id,
    },
];

/// Where it does not.
pub(super) const BY_PROCESS_ID: &[Case<Subject>] = &[Case {
    name: "child_that_shares_memory_is_taken_for_a_fork",
    run: child_that_shares_memory_is_taken_for_a_fork,
}];

const VFORK: c_int = libc::CLONE_VM | libc::CLONE_VFORK;

fn child_that_shares_memory_sees_no_change(_: &Subject) {
    let parent = uniqueness();
    for flags in [VFORK, libc::CLONE_VM] {
        assert_eq!(uniqueness_in_a_clone(flags), parent, "{flags:#x}");
        assert_eq!(uniqueness(), parent, "{flags:#x}");
    }
}

/// Not wanted, but harmless: the child rebuilds, and the parent sees nothing of it.
fn child_that_shares_memory_is_taken_for_a_fork(_: &Subject) {
    let parent = uniqueness();
    for flags in [VFORK, libc::CLONE_VM] {
        assert_ne!(uniqueness_in_a_clone(flags), parent, "{flags:#x}");
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
fn uniqueness_in_a_clone(flags: c_int) -> Uniqueness {
    extern "C" fn look(seen: *mut c_void) -> c_int {
        // SAFETY: It points to what the parent keeps until this child has ended, and does not touch
        // meanwhile.
        unsafe { *seen.cast::<Option<Uniqueness>>() = Some(uniqueness()) };
        0
    }

    /// One at a time has the child's stack.
    static STACK: Mutex<[u128; 4096]> = Mutex::new([0; 4096]);

    let mut stack = STACK
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut seen: Option<Uniqueness> = None;
    // SAFETY: The stack is aligned, large enough for two loads and a system call, and the child's
    // alone; it grows down. The child has no thread-local memory of its own and uses none.
    unsafe {
        let pid = libc::clone(
            look,
            stack.as_mut_ptr_range().end.cast(),
            flags | libc::SIGCHLD,
            (&raw mut seen).cast(),
        );
        assert!(pid > 0, "clone: {}", std::io::Error::last_os_error());
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
        assert_eq!(status, 0);
    }
    seen.expect("the child has looked")
}
