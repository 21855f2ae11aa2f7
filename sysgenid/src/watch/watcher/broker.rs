// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A watcher on the userspace driver.

mod opening;
mod phase;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use std::time::Duration;

use rustix::event::epoll;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use sysgenid_sys::Errno;
use sysgenid_sys::page::CounterPage;
use sysgenid_sys::slot::{Left, Slot};
use sysgenid_sys::wire::{self, Answer, Awaited, Op, Reply, Request};

pub(crate) use self::opening::Opening;
pub(crate) use self::phase::Asked;
use self::phase::Parking;
use super::{Duties, Tracking};
use crate::base::error::{Error, Kind, Result};
use crate::base::{Deadline, Generation};
use crate::source::Source;
use crate::source::connection::{Connection, LOOK_TIME, accepted, gone};

pub(crate) struct BrokerWatcher {
    /// Readable while outdated. It is shared with a forked child, so that it is the state and not a
    /// copy of it.
    connection: Arc<Connection>,
    page: CounterPage,
    slot: Slot,
    /// The broker's number of it, with which a wait says whose it is.
    number: u64,
    /// The generation that was acknowledged last, or that was refused since. It and whether
    /// orchestrators wait for this watcher are what a broker that starts anew is told.
    acknowledged: AtomicU32,
    /// Nothing else depends on it, so it is relaxed.
    tracked: AtomicBool,
    /// A thread is making room for the next notice: see [`await_next`](Self::await_next).
    is_trimming: AtomicBool,
    /// Of one that parks.
    parking: Option<Parking>,
}

impl BrokerWatcher {
    pub(super) fn open(
        source: &Source,
        tracking: Tracking,
        readiness: &OwnedFd,
        deadline: Deadline,
    ) -> Result<Self> {
        let duties = Duties::tracked(tracking == Tracking::On);
        let watcher = Self::connect(source, duties, None, deadline)?;
        watcher.register(readiness)?;
        Ok(watcher)
    }

    /// A watcher of this process's own, in the place of one that a fork has copied: outdated if
    /// that one was so at the fork, or a change has come since.
    pub(super) fn reopen(
        &self,
        source: &Source,
        readiness: &OwnedFd,
        deadline: Deadline,
    ) -> Result<Self> {
        let (tracked, acknowledged) = self.standing();
        let duties = Duties::tracked(tracked);
        let fresh = Self::connect(source, duties, Some(acknowledged), deadline)?;
        fresh.register(readiness)?;
        Ok(fresh)
    }

    pub(super) fn connect(
        source: &Source,
        duties: Duties,
        resume: Option<u32>,
        deadline: Deadline,
    ) -> Result<Self> {
        let (watcher, _) = Opening::begin(source, duties, resume, deadline)?.answer(deadline)?;
        Ok(watcher)
    }

    fn register(&self, readiness: &OwnedFd) -> Result<()> {
        epoll::add(
            readiness,
            self.connection.socket(),
            epoll::EventData::new_u64(0),
            epoll::EventFlags::IN,
        )
        .map_err(|errno| Error::call("epoll_ctl", errno))
    }

    /// What becomes readable at a change, or when the broker is lost.
    pub(super) fn events(&self) -> BorrowedFd<'_> {
        self.connection.socket().as_fd()
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Why the generation changed to this number, if that is what the next notice is about.
    pub(super) fn cause(&self, number: u32) -> Option<wire::Cause> {
        let notice = self.connection.peek_notice()?;
        (notice.generation == number).then_some(notice.cause)
    }

