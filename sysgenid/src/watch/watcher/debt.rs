// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fd::OwnedFd;

use crate::base::error::{Error, Result};

/// A change that a watcher has to handle although the driver takes it to be up to date.
///
/// A forked child that opens a watcher of its own gets one that is up to date. If its parent's was
/// outdated when it forked, what the child has in memory is so, too.
#[derive(Default)]
pub(super) struct Debt {
    /// Relaxed: it orders nothing, and whoever settles it has told the driver before.
    is_owed: AtomicBool,
    /// Readable always, so that waiting ends at once while something is owed.
    bell: Option<OwnedFd>,
}

impl Debt {
    /// One that the watcher with this descriptor has from now on.
    pub(super) fn incur(readiness: &OwnedFd) -> Result<Self> {
        let bell = eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| Error::call("eventfd", errno))?;
        epoll::add(
            readiness,
            &bell,
            epoll::EventData::new_u64(0),
            epoll::EventFlags::IN,
        )
        .map_err(|errno| Error::call("epoll_ctl", errno))?;
        Ok(Self {
            is_owed: AtomicBool::new(true),
            bell: Some(bell),
        })
    }

    #[inline]
    pub(super) fn is_owed(&self) -> bool {
        self.is_owed.load(Ordering::Relaxed)
    }

    /// It has been handled. One thread at a time comes here.
    pub(super) fn settle(&self, readiness: &OwnedFd) -> Result<()> {
        match &self.bell {
            Some(bell) if self.is_owed() => {
                epoll::delete(readiness, bell).map_err(|errno| Error::call("epoll_ctl", errno))?;
                self.is_owed.store(false, Ordering::Relaxed);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
