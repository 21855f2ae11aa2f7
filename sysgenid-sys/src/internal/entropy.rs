// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random bytes of the kernel, by the system call and nothing else.
//!
//! A C library may answer `getrandom` without a system call. glibc 2.41 and later do, from a
//! generator that the kernel's vDSO provides (Linux 6.11 and later). The state of that generator is
//! in the memory of the process, and CRIU before 4.2 copies it: two processes that are restored from
//! one checkpoint then draw the same bytes. The system call leaves no state in the process.

use crate::Errno;

/// Fills the start of `bytes` with random bytes of the kernel, and returns how many it wrote.
///
/// The call waits until the kernel's generator has been seeded, early in the boot. After that, up to
/// 256 bytes always arrive complete; a signal may cut a longer request short.
///
/// ```
/// let mut bytes = [0; 16];
/// assert_eq!(sysgenid_sys::internal::entropy::getrandom(&mut bytes)?, 16);
/// # Ok::<(), sysgenid_sys::Errno>(())
/// ```
///
/// # Errors
///
/// `EINTR` if a signal arrived before the first byte; usually `ENOSYS` or `EPERM` if a sandbox
/// forbids the call.
pub fn getrandom(bytes: &mut [u8]) -> Result<usize, Errno> {
    const NO_FLAGS: libc::c_uint = 0;
    // SAFETY: The kernel writes to at most `bytes.len()` bytes at the pointer. They are those of the
    // slice, which is borrowed mutably until this function returns. The C library's `syscall` passes
    // its arguments on unchanged.
    let count = unsafe {
        libc::syscall(
            libc::SYS_getrandom,
            bytes.as_mut_ptr(),
            bytes.len(),
            NO_FLAGS,
        )
    };
    // -1 means that there is an error number.
    usize::try_from(count).map_err(|_| {
        // SAFETY: It points to this thread's error number, which `syscall` has just set.
        Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
    })
}
