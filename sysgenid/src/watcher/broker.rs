// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A watcher on the userspace driver.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::fd::OwnedFd;
use sysgenid_sys::Errno;
use sysgenid_sys::page::CounterPage;
use sysgenid_sys::wire::{self, Op, Reply, Status};

use super::{ANSWER_TIME, Tracking};
use crate::broker::{Connection, gone};
use crate::error::{Error, Kind, Result};
use crate::source::map_counter;
use crate::{Deadline, Generation};

pub(crate) struct BrokerWatcher {
    connection: Connection,
    /// The eventfd: readable while outdated. It is shared with the broker, and with a forked
    /// child, so that it is the state and not a copy of it.
    signal: OwnedFd,
    page: CounterPage,
    /// What a broker that starts anew is told. Nothing else depends on either of them, so they
    /// are relaxed.
    acknowledged: AtomicU32,
    tracked: AtomicBool,
}

impl BrokerWatcher {
    pub(super) fn open(folder: &Path, tracking: Tracking, readiness: &OwnedFd) -> Result<Self> {
        let watcher = Self::connect(folder, tracking == Tracking::On, None)?;
        watcher.register(readiness)?;
        Ok(watcher)
    }

    fn connect(folder: &Path, tracked: bool, resume: Option<u32>) -> Result<Self> {
        let connection = Connection::connect(&folder.join(wire::WATCH_SOCKET))?;
        let flags = if tracked { wire::OPEN_TRACKED } else { 0 }
            | if resume.is_some() {
                wire::OPEN_RESUME
            } else {
                0
            };
        let (reply, signal, page) =
            connection.open(flags, resume.unwrap_or(0), ANSWER_TIME.into())?;
        Ok(Self {
            connection,
            signal,
            page: map_counter(&page)?,
            acknowledged: AtomicU32::new(resume.unwrap_or(reply.generation)),
            tracked: AtomicBool::new(tracked),
        })
    }

    fn register(&self, readiness: &OwnedFd) -> Result<()> {
        let data = epoll::EventData::new_u64(0);
        epoll::add(readiness, &self.signal, data, epoll::EventFlags::IN)
            .and_then(|()| {
                // No events: a hang-up is always reported, and the answers are not for the loop.
                epoll::add(
                    readiness,
                    &self.connection,
                    data,
                    epoll::EventFlags::empty(),
                )
            })
            .map_err(|errno| Error::call("epoll_ctl", errno))
    }

    pub(super) fn reconnect(&mut self, folder: &Path, readiness: &OwnedFd) -> Result<()> {
        let acknowledged = self.acknowledged.load(Ordering::Relaxed);
        let fresh = Self::connect(
            folder,
            self.tracked.load(Ordering::Relaxed),
            Some(acknowledged),
        )?;
        fresh.register(readiness)?;
        let old = std::mem::replace(self, fresh);
        // Closing would do if nobody else held them; a forked child may.
        let _ = epoll::delete(readiness, &old.signal);
        let _ = epoll::delete(readiness, &old.connection);
        Ok(())
    }

    pub(super) fn generation(&self) -> Generation {
        Generation::new(self.page.load())
    }

    pub(super) fn try_changed(&self) -> Result<Option<Generation>> {
        self.poll(Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }))
    }

    pub(super) fn wait(&self, deadline: Deadline) -> Result<Generation> {
        loop {
            if let Some(generation) = self.poll(deadline.timespec().as_ref())? {
                return Ok(generation);
            }
            if deadline.has_passed() {
                return Err(Error::new(Kind::TimedOut(
                    "the generation did not change before the deadline",
                )));
            }
        }
    }

    /// Waits for a change or for the loss of the broker; `None` if neither came in time.
    fn poll(&self, timeout: Option<&Timespec>) -> Result<Option<Generation>> {
        let mut fds = [
            PollFd::new(&self.signal, PollFlags::IN),
            PollFd::new(&self.connection, PollFlags::empty()),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(None),
            Err(errno) => return Err(Error::call("poll", errno)),
        }
        let [signal, connection] = fds;
        // A change that was signalled is worth handling also if the broker ended after it.
        if signal.revents().contains(PollFlags::IN) {
            return Ok(Some(self.generation()));
        }
        if !connection.revents().is_empty() {
            return Err(gone());
        }
        Ok(None)
    }

    pub(super) fn acknowledge(&self, generation: Generation) -> Result<()> {
        self.check_current(generation)?;
        // Emptied before the second look: a change in between stores the page before it signals,
        // so either the signal comes after this read, or the look sees the page. See
        // `sysgenid_sys::wire`.
        match rustix::io::read(&self.signal, &mut [0_u8; 8]) {
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(errno) => return Err(Error::call("emptying the eventfd", errno)),
        }
        let told = self
            .check_current(generation)
            .and_then(|()| self.connection.tell(Op::Acknowledge, [generation.get(), 0]));
        match told {
            Ok(()) => self.acknowledged.store(generation.get(), Ordering::Relaxed),
            // Not acknowledged, so it stays outdated. A full eventfd is readable anyway.
            Err(_) => drop(rustix::io::write(&self.signal, &1_u64.to_ne_bytes())),
        }
        told
    }

    fn check_current(&self, generation: Generation) -> Result<()> {
        let current = self.generation();
        if current == generation {
            return Ok(());
        }
        Err(Error::new(Kind::Stale {
            acknowledged: generation,
            current,
        }))
    }

    pub(super) fn set_tracking(&self, tracked: bool) -> Result<()> {
        let arguments = [u32::from(tracked), 0];
        let reply = self
            .connection
            .call(Op::SetTracking, arguments, ANSWER_TIME.into())?;
        accepted(&reply)?;
        self.tracked.store(tracked, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn wait_watchers(&self, deadline: Deadline) -> Result<()> {
        match self.connection.call(Op::Wait, [0, 0], deadline) {
            Ok(reply) if reply.status == Status::Outdated => {
                Err(Error::new(Kind::Outdated).errno(Errno::INTR))
            }
            Ok(reply) => accepted(&reply),
            Err(error) if error.is_timeout() => {
                self.connection.tell(Op::CancelWait, [0, 0])?;
                Err(super::watchers_timed_out())
            }
            Err(error) => Err(error),
        }
    }
}

/// Turns a refusal into an error.
pub(crate) fn accepted(reply: &Reply) -> Result<()> {
    match reply.status {
        Status::Ok => Ok(()),
        Status::Denied => Err(Error::new(Kind::Denied(
            "the broker does not allow this here",
        ))),
        Status::Busy => Err(Error::new(Kind::Unsupported(
            "this connection waits for watchers already; use an orchestrator of its own",
        ))),
        Status::Outdated | Status::Invalid | Status::Full => Err(Error::new(Kind::Broken(
            "the broker refused a valid request; use a broker and a client of the same release",
        ))),
    }
}
