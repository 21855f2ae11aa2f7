// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A watcher on the userspace driver.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::fd::OwnedFd;
use rustix::io::read;
use sysgenid_sys::Errno;
use sysgenid_sys::page::CounterPage;
use sysgenid_sys::slot::{self, Slot};
use sysgenid_sys::wire::{self, Op, Reply, Status};

use super::{ANSWER_TIME, Tracking};
use crate::broker::{BUSY, Connection, gone};
use crate::error::{Error, Kind, Result};
use crate::source::map_counter;
use crate::{Deadline, Generation, interrupt};

const NOW: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// For a broker to say how things are when a deadline has passed already.
const STATUS_TIME: Duration = Duration::from_millis(100);

pub(crate) struct BrokerWatcher {
    connection: Arc<Connection>,
    /// Readable while outdated. It is shared with a forked child, so that it is the state and not a
    /// copy of it.
    signal: OwnedFd,
    page: CounterPage,
    slot: Slot,
    /// The generation that was acknowledged last, or that was refused since. It and whether
    /// orchestrators wait for this watcher are what a broker that starts anew is told.
    acknowledged: AtomicU32,
    /// Nothing else depends on it, so it is relaxed.
    tracked: Arc<AtomicBool>,
}

/// A change of the tracking that the broker has yet to be told of.
pub(super) struct BrokerTracking {
    connection: Arc<Connection>,
    tracked: Arc<AtomicBool>,
    wanted: bool,
}

impl BrokerWatcher {
    pub(super) fn open(folder: &Path, tracking: Tracking, readiness: &OwnedFd) -> Result<Self> {
        let watcher = Self::connect(folder, tracking == Tracking::On, None)?;
        watcher.register(readiness)?;
        Ok(watcher)
    }

    /// A watcher of this process's own, in the place of one that a fork has copied: outdated if
    /// that one was so at the fork, or a change has come since.
    pub(super) fn reopen(&self, folder: &Path, readiness: &OwnedFd) -> Result<Self> {
        let (tracked, acknowledged) = self.standing();
        let fresh = Self::connect(folder, tracked, Some(acknowledged))?;
        fresh.register(readiness)?;
        Ok(fresh)
    }