    /// Goes on with another connection. `register` is given it while the old one is still open.
    pub(super) fn replace(
        &mut self,
        fresh: Self,
        readiness: &OwnedFd,
        register: impl FnOnce(BorrowedFd<'_>) -> Result<()>,
    ) -> Result<()> {
        fresh.register(readiness)?;
        register(fresh.events())?;
        let old = std::mem::replace(self, fresh);
        // Closing would do if nobody else held it; a forked child may.
        let _ = epoll::delete(readiness, old.connection.socket());
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
        self.try_changed_in_steps(|_| {}, || self.connection.await_notice(None).map(drop))
    }

    /// The same for who knows that the connection is open: an event of a moment ago said so.
    pub(super) fn try_changed_at_event(&self) -> Result<Option<Generation>> {
        self.try_changed_in_steps(|_| {}, || Ok(()))
    }

    fn try_changed_in_steps(
        &self,
        mut meanwhile: impl FnMut(Moment),
        check: impl Fn() -> Result<()>,
    ) -> Result<Option<Generation>> {
        loop {
            let current = self.page.load_low();
            // Its partner is the release store of the page, which the broker does after it has
            // emptied the slot.
            fence(Ordering::Acquire);
            if !self.has_acknowledged(current) {
                // What was found there may be about a newer one, that another thread has
                // acknowledged. Its partners are that thread's stores.
                fence(Ordering::Acquire);
                if self.page.load_low() == current {
                    // The notice is there, or on its way; unless it is the change of another broker,
                    // which this watcher has not connected to.
                    check()?;
                    return Ok(Some(current.into()));
                }
                continue;
            }
            if !self.connection.await_notice(None)? {
                return Ok(None);
            }
            // The notice comes late: the change was seen in the page, and acknowledged, before.
            match self.acknowledge_in_steps(current, &mut meanwhile) {
                Ok(()) => {}
                // The next one's may have gone with it, and the broker is told to send it again. The
                // page shows that change now.
                Err(error) if error.is_stale() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether this generation was acknowledged since it came.
    fn has_acknowledged(&self, current: u32) -> bool {
        let left = self.slot.acknowledged();
        // Else the slot tells nothing of this generation: the broker has emptied it already for the
        // next one, or a slower thread has overwritten it with an older one.
        let is_silent = left != Left::emptied_for(current);
        left == Left::of(current)
            || is_silent && self.acknowledged.load(Ordering::Relaxed) == current
    }

    /// Has the broker make the watcher readable anew at the next change after `seen`, although one is
    /// not acknowledged: for those who wait for an event, and not for a state.
    pub(super) fn await_next(&self, seen: u32) -> Result<()> {
        self.connection.check()?;
        // One notice stays, so that the watcher stays readable. The others would fill the queue.
        // Two threads that both saw one to spare must not both take it.
        if !self.is_trimming.swap(true, Ordering::Acquire) {
            let mut trimmed = Ok(());
            // One that parks may have many.
            while trimmed.is_ok() && self.connection.has_notices_to_spare() {
                trimmed = self.read_notice();
            }
            self.is_trimming.store(false, Ordering::Release);
            trimmed?;
        }
        self.connection.tell(Op::Notify, seen)
    }

    /// Until there may be a change, or the deadline.
    pub(super) fn sleep(&self, deadline: Deadline) -> Result<()> {
        self.connection.await_notice(Some(deadline)).map(drop)
    }

    /// Only in the process that opened it, which the caller has checked: the slot is shared with a forked
    /// child, and the broker cannot tell who left an acknowledgement there.
    pub(super) fn acknowledge(&self, number: u32) -> Result<()> {
        self.acknowledge_in_steps(number, |_| {})
    }

    /// In the steps that `sysgenid_sys::wire` gives, with the reasons. `meanwhile` is called
    /// where others may come in between; only a test has something to do there.
    fn acknowledge_in_steps(&self, number: u32, mut meanwhile: impl FnMut(Moment)) -> Result<()> {
        self.check_current(number)?;
        meanwhile(Moment::BeforeReading);
        self.read_notice()?;
        meanwhile(Moment::BeforeLeaving);
        // Before the second look: whoever acknowledges a newer one stores it after this. Released
        // with what this thread saw in the page, for `try_changed`.
        self.acknowledged.store(number, Ordering::Release);
        let awaited = self.slot.acknowledge(number);
        let current = self.check_current(number);
        if awaited || current.is_err() {
            self.connection.tell(Op::Acknowledge, number)?;
        }
        current
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

    /// Never waits: the broker does this before it answers what it is asked afterwards.
    pub(super) fn set_tracking(&self, tracked: bool) -> Result<()> {
        self.connection.tell(Op::SetTracking, u32::from(tracked))?;
        self.tracked.store(tracked, Ordering::Relaxed);
        Ok(())
    }

    /// Waits until no tracked watcher is outdated, and returns how many there are.
    pub(super) fn wait_watchers(&self, source: &Source, deadline: Deadline) -> Result<Option<u32>> {
        let reply = self.wait_for(Awaited::Generation, source, deadline)?;
        self.end_wait(&reply).map(Some)
    }

    /// Waits for the end of a wait, and returns what the broker said then.
    pub(super) fn wait_for(
        &self,
        awaited: Awaited,
        source: &Source,
        deadline: Deadline,
    ) -> Result<Reply> {
        // A short deadline, or one that had passed, leaves no time for an answer at all.
        let answer_by = deadline.at_least(LOOK_TIME);
        let waiting = self.begin_wait(awaited, source, answer_by)?;
        let reply = waiting.reply(answer_by)?;
        if reply.answer != Answer::Pending {
            return Ok(reply);
        }
        match waiting.reply(deadline) {
            Err(error) if error.is_timeout() => Err(match self.try_changed()? {
                Some(_) => Error::new(Kind::Outdated),
                None => match awaited {
                    Awaited::Generation => super::watchers_timed_out(),
                    Awaited::Phase => super::parking_timed_out(),
                },
            }),
            reply => reply,
        }
    }

    /// Begins to wait. One connection for each wait: closing it ends the wait.
    fn begin_wait(
        &self,
        awaited: Awaited,
        source: &Source,
        deadline: Deadline,
    ) -> Result<Connection> {
        self.connection.check()?;
        let waiting = Connection::connect(source, wire::WATCH_SOCKET, deadline)?;
        let mut request = Request::new(Op::Wait, 0);
        request.arguments = [awaited as u32, 0];
        request.watcher = self.number;
        waiting.send(&request)?;
        Ok(waiting)
    }

    /// How many tracked watchers there are, according to the last answer to a wait.
    pub(super) fn end_wait(&self, reply: &Reply) -> Result<u32> {
        match reply.answer {
            Answer::Outdated => {
                self.connection.check()?;
                Err(Error::new(Kind::Outdated).errno(Errno::INTR))
            }
            // It does not know this watcher: it is another broker.
            Answer::Invalid => Err(gone()),
            _ => accepted(reply).map(|()| reply.tracked),
        }
    }

    /// Begins to wait, for an event loop. Never waits itself.
    pub(super) fn begin_wait_in_a_loop(&self, source: &Source) -> Result<Connection> {
        let at_once = Deadline::after(Duration::ZERO);
        self.begin_wait(Awaited::Generation, source, at_once)
    }

    /// How many tracked watchers there are, if that wait is over. Never waits.
    pub(super) fn try_end_wait(&self, waiting: &Connection) -> Result<Option<u32>> {
        loop {
            match waiting.reply(Deadline::after(Duration::ZERO)) {
                Err(error) if error.is_timeout() => return Ok(None),
                Ok(reply) if reply.answer == Answer::Pending => {}
                reply => return self.end_wait(&reply?).map(Some),
            }
        }
    }
}

/// A moment between the steps of an acknowledgement.
#[derive(PartialEq, Eq)]
enum Moment {
    BeforeReading,
    BeforeLeaving,
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::super::{Driver, Watcher};
    use super::*;
    use crate::orchestrate::Orchestrator;

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

    fn broker_of(watcher: &Watcher) -> &BrokerWatcher {
        match &watcher.driver {
            Driver::Broker(broker) => broker,
            Driver::Device(_) => panic!("a broker's watcher"),
        }
    }

    fn number(generation: Generation) -> u32 {
        u32::try_from(generation).unwrap()
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    /// The window is less than a microsecond wide, so no race is sure to hit it.
    #[test]
    fn a_change_between_the_looks_is_stale_and_notified_again() {
        let Scene {
            watcher,
            orchestrator,
            ..
        } = &mut Scene::new();
        let first = orchestrator.trigger().unwrap();
        let mut second = None;
        let meanwhile = |moment| {
            if moment == Moment::BeforeReading {
                second = orchestrator.trigger().ok();
            }
        };
        let error = broker_of(watcher)
            .acknowledge_in_steps(number(first), meanwhile)
            .unwrap_err();
        assert!(error.is_stale(), "{error}");
        assert_eq!(error.current(), second);
        // The notice of the second change was read in place of that of the first.
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
        let error = broker_of(watcher)
            .acknowledge_in_steps(number(first), meanwhile)
            .unwrap_err();
        assert!(error.is_stale(), "{error}");
        watcher
            .acknowledge(watcher.wait(PATIENCE).unwrap())
            .unwrap();
        let settled = orchestrator.settle(PATIENCE, |_| Ok::<_, std::io::Error>(()));
        assert_eq!(settled.ok().map(|it| it.generation), error.current());
    }

    /// As a client that looks at the page more often than it waits.
    #[test]
    fn a_notice_that_comes_after_the_acknowledgement_is_no_change() {
        let Scene {
            watcher,
            orchestrator,
            ..
        } = &mut Scene::new();
        let broker = broker_of(watcher);
        let generation = orchestrator.trigger().unwrap();
        watcher.acknowledge(generation).unwrap();
        // A stale request has the broker notify, as it does when it is late.
        let stale = number(generation).wrapping_add(1);
        broker.connection.tell(Op::Acknowledge, stale).unwrap();
        let notified = broker.connection.await_notice(Some(PATIENCE.into()));
        assert!(notified.unwrap());
        assert_eq!(watcher.try_changed().unwrap(), None);
        assert!(!broker.connection.await_notice(None).unwrap());
    }

    /// Else the next look would find nothing, and the one after that the same change again.
    #[test]
    fn a_change_whose_notice_goes_with_a_late_one_is_told_when_it_is_notified_again() {
        let Scene {
            watcher,
            orchestrator,
            ..
        } = &mut Scene::new();
        let broker = broker_of(watcher);
        let first = orchestrator.trigger().unwrap();
        watcher.acknowledge(first).unwrap();
        let stale = number(first).wrapping_add(1);
        broker.connection.tell(Op::Acknowledge, stale).unwrap();
        broker.sleep(PATIENCE.into()).unwrap();
        let mut second = None;
        let meanwhile = |moment| {
            if moment == Moment::BeforeReading && second.is_none() {
                second = orchestrator.trigger().ok();
                // The broker has stored the page, and notifies after that.
                thread::sleep(Duration::from_millis(50));
            }
        };
        let told = broker.try_changed_in_steps(meanwhile, || Ok(())).unwrap();
        // The broker may have notified again already.
        assert!(told.is_none() || broker.connection.await_notice(None).unwrap());
        assert_eq!(watcher.wait(PATIENCE).ok(), second);
    }

    /// The broker empties the slots, then stores the page. In between comes the notice of the change before.
    #[test]
    fn a_slot_that_is_emptied_for_the_next_change_is_no_change() {
        let Scene {
            watcher,
            orchestrator,
            ..
        } = &mut Scene::new();
        let broker = broker_of(watcher);
        let generation = orchestrator.trigger().unwrap();
        watcher.acknowledge(generation).unwrap();
        let next = number(generation).wrapping_add(1);
        broker.slot.reset(next);
        let stale = next;
        broker.connection.tell(Op::Acknowledge, stale).unwrap();
        broker.sleep(PATIENCE.into()).unwrap();
        assert_eq!(watcher.try_changed().unwrap(), None);
        let generation = orchestrator.trigger().unwrap();
        assert_eq!(watcher.wait(PATIENCE).ok(), Some(generation));
    }
}
