// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A watcher on the userspace driver.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rustix::event::{PollFd, PollFlags, epoll, poll};
use rustix::fd::OwnedFd;
use rustix::net::{RecvFlags, SendFlags, recv, send};
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
    /// Readable while outdated. It is shared with a forked child, so that it is the state and not a
    /// copy of it.
    signal: OwnedFd,
    page: CounterPage,
    /// What this process acknowledged last: a broker that starts anew is told, and a token of it
    /// means nothing. Nothing else depends on it, so it is relaxed.
    acknowledged: AtomicU32,
    /// What a broker that starts anew is told. Relaxed as well.
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
        epoll::add(
            readiness,
            &self.signal,
            epoll::EventData::new_u64(0),
            epoll::EventFlags::IN,
        )
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
        // Closing would do if nobody else held it; a forked child may.
        let _ = epoll::delete(readiness, &old.signal);
        Ok(())
    }

    pub(super) fn generation(&self) -> Generation {
        Generation::new(self.page.load())
    }

    pub(super) fn try_changed(&self) -> Result<Option<Generation>> {
        loop {
            let mut token = [0_u8; 4];
            // Left where it is: it is the state that a poll shows.
            match recv(
                &self.signal,
                &mut token,
                RecvFlags::PEEK | RecvFlags::DONTWAIT,
            ) {
                Ok((0, _)) | Err(Errno::CONNRESET) => return Err(gone()),
                Ok(_) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(Error::call("recv", errno)),
            }
            let changed_to = u32::from_le_bytes(token);
            if changed_to != self.acknowledged.load(Ordering::Relaxed) {
                return Ok(Some(self.generation()));
            }
            // A late token: the change was seen in the page, and acknowledged, before it came.
            match self.acknowledge(Generation::new(changed_to)) {
                Ok(()) => {}
                Err(error) if error.is_stale() => return Ok(Some(self.generation())),
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn wait(&self, deadline: Deadline) -> Result<Generation> {
        loop {
            if let Some(generation) = self.try_changed()? {
                return Ok(generation);
            }
            if deadline.has_passed() {
                return Err(Error::new(Kind::TimedOut(
                    "the generation did not change before the deadline",
                )));
            }
            let mut fds = [PollFd::new(&self.signal, PollFlags::IN)];
            match poll(&mut fds, deadline.timespec().as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::call("poll", errno)),
            }
        }
    }

    /// In the steps that `sysgenid_sys::wire` gives, with the reasons.
    pub(super) fn acknowledge(&self, generation: Generation) -> Result<()> {
        self.check_current(generation)?;
        let outdated = self.take_tokens()?;
        if let Err(stale) = self.check_current(generation) {
            self.connection
                .tell(Op::Acknowledge, [generation.get(), 0])?;
            return Err(stale);
        }
        if !outdated && self.acknowledged.load(Ordering::Relaxed) == generation.get() {
            // Said before. Once for each change always fits.
            return Ok(());
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match send(&self.signal, &generation.get().to_le_bytes(), flags) {
            Ok(_) => {}
            // Full of acknowledgements that nobody has asked for.
            Err(Errno::AGAIN | Errno::INTR) => {
                self.connection
                    .tell(Op::Acknowledge, [generation.get(), 0])?;
            }
            Err(Errno::PIPE | Errno::CONNRESET) => return Err(gone()),
            Err(errno) => return Err(Error::call("send", errno)),
        }
        self.acknowledged.store(generation.get(), Ordering::Relaxed);
        Ok(())
    }

    /// Returns whether there were any.
    fn take_tokens(&self) -> Result<bool> {
        let mut any = false;
        loop {
            let mut tokens = [0_u8; 256];
            match recv(&self.signal, &mut tokens, RecvFlags::DONTWAIT) {
                Ok((0, _)) | Err(Errno::CONNRESET) => return Err(gone()),
                Ok((length, _)) if length < tokens.len() => return Ok(true),
                Ok(_) => any = true,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(any),
                Err(errno) => return Err(Error::call("recv", errno)),
            }
        }
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