    pub(super) fn connect(folder: &Path, tracked: bool, resume: Option<u32>) -> Result<Self> {
        let connection = Connection::connect(&folder.join(wire::WATCH_SOCKET))?;
        let flags = if tracked { wire::OPEN_TRACKED } else { 0 }
            | if resume.is_some() {
                wire::OPEN_RESUME
            } else {
                0
            };
        let (reply, [signal, page, slot]) =
            connection.open(flags, resume.unwrap_or(0), ANSWER_TIME.into())?;
        Ok(Self {
            connection: Arc::new(connection),
            signal,
            page: map_counter(&page)?,
            slot: Slot::map(&slot).map_err(|error| Error::io("mapping the slot", &error))?,
            acknowledged: AtomicU32::new(resume.unwrap_or(reply.generation)),
            tracked: Arc::new(AtomicBool::new(tracked)),
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

    /// Goes on with another connection.
    pub(super) fn replace(&mut self, fresh: Self, readiness: &OwnedFd) -> Result<()> {
        fresh.register(readiness)?;
        let old = std::mem::replace(self, fresh);
        // Closing would do if nobody else held it; a forked child may.
        let _ = epoll::delete(readiness, &old.signal);
        Ok(())
    }

    /// Whether orchestrators wait for it, and what it has acknowledged.
    pub(super) fn standing(&self) -> (bool, u32) {
        let tracked = self.tracked.load(Ordering::Relaxed);
        (tracked, self.acknowledged.load(Ordering::Relaxed))
    }

    pub(super) fn generation(&self) -> Generation {
        Generation::from(self.page.load_low())
    }

    pub(super) fn try_changed(&self) -> Result<Option<Generation>> {
        self.try_changed_in_steps(|_| {})
    }

    fn try_changed_in_steps(
        &self,
        mut meanwhile: impl FnMut(Moment),
    ) -> Result<Option<Generation>> {
        while self.is_signalled(Some(&NOW))? {
            let current = self.page.load_low();
            // Its partner is the release store of the page, which the broker does after it has
            // emptied the slot.
            fence(Ordering::Acquire);
            if !self.has_acknowledged(current) {
                // What was found there may be about a newer one, that another thread has
                // acknowledged. Its partners are that thread's stores.
                fence(Ordering::Acquire);
                if self.page.load_low() == current {
                    return Ok(Some(current.into()));
                }
                continue;
            }
            // The signal comes late: the change was seen in the page, and acknowledged, before.
            match self.acknowledge_in_steps(current, &mut meanwhile) {
                Ok(()) => {}
                // The next one's may have gone with it, and the broker is told to signal again. Who
                // returned that change now would see nothing at the next look, then it again.
                Err(error) if error.is_stale() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Whether this generation was acknowledged since it came.
    fn has_acknowledged(&self, current: u32) -> bool {
        let left = self.slot.acknowledged();
        // Else the slot tells nothing of this generation: the broker has emptied it already for the
        // next one, or a slower thread has overwritten it with an older one.
        let is_silent = left != slot::emptied_for(current);
        left == current || is_silent && self.acknowledged.load(Ordering::Relaxed) == current
    }

    /// Whether the broker is there, also while a change that it has signalled waits to be handled.
    pub(super) fn check_broker(&self) -> Result<()> {
        let mut fds = [PollFd::new(&self.signal, PollFlags::IN)];
        match poll(&mut fds, Some(&NOW)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::call("poll", errno)),
        }
        let [signal] = fds;
        if signal.revents().contains(PollFlags::HUP) {
            return Err(gone());
        }
        Ok(())
    }

    /// Until there may be a change, or the deadline.
    pub(super) fn sleep(&self, deadline: Deadline) -> Result<()> {
        self.is_signalled(deadline.timespec().as_ref()).map(drop)
    }

    /// Waits for the broker to signal. `false` if the time is over, or a Unix signal interrupted.
    fn is_signalled(&self, timeout: Option<&Timespec>) -> Result<bool> {
        let mut fds = [PollFd::new(&self.signal, PollFlags::IN)];
        match poll(&mut fds, timeout) {
            Ok(0) => return Ok(false),
            Err(Errno::INTR) => {
                interrupt::signalled()?;
                return Ok(false);
            }
            Ok(_) => {}
            Err(errno) => return Err(Error::call("poll", errno)),
        }
        let [signal] = fds;
        // A change that was signalled is worth handling also if the broker ended after it.
        if signal.revents().contains(PollFlags::IN) {
            Ok(true)
        } else {
            Err(gone())
        }
    }

    pub(super) fn acknowledge(&self, number: u32) -> Result<()> {
        self.acknowledge_in_steps(number, |_| {})
    }

    /// In the steps that `sysgenid_sys::wire` gives, with the reasons. `meanwhile` is called
    /// where others may come in between; only a test has something to do there.
    fn acknowledge_in_steps(&self, number: u32, mut meanwhile: impl FnMut(Moment)) -> Result<()> {
        self.check_current(number)?;
        meanwhile(Moment::BeforeEmptying);
        self.empty_signal()?;
        meanwhile(Moment::BeforeLeaving);
        // Before the second look: whoever acknowledges a newer one stores it after this. Released
        // with what this thread saw in the page, for `try_changed`.
        self.acknowledged.store(number, Ordering::Release);
        let awaited = self.slot.acknowledge(number);
        let current = self.check_current(number);
        if awaited || current.is_err() {
            self.connection.tell(Op::Acknowledge, [number, 0])?;
        }
        current
    }

    fn empty_signal(&self) -> Result<()> {
        loop {
            let mut signals = [0_u8; 64];
            match read(&self.signal, &mut signals) {
                Ok(0) => return Err(gone()),
                Ok(length) if length < signals.len() => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(Error::call("read", errno)),
            }
        }
    }

    fn check_current(&self, number: u32) -> Result<()> {
        let current = self.generation();
        let acknowledged = Generation::from(number);
        if current == acknowledged {
            return Ok(());
        }
        Err(Error::new(Kind::Stale {
            acknowledged,
            current,
        }))
    }

    pub(super) fn tracking(&self, wanted: bool) -> BrokerTracking {
        BrokerTracking {
            connection: Arc::clone(&self.connection),
            tracked: Arc::clone(&self.tracked),
            wanted,
        }
    }

    pub(super) fn wait_watchers(&self, deadline: Deadline) -> Result<()> {
        match self.connection.call(Op::Wait, [0, 0], deadline) {
            Ok(reply) if reply.status == Status::Outdated => {
                Err(Error::new(Kind::Outdated).errno(Errno::INTR))
            }
            Ok(reply) => accepted(&reply),
            Err(error) if error.is_interrupted() => {
                self.connection.tell(Op::CancelWait, [0, 0])?;
                Err(error)
            }
            Err(error) if error.is_timeout() => {
                self.connection.tell(Op::CancelWait, [0, 0])?;
                // A short deadline, or one that had passed, leaves no time for an answer at all.
                let all_have_acknowledged = self.all_have_acknowledged()?;
                match self.try_changed()? {
                    Some(_) => Err(Error::new(Kind::Outdated)),
                    None if all_have_acknowledged => Ok(()),
                    None => Err(super::watchers_timed_out()),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Whether no tracked watcher is outdated at this moment, as far as the broker says so soon.
    fn all_have_acknowledged(&self) -> Result<bool> {
        match self.connection.call(Op::Status, [0, 0], STATUS_TIME.into()) {
            Ok(reply) => Ok(reply.outdated == 0),
            Err(error) if error.is_timeout() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl BrokerTracking {
    pub(super) fn set(self) -> Result<()> {
        let arguments = [u32::from(self.wanted), 0];
        let reply = self
            .connection
            .call(Op::SetTracking, arguments, ANSWER_TIME.into())?;
        accepted(&reply)?;
        self.tracked.store(self.wanted, Ordering::Relaxed);
        Ok(())
    }
}

/// A moment between the steps of an acknowledgement.
#[derive(PartialEq, Eq)]
enum Moment {
    BeforeEmptying,
    BeforeLeaving,
}

/// Turns a refusal into an error.
pub(crate) fn accepted(reply: &Reply) -> Result<()> {
    match reply.status {
        Status::Ok => Ok(()),
        Status::Denied => Err(Error::new(Kind::Denied(
            "the broker does not allow this here",
        ))),
        Status::Busy => Err(Error::new(Kind::Unsupported(BUSY))),
        Status::Outdated | Status::Invalid | Status::Full => Err(Error::new(Kind::Broken(
            "the broker refused a valid request; use a broker and a client of the same release",
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::super::Backend;
    use super::*;
    use crate::{Orchestrator, Watcher};

    struct Scene {
        watcher: Watcher,
        orchestrator: Orchestrator,
        _broker: sysgenid_broker::Background,
        _folder: tempfile::TempDir,
    }

    impl Scene {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let broker = sysgenid_broker::spawn(folder.path()).unwrap();
            Self {
                watcher: Watcher::open_at(folder.path()).unwrap(),
                orchestrator: Orchestrator::open_at(folder.path()).unwrap(),
                _broker: broker,
                _folder: folder,
            }
        }
    }

    fn backend(watcher: &Watcher) -> &BrokerWatcher {
        match &watcher.backend {
            Backend::Broker(backend) => backend,
            Backend::Device(_) => panic!("a broker's watcher"),
        }
    }

    fn number(generation: Generation) -> u32 {
        u32::try_from(generation).unwrap()
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    /// The window is less than a microsecond wide, so no race is sure to hit it.
    #[test]
    fn a_change_between_the_looks_is_stale_and_signalled_again() {
        let Scene {
            watcher,
            orchestrator,
            ..
        } = &mut Scene::new();
        let first = orchestrator.trigger().unwrap();
        let mut second = None;
        let meanwhile = |moment| {
            if moment == Moment::BeforeEmptying {
                second = orchestrator.trigger().ok();
            }
        };
        let error = backend(watcher)
            .acknowledge_in_steps(number(first), meanwhile)
            .unwrap_err();
        assert!(error.is_stale(), "{error}");
        assert_eq!(error.current(), second);
        // The signal of the second change was emptied with that of the first.
        assert_eq!(watcher.wait(PATIENCE).ok(), second);
    }

    /// Two threads share a watcher, and the slower one overwrites what the faster one left.
    #[test]
    fn an_acknowledgement_that_is_overwritten_by_an_older_one_is_asked_for_again() {
        let Scene {
            watcher,
            orchestrator,
            ..
        } = &mut Scene::new();
        let first = orchestrator.trigger().unwrap();
        let meanwhile = |moment| {
            if moment == Moment::BeforeLeaving {
                let second = orchestrator.trigger().unwrap();
                watcher.acknowledge(second).unwrap();
            }
        };
        let error = backend(watcher)
            .acknowledge_in_steps(number(first), meanwhile)
            .unwrap_err();
        assert!(error.is_stale(), "{error}");
        watcher
            .acknowledge(watcher.wait(PATIENCE).unwrap())
            .unwrap();
        let settled = orchestrator.settle(PATIENCE, |_| Ok::<_, std::io::Error>(()));
        assert_eq!(settled.ok(), error.current());
    }

    /// As a client that looks at the page more often than it waits.
    #[test]
    fn a_signal_that_comes_after_the_acknowledgement_is_no_change() {
        let Scene {
            watcher,
            orchestrator,
            ..
        } = &mut Scene::new();
        let backend = backend(watcher);
        let generation = orchestrator.trigger().unwrap();
        watcher.acknowledge(generation).unwrap();
        // A stale request has the broker signal, as it does when it is late.
        let stale = [number(generation).wrapping_add(1), 0];
        backend.connection.tell(Op::Acknowledge, stale).unwrap();
        assert!(
            backend
                .is_signalled(Some(&Timespec {
                    tv_sec: 20,
                    tv_nsec: 0
                }))
                .unwrap()
        );
        assert_eq!(watcher.try_changed().unwrap(), None);
        assert!(!backend.is_signalled(Some(&NOW)).unwrap());
    }

    /// Else the next look would find nothing, and the one after that the same change again.
    #[test]
    fn a_change_whose_signal_goes_with_a_late_one_is_told_when_it_is_signalled_again() {
        let Scene {
            watcher,
            orchestrator,
            ..
        } = &mut Scene::new();
        let backend = backend(watcher);
        let first = orchestrator.trigger().unwrap();
        watcher.acknowledge(first).unwrap();
        let stale = [number(first).wrapping_add(1), 0];
        backend.connection.tell(Op::Acknowledge, stale).unwrap();
        backend.sleep(PATIENCE.into()).unwrap();
        let mut second = None;
        let meanwhile = |moment| {
            if moment == Moment::BeforeEmptying && second.is_none() {
                second = orchestrator.trigger().ok();
                // The broker has stored the page, and signals after that.
                thread::sleep(Duration::from_millis(50));
            }
        };
        let told = backend.try_changed_in_steps(meanwhile).unwrap();
        // The broker may have signalled again already.
        assert!(told.is_none() || backend.is_signalled(Some(&NOW)).unwrap());
        assert_eq!(watcher.wait(PATIENCE).ok(), second);
    }

    /// The broker empties the slots, then stores the page. In between comes the signal of before.
    #[test]
    fn a_slot_that_is_emptied_for_the_next_change_is_no_change() {
        let Scene {
            watcher,
            orchestrator,
            ..
        } = &mut Scene::new();
        let backend = backend(watcher);
        let generation = orchestrator.trigger().unwrap();
        watcher.acknowledge(generation).unwrap();
        let next = number(generation).wrapping_add(1);
        backend.slot.reset(next);
        let stale = [next, 0];
        backend.connection.tell(Op::Acknowledge, stale).unwrap();
        backend.sleep(PATIENCE.into()).unwrap();
        assert_eq!(watcher.try_changed().unwrap(), None);
        let generation = orchestrator.trigger().unwrap();
        assert_eq!(watcher.wait(PATIENCE).ok(), Some(generation));
    }
}
