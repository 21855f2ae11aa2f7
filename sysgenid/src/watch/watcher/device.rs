// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A watcher on the kernel driver's device.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::event::epoll;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fstat, open};
use sysgenid_sys::abi::Dialect;
use sysgenid_sys::device::Device;
use sysgenid_sys::fdinfo::WatcherState;
use sysgenid_sys::page::CounterPage;
use sysgenid_sys::{Errno, device};

use super::Tracking;
use super::debt::Debt;
use crate::base::error::{Error, Kind, Result};
use crate::base::{Deadline, Generation, interrupt};
use crate::check::Probe;
use crate::orchestrate::{Straggler, stragglers};
use crate::source::Source;
use crate::source::attributes::Attributes;
use crate::source::{FileIdentity, V4_REFUSED, detect, map_counter, open_failed};

/// The longest wait that is asked of the driver at once. Shipped drivers multiply the milliseconds
/// by a million, which leaves a signed 32-bit number beyond 2,147.
const WAIT_SLICE: Duration = Duration::from_millis(2_000);

pub(crate) struct DeviceWatcher {
    device: Device,
    page: CounterPage,
    /// Whether epoll is on the driver's wait queue: see [`DeviceWatcher::hook`]. Locked while
    /// this process acknowledges.
    hooked: Mutex<bool>,
    /// What a forked child goes on from: the number that was acknowledged last, or [`NONE`], and
    /// whether orchestrators wait for this watcher. Nothing else depends on them, so they are
    /// relaxed. They are stored after the driver was told, so a child finds too little at worst, and
    /// rebuilds once more.
    acknowledged: AtomicU64,
    tracked: AtomicBool,
    /// What only this process knows of: see [`Debt`].
    debt: Debt,
}

/// No number of the counter.
const NONE: u64 = u64::MAX;

/// How often a watcher that is being opened tries to be hooked for certain. An attempt fails if a
/// change comes within three system calls.
const ATTEMPTS: u32 = 1_000;

