// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sandboxes that do not let memory be emptied in a forked child.

use std::io;
use std::ptr;

use clap::ValueEnum;

/// What becomes of `madvise(MADV_WIPEONFORK)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sandbox {
    /// The kernel does it
    None,
    /// It is refused, as by a strict container
    Refuses,
    /// It succeeds and does nothing, as in some emulators
    Lies,
}

/// Where the parts of a system call are for a filter: `struct seccomp_data`.
const NUMBER: u32 = 0;
#[cfg(target_endian = "little")]
const THIRD_ARGUMENT: u32 = 32;
#[cfg(target_endian = "big")]
const THIRD_ARGUMENT: u32 = 36;

impl Sandbox {
    /// Puts this process into it, for good. Threads that are there already stay outside.
    ///
    /// # Errors
    ///
    /// Those of `prctl`.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the kernel's codes are of 16 bits, and libc's of 32"
    )]
    pub fn enter(self) -> io::Result<()> {
        let errno = match self {
            Self::None => return Ok(()),
            Self::Refuses => libc::EPERM.cast_unsigned(),
            Self::Lies => 0,
        };
        let madvise = u32::try_from(libc::SYS_madvise).map_err(io::Error::other)?;
        let advice = libc::MADV_WIPEONFORK.cast_unsigned();
        let statement = |code: u32, k| libc::sock_filter {
            code: code as u16,
            jt: 0,
            jf: 0,
            k,
        };
        let unless_equal_skip = |k, jf| libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf,
            k,
        };
        let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
        let answer = libc::BPF_RET | libc::BPF_K;
        let mut filter = [
            statement(load, NUMBER),
            unless_equal_skip(madvise, 3),
            statement(load, THIRD_ARGUMENT),
            unless_equal_skip(advice, 1),
            statement(answer, libc::SECCOMP_RET_ERRNO | errno),
            statement(answer, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog {
            len: filter.len() as u16,
            filter: filter.as_mut_ptr(),
        };
        // SAFETY: The filter is well-formed, and the kernel copies it before the call returns.
        let entered = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(
                    libc::PR_SET_SECCOMP,
                    libc::SECCOMP_MODE_FILTER,
                    ptr::from_ref(&program),
                ) == 0
        };
        if entered {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}
