// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The environment of a process, where it may be believed.
//!
//! Whoever starts a program with more rights than its own (set-user-ID, set-group-ID, file
//! capabilities) chooses the program's environment. The kernel marks such a program (`AT_SECURE`).

use std::env;
use std::ffi::OsString;

/// Returns an environment variable, as `secure_getenv` of glibc does: nothing in a program that was
/// started with more rights than the process had that started it.
///
/// The kernel decides that when the program is started. What the process does to its rights
/// afterwards changes nothing.
#[must_use]
pub fn variable(name: &str) -> Option<OsString> {
    if is_foreign() {
        return None;
    }
    env::var_os(name)
}

/// Whether a process with fewer rights has chosen this environment. An emulator that does not say so
/// counts as "yes".
fn is_foreign() -> bool {
    // SAFETY: The location is this thread's own, and `errno` has no invalid value. `getauxval` has no
    // precondition: it looks up a number that the kernel left beside the stack at the start.
    let (value, errno) = unsafe {
        *libc::__errno_location() = 0;
        (libc::getauxval(libc::AT_SECURE), *libc::__errno_location())
    };
    value != 0 || errno != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_program_sees_its_environment() {
        assert!(!is_foreign());
        assert_eq!(variable("PATH"), env::var_os("PATH"));
        assert_eq!(variable("SYSGENID_TEST_OF_NO_SUCH_VARIABLE"), None);
    }
}