impl DeviceWatcher {
    pub(super) fn open(path: &Path, tracking: Tracking, readiness: &OwnedFd) -> Result<Self> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = open(path, flags, Mode::empty()).map_err(open_failed)?;
        let watcher = Self::new(file).map_err(|(_, error)| error)?;
        watcher.start(readiness)?;
        match (tracking, watcher.device.dialect()) {
            (Tracking::OffIfPossible, Dialect::V5) => {}
            (tracking, _) => watcher.set_tracking(tracking == Tracking::On)?,
        }
        Ok(watcher)
    }

    /// Gives the descriptor back if it is not taken.
    pub(super) fn from_fd(file: OwnedFd, readiness: &OwnedFd) -> Result<Self, (OwnedFd, Error)> {
        let watcher = Self::new(file)?;
        match watcher.adopt(readiness) {
            Ok(()) => Ok(watcher),
            Err(error) => Err((watcher.device.into(), error)),
        }
    }

    /// Begins with a watcher that was used before.
    fn adopt(&self, readiness: &OwnedFd) -> Result<()> {
        // Before the look that tells whether it is outdated, so that it is never too new.
        let number = self.page.load_low();
        self.hook(None, readiness)?;
        if self.read()?.is_none() {
            self.acknowledged.store(number.into(), Ordering::Relaxed);
        }
        // A driver that does not tell may track it. Whoever waits for one too many has a deadline;
        // nothing would tell of one too few.
        let tracked = self.state().is_none_or(|state| state.tracked);
        self.tracked.store(tracked, Ordering::Relaxed);
        Ok(())
    }

    /// One that is not hooked.
    fn new(file: OwnedFd) -> Result<Self, (OwnedFd, Error)> {
        match fcntl_getfl(&file) {
            Ok(flags)
                if flags & OFlags::ACCMODE == OFlags::RDWR && flags.contains(OFlags::NONBLOCK) => {}
            Ok(_) => {
                let error = Error::new(Kind::Unsupported(
                    "a watcher needs a descriptor that was opened with O_RDWR and O_NONBLOCK",
                ));
                return Err((file, error));
            }
            Err(errno) => return Err((file, Error::call("fcntl", errno))),
        }
        let device = detect(file)?;
        if device.dialect() == Dialect::V4 {
            return Err((device.into(), Error::new(Kind::Unsupported(V4_REFUSED))));
        }
        let page = match map_counter(&device) {
            Ok(page) => page,
            Err(error) => return Err((device.into(), error)),
        };
        Ok(Self {
            device,
            page,
            hooked: Mutex::new(false),
            acknowledged: AtomicU64::new(NONE),
            tracked: AtomicBool::new(true),
            debt: Debt::default(),
        })
    }

    /// Hooks a watcher that nobody has seen yet. It acknowledges what comes meanwhile, as if it was
    /// opened later, until it is hooked for certain and need never leave the wait queue again.
    fn start(&self, readiness: &OwnedFd) -> Result<()> {
        for _ in 0..ATTEMPTS {
            match self.acknowledge(self.page.load_low(), readiness) {
                Err(error) if error.is_stale() => {}
                outcome => outcome?,
            }
            if self.is_hooked() {
                return Ok(());
            }
        }
        // Changes come without end, or the driver does not take what it shows. It will be hooked
        // after an acknowledgement, as one that is made of a descriptor.
        self.hook(None, readiness).map(drop)
    }

    fn is_hooked(&self) -> bool {
        *self.hooked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A watcher of this process's own, in the place of one that a fork has copied. It owes what
    /// that one owed at the fork, and what has come since.
    pub(super) fn reopen(&self, path: Option<&Path>, readiness: &OwnedFd) -> Result<Self> {
        let own = format!("/proc/self/fd/{}", self.device.as_fd().as_raw_fd());
        let tracking = if self.tracked.load(Ordering::Relaxed) {
            Tracking::On
        } else {
            Tracking::OffIfPossible
        };
        let mut fresh = Self::open(path.unwrap_or(Path::new(&own)), tracking, readiness)?;
        let acknowledged = self.acknowledged.load(Ordering::Relaxed);
        let is_owed = acknowledged != u64::from(fresh.page.load_low()) || self.read()?.is_some();
        if is_owed {
            fresh.acknowledged.store(acknowledged, Ordering::Relaxed);
            fresh.debt = Debt::incur(readiness)?;
        }
        Ok(fresh)
    }

    pub(super) fn generation(&self) -> Generation {
        Generation::from(self.page.load_low())
    }

    pub(super) fn try_changed(&self) -> Result<Option<Generation>> {
        let changed = self.read()?;
        if changed.is_none() && self.debt.is_owed() {
            return Ok(Some(self.generation()));
        }
        Ok(changed)
    }

    /// What the driver says.
    fn read(&self) -> Result<Option<Generation>> {
        loop {
            // Not the page: some shipped drivers store it after the number they compare with.
            match device::read_generation(&self.device) {
                Ok(number) => return Ok(Some(Generation::from(number))),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::call("read", errno)),
            }
        }
    }

    /// Until there may be a change, or the deadline.
    pub(super) fn sleep(&self, deadline: Deadline) -> Result<()> {
        match device::wait_outdated(&self.device, deadline.timespec().as_ref()) {
            Ok(_) => Ok(()),
            Err(Errno::INTR) => interrupt::signalled(),
            Err(errno) => Err(Error::call("poll", errno)),
        }
    }

    pub(super) fn acknowledge(&self, number: u32, readiness: &OwnedFd) -> Result<()> {
        // Held over the write, so that no acknowledgement comes between the steps of `hook`. The
        // write never blocks.
        let mut hooked = self.hooked.lock().unwrap_or_else(PoisonError::into_inner);
        device::acknowledge(&self.device, number).map_err(|errno| match errno {
            Errno::INVAL => Error::new(Kind::Stale {
                acknowledged: Generation::from(number),
                current: self
                    .read()
                    .ok()
                    .flatten()
                    .unwrap_or_else(|| self.generation()),
            })
            .errno(errno),
            errno => Error::call("write", errno),
        })?;
        self.acknowledged.store(number.into(), Ordering::Relaxed);
        self.debt.settle(readiness)?;
        if !*hooked {
            *hooked = self.hook(Some(number), readiness)?;
        }
        Ok(())
    }

    /// Puts epoll on the driver's wait queue, where it stays. Returns whether that is certain, which
    /// it can be only if a number was acknowledged just before.
    ///
    /// The shipped drivers look at the generation before they take the caller to the wait queue,
    /// and epoll asks to be taken there only when a descriptor is added. One that is outdated at
    /// that moment is reported once and never again: who waits for the next change although one is
    /// not acknowledged, as a stream does, would not be woken. So it is added while it is up to date:
    /// when it is opened, or after acknowledgements until that is certain.
    fn hook(&self, acknowledged: Option<u32>, readiness: &OwnedFd) -> Result<bool> {
        match epoll::delete(readiness, &self.device) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(Error::call("epoll_ctl", errno)),
        }
        epoll::add(
            readiness,
            &self.device,
            epoll::EventData::new_u64(0),
            epoll::EventFlags::IN,
        )
        .map_err(|errno| Error::call("epoll_ctl", errno))?;
        // A number that is the current one still was so all the time: no change has come in between,
        // so it was up to date when it was added.
        match acknowledged.map(|number| device::acknowledge(&self.device, number)) {
            Some(Ok(())) => return Ok(true),
            None | Some(Err(Errno::INVAL)) => {}
            Some(Err(errno)) => return Err(Error::call("write", errno)),
        }
        // A change may have come just between their look and the wait queue, unreported.
        epoll::modify(
            readiness,
            &self.device,
            epoll::EventData::new_u64(0),
            epoll::EventFlags::IN,
        )
        .map_err(|errno| Error::call("epoll_ctl", errno))?;
        Ok(false)
    }

    pub(super) fn set_tracking(&self, tracked: bool) -> Result<()> {
        match (self.device.dialect(), tracked) {
            (Dialect::V5, true) => {}
            (Dialect::V5, false) => {
                return Err(Error::new(Kind::Unsupported(
                    "this driver (v5 dialect) tracks every open file and nothing can opt out; \
                     open a tracked watcher and acknowledge with it",
                )));
            }
            (_, tracked) => self
                .device
                .set_watcher_tracking(tracked)
                .map_err(|errno| Error::call("SYSGENID_SET_WATCHER_TRACKING", errno))?,
        }
        self.tracked.store(tracked, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn probe(&self, source: Option<&Source>) -> Result<Probe> {
        if let (Dialect::V6, Some(source)) = (self.device.dialect(), source) {
            return Probe::open_on(source.clone());
        }
        let identity =
            FileIdentity::of(&fstat(&self.device).map_err(|errno| Error::call("fstat", errno))?);
        let page = map_counter(&self.device)?;
        Ok(Probe::of(page, identity, source.cloned()))
    }

    pub(super) fn wait_watchers(&self, deadline: Deadline) -> Result<()> {
        loop {
            if self.debt.is_owed() {
                return Err(Error::new(Kind::Outdated));
            }
            let left = deadline.remaining().unwrap_or(WAIT_SLICE).min(WAIT_SLICE);
            // Rounded up, and never 0, which would be for ever.
            let slice = u32::try_from(left.as_micros().div_ceil(1_000))
                .unwrap_or(u32::MAX)
                .max(1);
            match self.device.wait_watchers(slice) {
                // The shipped v5 driver reports an outdated caller as a success.
                Ok(()) if self.is_outdated()? => return Err(Error::new(Kind::Outdated)),
                Ok(()) => return Ok(()),
                // A signal, or the caller is outdated: only a look tells which.
                Err(Errno::INTR) if self.is_outdated()? => {
                    return Err(Error::new(Kind::Outdated).errno(Errno::INTR));
                }
                Err(Errno::INTR) => interrupt::signalled()?,
                Err(Errno::TIME | Errno::TIMEDOUT) => {}
                Err(errno) => return Err(Error::call("SYSGENID_WAIT_WATCHERS", errno)),
            }
            if deadline.has_passed() {
                return Err(super::watchers_timed_out().errno(Errno::TIME));
            }
        }
    }

    /// How many tracked watchers there are, if the driver tells.
    pub(super) fn tracked_watchers(&self) -> Option<u32> {
        let status = Attributes::of(&fstat(&self.device).ok()?).status()?;
        status.watchers.map(|watchers| watchers.tracked)
    }

    pub(crate) fn trigger(&self, min: u32) -> Result<Generation> {
        self.device
            .trigger_gen_update(min)
            .map_err(|errno| match errno {
                Errno::ACCESS | Errno::PERM => Error::new(Kind::Denied(
                    "changing the generation needs CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN in the \
                     initial user namespace",
                ))
                .errno(errno),
                errno => Error::call("SYSGENID_TRIGGER_GEN_UPDATE", errno),
            })?;
        // Asked of the descriptor, which the change has outdated, before anything else.
        Ok(self.try_changed()?.unwrap_or_else(|| self.generation()))
    }

    /// Those that hold others up, as far as this process may look.
    pub(crate) fn stragglers(&self) -> Result<Vec<Straggler>> {
        let Ok(text) = self.fdinfo() else {
            return Err(Error::new(Kind::Unsupported(
                "naming stragglers needs /proc, which is not mounted here or closed to this process",
            )));
        };
        if WatcherState::parse(&text).is_none() {
            return Err(Error::new(Kind::Unsupported(
                "this kernel driver does not tell whose watchers are outdated (it adds nothing to \
                 fdinfo); `fuser -v` with the node's path lists the processes that have it open",
            )));
        }
        let node = fstat(&self.device).map_err(|errno| Error::call("fstat", errno))?;
        Ok(stragglers::find(Path::new("/proc"), node.st_rdev))
    }

    fn fdinfo(&self) -> std::io::Result<Vec<u8>> {
        fs::read(format!(
            "/proc/thread-self/fdinfo/{}",
            self.device.as_fd().as_raw_fd()
        ))
    }

    /// As the driver tells it, if it does.
    fn state(&self) -> Option<WatcherState> {
        WatcherState::parse(&self.fdinfo().ok()?)
    }

    fn is_outdated(&self) -> Result<bool> {
        Ok(self.try_changed()?.is_some())
    }
}

impl AsFd for DeviceWatcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}
