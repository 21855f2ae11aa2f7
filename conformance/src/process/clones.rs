// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ways of forking that no library hears of.

use std::panic::catch_unwind;

use rustix::thread::UnshareFlags;
use sysgenid::uniqueness;

use super::Subject;
use super::forks::expect_new;
use crate::cases;
use crate::forked::Forked;

cases! { Subject;
    uniqueness_changes_in_a_bare_clone,
    uniqueness_changes_in_a_clone3,
    uniqueness_changes_in_a_pid_namespace,
}

/// The system call, past the C library and its hooks.
fn uniqueness_changes_in_a_bare_clone(_: &Subject) {
    let parent = uniqueness();
    Forked::start_with(bare_clone, |_| expect_new(parent)).finish();
}

/// Forks by the system call. What the child does must not need a lock that another thread held.
pub(crate) fn bare_clone() -> libc::pid_t {
    // SAFETY: Without a stack and flags it is `fork`. The child does what little its caller says, and
    // ends.
    pid(unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) })
}

fn uniqueness_changes_in_a_clone3(_: &Subject) {
    let parent = uniqueness();
    let clone = || {
        // The first version of `struct clone_args`: eight words, of which the fifth is the signal.
        let mut arguments = [0_u64; 8];
        arguments[4] = u64::from(libc::SIGCHLD.cast_unsigned());
        // SAFETY: As above; the structure has the length that is given.
        unsafe {
            libc::syscall(
                libc::SYS_clone3,
                arguments.as_mut_ptr(),
                size_of_val(&arguments),
            )
        }
    };
    Forked::start_with(|| pid(clone()), |_| expect_new(parent)).finish();
}

/// The first process of a namespace has the id 1 there.
fn uniqueness_changes_in_a_pid_namespace(_: &Subject) {
    let parent = uniqueness();
    let child = Forked::start(|_| {
        enter_pid_namespace();
        let own = uniqueness();
        let first = Forked::start(|_| {
            assert_eq!(std::process::id(), 1);
            expect_new(own);
            expect_new(parent);
        });
        first.finish();
    });
    child.finish();
}

/// Whether a child of this process can: in some containers none may.
#[must_use]
pub fn can_make_pid_namespaces() -> bool {
    catch_unwind(|| Forked::start(|_| enter_pid_namespace()).finish()).is_ok()
}

/// For the children of this process, which has one thread. Needs root, or user namespaces.
pub(super) fn enter_pid_namespace() {
    // SAFETY: Only unsharing the descriptor table makes this call unsafe.
    let unshare = |flags| unsafe { rustix::thread::unshare_unsafe(flags) };
    unshare(UnshareFlags::NEWPID)
        .or_else(|_| unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWPID))
        .expect("a pid namespace can be made");
}

fn pid(returned: libc::c_long) -> libc::pid_t {
    libc::pid_t::try_from(returned).expect("it is a process id")
}
