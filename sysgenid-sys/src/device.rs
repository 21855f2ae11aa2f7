// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The operations of `/dev/sysgenid`, one function each.
//!
//! A descriptor is a *watcher*: it has an acknowledged generation, which is the current one when
//! the device is opened. It is *outdated* while the two differ. That state belongs to the open
//! file description, so `dup` and `fork` share it.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::ioctl::{IntegerSetter, NoArg, Opcode, ioctl};

use crate::abi::{self, Dialect};
pub use crate::misc::{MiscName, misc_name};

/// Reads the current generation of an *outdated* watcher.
///
/// This is not a getter: an up-to-date watcher has nothing to read. The same value is returned
/// again until it is acknowledged.
///
/// # Errors
///
/// `EAGAIN` if the watcher is up to date and the descriptor is non-blocking (a blocking one
/// sleeps); `EINTR` if a signal ended the sleep; `EPROTO` if the device returned anything but four
/// bytes, which no known driver does.
pub fn read_generation(watcher: impl AsFd) -> Result<u32, Errno> {
    let mut buffer = [0_u8; abi::COUNTER_LEN];
    let length = rustix::io::read(watcher, &mut buffer)?;
    if length != abi::COUNTER_LEN {
        return Err(Errno::PROTO);
    }
    Ok(u32::from_ne_bytes(buffer))
}

/// Acknowledges `generation`: the caller has handled it.
///
/// Never blocks; acknowledging the same generation twice is fine.
///
/// # Errors
///
/// `EINVAL` if `generation` is not the current one (nothing changes); `EBADF` if the descriptor
/// is read-only; `EPROTO` if the device took anything but four bytes, which no known driver does.
pub fn acknowledge(watcher: impl AsFd, generation: u32) -> Result<(), Errno> {
    let length = rustix::io::write(watcher, &generation.to_ne_bytes())?;
    if length != abi::COUNTER_LEN {
        return Err(Errno::PROTO);
    }
    Ok(())
}

/// Whether the watcher is outdated: `poll` with a timeout of zero.
///
/// # Errors
///
/// `EINTR` if a signal arrived; `EIO` if the descriptor reports an error or a hang-up, which the
/// device never does.
pub fn is_outdated(watcher: impl AsFd) -> Result<bool, Errno> {
    wait_outdated(
        watcher,
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    )
}

/// Sleeps until the watcher is outdated (`true`) or the timeout has passed (`false`). `None` waits
/// for ever.
///
/// It polls, so it is not hit by the shipped drivers' lost *epoll* wake-ups.
///
/// # Errors
///
/// As [`is_outdated`].
pub fn wait_outdated(watcher: impl AsFd, timeout: Option<&Timespec>) -> Result<bool, Errno> {
    let mut fds = [PollFd::new(&watcher, PollFlags::IN)];
    poll(&mut fds, timeout)?;
    let [fd] = fds;
    let ready = fd.revents();
    if ready.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
        return Err(Errno::IO);
    }
    Ok(ready.contains(PollFlags::IN))
}

/// An open file that was proven to be the generation device, and its dialect.
///
/// Only [`detect`](Self::detect) makes one. The ioctls are its methods, because a number that another
/// driver gives another meaning could be taken for an address there.
#[derive(Debug)]
pub struct Device {
    watcher: OwnedFd,
    dialect: Dialect,
}

/// A descriptor that [`Device::detect`] did not take, and why.
#[derive(Debug)]
pub struct Undetected {
    /// The descriptor, unchanged.
    pub watcher: OwnedFd,
    /// The reason: see [`Device::detect`].
    pub errno: Errno,
}

impl Device {
    /// Proves that an open file is the generation device, and tells its dialect, without side effects
    /// on the device.
    ///
    /// Nothing is written before [`misc_name`] has said that the kernel's name of the device is
    /// `sysgenid`. A one-byte `write` is then refused by every dialect, with another error in v6 than
    /// in the ones before it; v4 alone answers the ioctl that counts outdated watchers. No ioctl of
    /// type `0xE4` is issued: each of its numbers waits forever or changes the generation in one
    /// dialect.
    ///
    /// # Errors
    ///
    /// The descriptor is given back, with
    ///
    /// - `EBADF` if it is read-only: the dialect cannot be told, and only the operations that all
    ///   dialects share may be used;
    /// - `ENODEV` if it is another device or no device, or answers as no dialect does;
    /// - `ENODATA` if neither sysfs nor procfs tells what it is;
    /// - else the error of `fstat`.
    ///
    /// ```
    /// use sysgenid_sys::{Errno, device::Device};
    ///
    /// let null = std::fs::File::open("/dev/null")?;
    /// let refused = Device::detect(null.into()).unwrap_err();
    /// assert_eq!(refused.errno, Errno::NODEV);
    /// drop(refused.watcher); // it is the caller's still
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn detect(watcher: OwnedFd) -> Result<Self, Undetected> {
        match detect(watcher.as_fd()) {
            Ok(dialect) => Ok(Self { watcher, dialect }),
            Err(errno) => Err(Undetected { watcher, errno }),
        }
    }

