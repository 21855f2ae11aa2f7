// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A vmclock, and how to wait for its notifications.

use std::mem::MaybeUninit;

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use sysgenid_sys::Errno;
use sysgenid_sys::vmclock::{
    self, ClockError, ClockPage, FLAG_COUNTER_PRESENT, FLAG_NOTIFICATION_PRESENT,
};

use crate::base::error::{Error, Kind, Result};
use crate::base::{Deadline, interrupt};
use crate::check::Probe;
use crate::source::Source;
use crate::source::clock_refused;
use crate::watch::watcher::new_readiness;

const NOT_NOTIFIED: &str = "a vmclock whose hypervisor does not notify of changes, as QEMU's does not; look at it from \
     time to time with a `Probe` and a timer (`sysgenid_tokio::PolledProbe` is one), or watch the \
     kernel driver (`modprobe sysgenid`) or the userspace driver (`sysgenid serve`)";

const NOT_WAITED_FOR: &str = "a vmclock that cannot be waited for, because the driver of this kernel is older than mainline's \
     of 7.0; look at it from time to time with a `Probe` and a timer (`sysgenid_tokio::PolledProbe` \
     is one), or watch the kernel driver (`modprobe sysgenid`) or the userspace driver (`sysgenid \
     serve`)";

pub(super) struct Clock {
    file: OwnedFd,
    page: ClockPage,
    probe: Probe,
    /// An epoll instance of its own, which makes an event of each notification.
    ///
    /// The file itself is readable until the driver is told that its sequence was seen. It cannot be
    /// told while the hypervisor writes, nor ever again by a hypervisor that no longer notifies: who
    /// waits would spin. An edge is told of once, whatever becomes of the file.
    bell: OwnedFd,
}

impl Clock {
    pub(super) fn open(source: &Source) -> Result<Self> {
        let clock = Self::map(source)?;
        clock.hear_of(clock.file.as_fd())?;
        Ok(clock)
    }

    /// One whose notifications are not heard of yet.
    pub(super) fn map(source: &Source) -> Result<Self> {
        let (file, page, probe) = source.open_clock()?;
        Ok(Self {
            file,
            page,
            probe,
            bell: new_readiness()?,
        })
    }

    /// `notifier` is woken by each notification. It is the clock's own file but in tests.
    pub(super) fn hear_of(&self, notifier: BorrowedFd<'_>) -> Result<()> {
        epoll::add(
            &self.bell,
            notifier,
            epoll::EventData::new_u64(0),
            epoll::EventFlags::IN | epoll::EventFlags::ET,
        )
        .map_err(|errno| match errno {
            // The file has no `poll`.
            Errno::PERM => Error::new(Kind::Unsupported(NOT_WAITED_FOR)).errno(errno),
            errno => Error::call("epoll_ctl", errno),
        })?;
        // The first event is the registration's.
        self.acknowledge()
    }

    pub(super) fn probe(&self) -> &Probe {
        &self.probe
    }

    /// Takes what was notified of, so that nothing is readable until the next notification. Look at
    /// the counter *after* this, not before. The error says that there is no such thing any more.
    pub(super) fn acknowledge(&self) -> Result<()> {
        // First: what is notified of from here on is an event of its own.
        self.take_event()?;
        // While the hypervisor writes, the driver would wait for it. It notifies when it has finished.
        let Some(fields) = self.page.try_fields() else {
            return Ok(());
        };
        if fields.flags & FLAG_COUNTER_PRESENT == 0 {
            return Err(clock_refused(&ClockError::Uncounted));
        }
        if fields.flags & FLAG_NOTIFICATION_PRESENT == 0 {
            return Err(Error::new(Kind::Unsupported(NOT_NOTIFIED)));
        }
        // So that the driver wakes nobody for a change that has been seen.
        match vmclock::acknowledge(&self.file) {
            // It has begun again since.
            Ok(_) | Err(Errno::TIMEDOUT) => Ok(()),
            Err(errno) => Err(Error::call("read", errno)),
        }
    }

    fn take_event(&self) -> Result<()> {
        let mut event = [MaybeUninit::uninit()];
        let now = Timespec::default();
        match epoll::wait(&self.bell, &mut event[..], Some(&now)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(Error::call("epoll_wait", errno)),
        }
    }

    /// Until there may be a notification, or the deadline.
    pub(super) fn sleep(&self, deadline: Deadline) -> Result<()> {
        let mut fds = [PollFd::new(&self.bell, PollFlags::IN)];
        match poll(&mut fds, deadline.timespec().as_ref()) {
            Ok(_) => Ok(()),
            Err(Errno::INTR) => interrupt::signalled(),
            Err(errno) => Err(Error::call("poll", errno)),
        }
    }
}

impl AsFd for Clock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
