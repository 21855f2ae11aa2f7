// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The generation counter of a vmclock, which the hypervisor writes before the machine resumes.

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{Timespec, epoll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;
use sysgenid_sys::page::CounterPage;
use sysgenid_sys::vmclock::{
    self, ClockPage, FLAG_COUNTER_PRESENT, FLAG_NOTIFICATION_PRESENT, Fields,
};

const DEVICES: &str = "/dev";
const NAME: &str = "vmclock";

pub(super) struct Clock {
    file: OwnedFd,
    page: ClockPage,
    counter: CounterPage,
    /// Makes an event of each notification; `None` if the hypervisor notifies of nothing, so that the
    /// counter is to be looked at from time to time.
    ///
    /// The file itself stays readable until its driver is told that the sequence was seen, which is
    /// impossible while the hypervisor writes: a loop that waited for the file would spin.
    bell: Option<OwnedFd>,
}

impl Clock {
    /// The first clock of this machine that counts.
    pub(super) fn open() -> Result<Self, String> {
        let mut refused = Vec::new();
        for path in clocks() {
            match Self::open_at(&path) {
                Ok(clock) => return Ok(clock),
                Err(why) => refused.push(why),
            }
        }
        match refused.is_empty() {
            true => Err(format!("there is no {DEVICES}/{NAME}0")),
            false => Err(refused.join("; ")),
        }
    }

    pub(super) fn open_at(path: &Path) -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = open(path, flags, Mode::empty()).map_err(|error| failed(&error))?;
        let page = ClockPage::map(&file).map_err(|error| failed(&error))?;
        let fields = page.fields().map_err(|error| failed(&error))?;
        let counter = ClockPage::map(&file)
            .and_then(ClockPage::into_counter)
            .map_err(|error| failed(&error))?;
        let bell = bell(&file, fields).map_err(|error| failed(&error))?;
        let mut clock = Self {
            file,
            page,
            counter,
            bell,
        };
        // The first event is the registration's.
        clock.hear().map_err(|why| failed(&why))?;
        Ok(clock)
    }

    pub(super) fn load(&self) -> u64 {
        self.counter.load()
    }

    /// What is readable when there was a notification.
    pub(super) fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.bell.as_ref().map(AsFd::as_fd)
    }

    /// Takes the notifications that are there, so that nothing is readable until the next one. Look at
    /// the counter *after* this.
    ///
    /// # Errors
    ///
    /// The clock counts no more.
    pub(super) fn hear(&mut self) -> Result<(), String> {
        let Some(bell) = &self.bell else {
            return Ok(());
        };
        // First: what is notified of from here on is another event.
        let mut event = [MaybeUninit::uninit()];
        let now = Timespec::default();
        match epoll::wait(bell, &mut event[..], Some(&now)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(format!("waiting for the clock: {error}")),
        }
        // While the hypervisor writes, the driver would wait for it. It notifies when it has finished.
        let Some(fields) = self.page.try_fields() else {
            return Ok(());
        };
        if fields.flags & FLAG_COUNTER_PRESENT == 0 {
            return Err("the hypervisor keeps no generation counter any more".into());
        }
        if fields.flags & FLAG_NOTIFICATION_PRESENT == 0 {
            self.bell = None;
            return Ok(());
        }
        match vmclock::acknowledge(&self.file) {
            // It has begun again since.
            Ok(_) | Err(Errno::TIMEDOUT) => Ok(()),
            Err(error) => Err(format!("reading the clock: {error}")),
        }
    }
}

/// Devices only: whatever else has the name of one is not a clock.
fn clocks() -> Vec<PathBuf> {
    let mut clocks: Vec<(u32, PathBuf)> = fs::read_dir(DEVICES)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let number = name.to_str()?.strip_prefix(NAME)?.parse().ok()?;
            let is_device = fs::metadata(entry.path()).is_ok_and(|found| {
                use std::os::unix::fs::FileTypeExt;
                found.file_type().is_char_device()
            });
            is_device.then(|| (number, entry.path()))
        })
        .collect();
    clocks.sort();
    clocks.into_iter().map(|(_, path)| path).collect()
}

fn bell(file: &OwnedFd, fields: Fields) -> Result<Option<OwnedFd>, Errno> {
    let is_device = FileType::from_raw_mode(fstat(file)?.st_mode) == FileType::CharacterDevice;
    if !is_device || fields.flags & FLAG_NOTIFICATION_PRESENT == 0 {
        return Ok(None);
    }
    let bell = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let events = epoll::EventFlags::IN | epoll::EventFlags::ET;
    match epoll::add(&bell, file, epoll::EventData::new_u64(0), events) {
        Ok(()) => Ok(Some(bell)),
        // The driver is older than mainline's of 7.0 and has no `poll`.
        Err(Errno::PERM) => Ok(None),
        Err(error) => Err(error),
    }
}
