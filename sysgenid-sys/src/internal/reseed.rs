// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ioctls of `/dev/urandom` that give the kernel entropy and have it use it.

use core::ffi::c_int;
use core::mem::size_of;

use rustix::fd::{AsFd, AsRawFd};

use crate::Errno;

/// Bytes that are added at once at most.
pub const MOST: usize = 512;

/// What the kernel takes: how many bits the bytes are worth, how many bytes there are, and the bytes.
/// Whoever fills it wipes it.
#[repr(C)]
pub struct Pool {
    entropy_count: c_int,
    buf_size: c_int,
    /// The bytes, and zeros behind them.
    pub bytes: [u8; MOST],
}

impl Pool {
    /// Nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entropy_count: 0,
            buf_size: 0,
            bytes: [0; MOST],
        }
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}

/// Mixes the first `length` bytes of `pool` into the kernel's entropy, and has it count all of their
/// bits (`RNDADDENTROPY`). By itself that reaches no reader.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN` in the initial user namespace; `EINVAL` if there are not so many
/// bytes; `ENOTTY` if this is not the kernel's random device.
pub fn add_entropy(device: impl AsFd, pool: &mut Pool, length: usize) -> Result<(), Errno> {
    if length > pool.bytes.len() {
        return Err(Errno::INVAL);
    }
    let length = c_int::try_from(length).map_err(|_| Errno::INVAL)?;
    (pool.entropy_count, pool.buf_size) = (length * 8, length);
    let opcode = rustix::ioctl::opcode::write::<[c_int; 2]>(b'R', 0x03);
    // SAFETY: The kernel reads two integers at the pointer and then `buf_size` bytes, all of which lie
    // in `pool`, borrowed for the call. It writes nothing there.
    let result = unsafe {
        libc::ioctl(
            device.as_fd().as_raw_fd(),
            opcode as _,
            core::ptr::from_mut(pool),
        )
    };
    check(result)
}

/// Has the kernel draw a new key for its random numbers from its entropy at once, for each reader
/// (`RNDRESEEDCRNG`).
///
/// Before Linux 5.18, and its backports, it does nothing and succeeds if the kernel counts fewer than
/// 128 bits of entropy: see [`entropy_count`].
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN` in the initial user namespace; `ENODATA` if the kernel's generator
/// was never seeded; `ENOTTY` or `EINVAL` if this is not the kernel's random device.
pub fn reseed(device: impl AsFd) -> Result<(), Errno> {
    let opcode = rustix::ioctl::opcode::none(b'R', 0x07);
    // SAFETY: The kernel reads no argument, and nothing of this process is touched.
    let result = unsafe { libc::ioctl(device.as_fd().as_raw_fd(), opcode as _) };
    check(result)
}

/// How many bits of entropy the kernel counts (`RNDGETENTCNT`).
///
/// # Errors
///
/// `ENOTTY` or `EINVAL` if this is not the kernel's random device.
pub fn entropy_count(device: impl AsFd) -> Result<u32, Errno> {
    let mut count: c_int = 0;
    let opcode = rustix::ioctl::opcode::read::<c_int>(b'R', 0x00);
    // SAFETY: The kernel writes one integer to where `count` is, borrowed for the call.
    let result = unsafe { libc::ioctl(device.as_fd().as_raw_fd(), opcode as _, &raw mut count) };
    check(result)?;
    Ok(u32::try_from(count).unwrap_or(0))
}

fn check(result: c_int) -> Result<(), Errno> {
    const _: () = assert!(size_of::<Pool>() == 2 * size_of::<c_int>() + MOST);
    match result {
        -1 => {
            // SAFETY: It points to this thread's error number, which the call has just set.
            Err(Errno::from_raw_os_error(unsafe {
                *libc::__errno_location()
            }))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_kernel_s_header() {
        use rustix::ioctl::opcode;
        assert_eq!(opcode::read::<c_int>(b'R', 0), linux_raw(0x8004_5200));
        assert_eq!(opcode::write::<[c_int; 2]>(b'R', 3), linux_raw(0x4008_5203));
        assert_eq!(opcode::none(b'R', 7), linux_raw(0x5207));
    }

    /// As most machines have them.
    fn linux_raw(number: u32) -> rustix::ioctl::Opcode {
        if cfg!(any(
            target_arch = "powerpc",
            target_arch = "powerpc64",
            target_arch = "mips",
            target_arch = "mips64",
            target_arch = "sparc64"
        )) {
            let none = number & 0xffff;
            return match number >> 30 {
                0 => 0x2000_0000 | none as rustix::ioctl::Opcode,
                2 => 0x4000_0000 | (number & 0x1fff_ffff) as rustix::ioctl::Opcode,
                _ => 0x8000_0000 | (number & 0x1fff_ffff) as rustix::ioctl::Opcode,
            };
        }
        number as rustix::ioctl::Opcode
    }

    #[test]
    fn another_file_is_refused() {
        let file = File::open("/dev/null").unwrap();
        for result in [
            add_entropy(&file, &mut Pool::new(), 4),
            reseed(&file),
            entropy_count(&file).map(drop),
        ] {
            assert!(
                matches!(result, Err(Errno::NOTTY | Errno::INVAL)),
                "{result:?}"
            );
        }
        let device = File::open("/dev/urandom").unwrap();
        assert!(entropy_count(&device).is_ok());
        let too_much = add_entropy(&device, &mut Pool::new(), MOST + 1);
        assert_eq!(too_much, Err(Errno::INVAL));
    }
}