    /// The dialect that it speaks.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Sets whether [`wait_watchers`](Self::wait_watchers) waits for this watcher. Enabling it on an
    /// outdated watcher counts it as outdated at once.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP`, without asking the kernel, unless the dialect is v6: on v5 the same number would
    /// wait, forever if `tracked` is false.
    pub fn set_watcher_tracking(&self, tracked: bool) -> Result<(), Errno> {
        match self.dialect {
            Dialect::V6 => {
                self.ioctl_by_value::<{ abi::SET_WATCHER_TRACKING }>(usize::from(tracked))
            }
            Dialect::V4 | Dialect::V5 => Err(Errno::OPNOTSUPP),
        }
    }

    /// Waits until no tracked watcher is outdated.
    ///
    /// `timeout_ms` is in milliseconds; **0 waits forever**. Third-party drivers multiply it by a
    /// million in a type that may be 32 bits wide: values above 2,147 can end early there.
    ///
    /// # Errors
    ///
    /// `EINTR` if the caller's own watcher is or becomes outdated, *or* a signal arrived
    /// ([`is_outdated`] tells which); `ETIME` if the time is over; `EOPNOTSUPP`, without asking the
    /// kernel, on v4.
    pub fn wait_watchers(&self, timeout_ms: u32) -> Result<(), Errno> {
        let argument = usize::try_from(timeout_ms).unwrap_or(usize::MAX);
        match self.dialect {
            Dialect::V6 => self.ioctl_by_value::<{ abi::WAIT_WATCHERS }>(argument),
            Dialect::V5 => self.ioctl_by_value::<{ abi::V5_WAIT_WATCHERS }>(argument),
            Dialect::V4 => Err(Errno::OPNOTSUPP),
        }
    }

    /// Changes the generation to `max(min, generation + 1)`, which outdates every watcher, the
    /// caller's own included.
    ///
    /// # Errors
    ///
    /// `EACCES` without `CAP_CHECKPOINT_RESTORE` or `CAP_SYS_ADMIN`; `EOPNOTSUPP`, without asking the
    /// kernel, on v4.
    pub fn trigger_gen_update(&self, min: u32) -> Result<(), Errno> {
        let argument = usize::try_from(min).unwrap_or(usize::MAX);
        match self.dialect {
            Dialect::V6 => self.ioctl_by_value::<{ abi::TRIGGER_GEN_UPDATE }>(argument),
            Dialect::V5 => self.ioctl_by_value::<{ abi::V5_FORCE_GEN_UPDATE }>(argument),
            Dialect::V4 => Err(Errno::OPNOTSUPP),
        }
    }

    /// One of this module's own `_IO` opcodes, whose argument is an integer by value.
    fn ioctl_by_value<const OPCODE: Opcode>(&self, argument: usize) -> Result<(), Errno> {
        // SAFETY: The file is the generation device: only `detect` makes this type, which has asked
        // the kernel for the device's name, and nothing else can change what the descriptor refers
        // to while it is owned here. Its drivers take any integer by value, so the kernel neither
        // reads nor writes memory of this process.
        unsafe { ioctl(&self.watcher, IntegerSetter::<OPCODE>::new_usize(argument)) }
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watcher.as_fd()
    }
}

impl From<Device> for OwnedFd {
    fn from(device: Device) -> Self {
        device.watcher
    }
}

fn detect(watcher: BorrowedFd<'_>) -> Result<Dialect, Errno> {
    match misc_name(&fstat(watcher)?) {
        Ok(name) if name.as_bytes() == abi::DEVICE_NAME.as_bytes() => {}
        Ok(_) | Err(Errno::NXIO) => return Err(Errno::NODEV),
        Err(errno) => return Err(errno),
    }
    match rustix::io::write(watcher, &[0]) {
        Err(Errno::NOBUFS) => Ok(Dialect::V6),
        Err(Errno::INVAL) => Ok(if answers_v4(watcher) {
            Dialect::V4
        } else {
            Dialect::V5
        }),
        Err(Errno::BADF) => Err(Errno::BADF),
        Err(_) | Ok(_) => Err(Errno::NODEV),
    }
}

fn answers_v4(watcher: BorrowedFd<'_>) -> bool {
    // SAFETY: `detect` has found that the kernel calls the device `sysgenid`. The opcode is `_IO` and
    // takes no argument; of the drivers of that name only v4's knows it, and it counts.
    unsafe { ioctl(watcher, NoArg::<{ abi::V4_GET_OUTDATED_WATCHERS }>::new()) }.is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

    use super::*;

    #[test]
    fn no_ioctl_is_issued_under_another_dialects_number() {
        // The kernel would answer ENOTTY.
        let of = |dialect| Device {
            watcher: std::fs::File::open("/dev/null").unwrap().into(),
            dialect,
        };
        for dialect in [Dialect::V4, Dialect::V5] {
            let tracked = of(dialect).set_watcher_tracking(true);
            assert_eq!(tracked, Err(Errno::OPNOTSUPP));
        }
        assert_eq!(of(Dialect::V4).wait_watchers(1), Err(Errno::OPNOTSUPP));
        assert_eq!(of(Dialect::V4).trigger_gen_update(0), Err(Errno::OPNOTSUPP));
        assert_eq!(of(Dialect::V6).trigger_gen_update(0), Err(Errno::NOTTY));
    }
}
