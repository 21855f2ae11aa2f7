// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The operations of `/dev/sysgenid`, one function each.
//!
//! A descriptor is a *watcher*: it has an acknowledged generation, which is the current one when
//! the device is opened. It is *outdated* while the two differ. That state belongs to the open
//! file description, so `dup` and `fork` share it.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{FileType, Stat, fstat, major};
use rustix::io::Errno;
use rustix::ioctl::{IntegerSetter, NoArg, Opcode, ioctl};

use crate::abi::{self, Dialect};

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

/// Sets whether [`wait_watchers`] waits for this watcher. Enabling it on an outdated watcher
/// counts it as outdated at once.
///
/// # Errors
///
/// `EOPNOTSUPP`, without asking the kernel, unless the dialect is v6: on v5 the same number would
/// wait, for ever if `tracked` is false.
pub fn set_watcher_tracking(
    watcher: impl AsFd,
    dialect: Dialect,
    tracked: bool,
) -> Result<(), Errno> {
    if dialect != Dialect::V6 {
        return Err(Errno::OPNOTSUPP);
    }
    ioctl_by_value::<{ abi::SET_WATCHER_TRACKING }>(watcher, usize::from(tracked))
}

/// Waits until no tracked watcher is outdated.
///
/// `timeout_ms` is in milliseconds; **0 waits for ever**. Shipped drivers multiply it by a million
/// in a type that may be 32 bits wide: values above 2,147 can end early there.
///
/// # Errors
///
/// `EINTR` if the caller's own watcher is or becomes outdated, *or* a signal arrived
/// ([`is_outdated`] tells which); `ETIME` if the time is over; `EOPNOTSUPP`, without asking the
/// kernel, on v4.
pub fn wait_watchers(watcher: impl AsFd, dialect: Dialect, timeout_ms: u32) -> Result<(), Errno> {
    let argument = usize::try_from(timeout_ms).unwrap_or(usize::MAX);
    match dialect {
        Dialect::V6 => ioctl_by_value::<{ abi::WAIT_WATCHERS }>(watcher, argument),
        Dialect::V5 => ioctl_by_value::<{ abi::V5_WAIT_WATCHERS }>(watcher, argument),
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
pub fn trigger_gen_update(watcher: impl AsFd, dialect: Dialect, min: u32) -> Result<(), Errno> {
    let argument = usize::try_from(min).unwrap_or(usize::MAX);
    match dialect {
        Dialect::V6 => ioctl_by_value::<{ abi::TRIGGER_GEN_UPDATE }>(watcher, argument),
        Dialect::V5 => ioctl_by_value::<{ abi::V5_FORCE_GEN_UPDATE }>(watcher, argument),
        Dialect::V4 => Err(Errno::OPNOTSUPP),
    }
}

/// Tells which dialect a descriptor of the device speaks, without side effects on the device.
///
/// A one-byte `write` is refused by every dialect, with another error in v6 than in the ones
/// before it; then v4 alone answers the ioctl that counts outdated watchers. No ioctl of type
/// `0xE4` is issued: each of its numbers waits for ever or changes the generation in one dialect.
///
/// # Errors
///
/// `EBADF` if the descriptor is read-only: it cannot be told, and only the operations that all
/// dialects share may be used. `ENODEV` if it is not a misc character device (nothing is written
/// then) or answers as no dialect does.
pub fn detect_dialect(watcher: impl AsFd) -> Result<Dialect, Errno> {
    let watcher = watcher.as_fd();
    if !is_misc_device(&fstat(watcher)?) {
        return Err(Errno::NODEV);
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

/// One of this module's own `_IO` opcodes, whose argument is an integer by value.
fn ioctl_by_value<const OPCODE: Opcode>(watcher: impl AsFd, argument: usize) -> Result<(), Errno> {
    // SAFETY: The callers pass opcodes of the generation device only, all of which take any
    // integer by value: the kernel neither reads nor writes memory of ours. Another driver that
    // gives the number another meaning is excluded by the dialect, which the caller has detected.
    unsafe { ioctl(watcher, IntegerSetter::<OPCODE>::new_usize(argument)) }
}

fn answers_v4(watcher: BorrowedFd<'_>) -> bool {
    // SAFETY: The opcode is `_IO` and takes no argument; no driver that refuses a one-byte write
    // with EINVAL and gives this number a meaning that touches memory is known.
    unsafe { ioctl(watcher, NoArg::<{ abi::V4_GET_OUTDATED_WATCHERS }>::new()) }.is_ok()
}

/// Whether `stat` describes a misc character device, the kind the device is.
#[must_use]
pub fn is_misc_device(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && major(stat.st_rdev) == abi::MISC_MAJOR
}
