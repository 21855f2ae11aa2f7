// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How a thread sleeps until changes are to be looked at.

use std::mem::MaybeUninit;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use sysgenid_sys::Errno;

use super::core::Core;
use super::event::Event;
use crate::base::error::{Error, Result};
use crate::base::{Deadline, interrupt};
use crate::watch::watcher::new_readiness;

/// How long a thread sleeps that cannot wait for all events, because the process has no descriptors left.
pub(super) const BLIND: Duration = Duration::from_millis(20);

/// An epoll instance, so that events are edges: a change that is not acknowledged leaves its source
/// readable, and does not keep the thread awake.
#[derive(Default)]
pub(super) struct Poller {
    epoll: Option<OwnedFd>,
    registered: Vec<Event>,
    /// The process and the layout that this is registered for.
    layout: Option<(u32, u64)>,
    is_blind: bool,
}

impl Poller {
    /// Waits for the events of these changes from now on.
    pub(super) fn wait_for(&mut self, core: &Core) {
        let layout = (core.shared().process(), core.layout());
        if self.layout == Some(layout) && !self.is_blind {
            return;
        }
        if self.layout.is_some_and(|(process, _)| process != layout.0) {
            // The copies of a forked child are closed and no more: nothing is taken from the parent's.
            *self = Self::default();
        }
        if self.epoll.is_none() {
            self.epoll = new_readiness().ok();
        }
        let Some(epoll) = &self.epoll else {
            self.is_blind = true;
            return;
        };
        let events = core.events();
        self.registered.retain(|old| {
            let stays = events.iter().any(|event| event.is(old));
            if !stays {
                // Closing would do if nobody else held it; a forked child may.
                let _ = epoll::delete(epoll, old);
            }
            stays
        });
        self.is_blind = false;
        for event in events {
            if self.registered.iter().any(|old| old.is(&event)) {
                continue;
            }
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            match epoll::add(epoll, &event, epoll::EventData::new_u64(0), flags) {
                Ok(()) => self.registered.push(event),
                Err(_) => self.is_blind = true,
            }
        }
        self.layout = Some(layout);
    }

    /// Until there was an event, the deadline, or a signal.
    pub(super) fn sleep(&self, deadline: Deadline) -> Result<()> {
        let deadline = if self.is_blind {
            deadline.at_most(BLIND)
        } else {
            deadline
        };
        let timeout = deadline.timespec();
        let slept = match &self.epoll {
            Some(epoll) => poll(&mut [PollFd::new(epoll, PollFlags::IN)], timeout.as_ref()),
            None => poll(&mut [], timeout.as_ref()),
        };
        match slept {
            Ok(0) => Ok(()),
            Ok(_) => self.take_events(),
            Err(Errno::INTR) => interrupt::signalled(),
            Err(errno) => Err(Error::call("poll", errno)),
        }
    }

    pub(super) fn is_blind(&self) -> bool {
        self.is_blind
    }

    /// Readable when there was an event since the last were taken.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.epoll.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn take_events(&self) -> Result<()> {
        let Some(epoll) = &self.epoll else {
            return Ok(());
        };
        let mut events = [MaybeUninit::uninit(); 8];
        match epoll::wait(epoll, &mut events[..], Some(&Timespec::default())) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(Error::call("epoll_wait", errno)),
        }
    }
}
