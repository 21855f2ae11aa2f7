// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which sources are watched, and what is reported them when. Nothing here sleeps: threads and runtimes
//! wait for the events and until the time that it names.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::change::{Change, Part};
use super::event::Event;
use super::member::{Member, rank};
use super::options::ChangesOptions;
use super::shared::{Fate, Shared, Ticket};
use crate::base::Generation;
use crate::base::error::Result;
use crate::source::Source;
use crate::watch::watcher::Duties;

/// After how long a change that was dropped is reported again: at first, and at most.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How many times rarer a source that is preferred is looked for while a driver is watched.
const RARELY: u32 = 10;

/// How long to wait without a bell, which a process has not that has no descriptors left.
const WITHOUT_A_BELL: Duration = Duration::from_millis(20);

pub(super) struct Core {
    options: ChangesOptions,
    shared: Arc<Shared>,
    /// What was named, or the driver.
    driver: Slot,
    /// The hypervisor's counter beside it.
    beside: Slot,
    next_search: Instant,
    looked: Instant,
    /// Another number each time that there are other events to wait for.
    layout: u64,
    telling: Option<Telling>,
}

/// The change that was reported last, until it is acknowledged.
struct Telling {
    ticket: Arc<Ticket>,
    /// How long it is not reported again after it was dropped.
    pause: Duration,
    again: Option<Instant>,
}

impl Core {
    pub(super) fn new(options: ChangesOptions) -> Self {
        let now = Instant::now();
        let mut core = Self {
            options,
            shared: Shared::new(false),
            driver: Slot(None),
            beside: Slot(None),
            next_search: now,
            looked: now,
            layout: 0,
            telling: None,
        };
        #[cfg(feature = "testing")]
        core.options.be_told(&core.shared);
        // What is there at the beginning counts from now on.
        core.search(now, false);
        core
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn sources(&self) -> impl Iterator<Item = &Source> {
        let slots = [&self.driver, &self.beside].into_iter();
        slots.filter_map(|slot| slot.0.as_ref().map(Member::source))
    }

    /// What is watched, the preferred source first.
    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        let slots = [&self.driver, &self.beside].into_iter();
        slots.filter_map(|slot| slot.0.as_ref())
    }

    /// A change to report, if there is one. Never waits for a broker.
    ///
    /// `is_open` says that an event of a moment ago was one of a connection, and not its loss.
    pub(super) fn look(&mut self, is_open: bool) -> Option<Change> {
        if !self.shared.is_own() {
            self.renew();
        }
        let now = Instant::now();
        self.looked = now;
        if now >= self.next_search {
            self.search(now, true);
        }
        let duties = self.options.duties();
        let driver = self.driver.look(now, duties, is_open);
        let beside = self.beside.look(now, duties, false);
        let has_moved = self.driver.take_move() | self.beside.take_move();
        self.layout += u64::from(has_moved);
        if driver.is_none() && beside.is_none() {
            self.telling = None;
            return None;
        }
        let is_new = self.driver.is_new(driver) | self.beside.is_new(beside);
        let pause = match &mut self.telling {
            Some(telling) if !is_new => {
                if !telling.is_due(now) {
                    self.driver.await_next(now);
                    self.beside.await_next(now);
                    let has_lost = self.driver.take_move() | self.beside.take_move();
                    self.layout += u64::from(has_lost);
                    return None;
                }
                (telling.pause * 2).min(LONGEST_PAUSE)
            }
            _ => SHORTEST_PAUSE,
        };
        let ticket = Ticket::new(&self.shared);
        self.telling = Some(Telling {
            ticket: Arc::clone(&ticket),
            pause,
            again: None,
        });
        let (driver, beside) = (self.driver.tell(driver), self.beside.tell(beside));
        let (main, other) = match (driver, beside) {
            (Some(driver), other) if driver.has_changed => (driver, other),
            (other, Some(beside)) => (beside, other),
            (driver, None) => (driver?, None),
        };
        Some(Change::new(main, other, ticket))
    }

    /// When to look again at the latest, even if no event comes.
    pub(super) fn next_look(&self) -> Instant {
        let mut next = self.next_search;
        for member in [&self.driver, &self.beside]
            .into_iter()
            .filter_map(|slot| slot.0.as_ref())
        {
            if member.is_polled() {
                next = next.min(self.looked + self.options.period);
            }
            next = member.next_look().map_or(next, |at| next.min(at));
        }
        let again = self.telling.as_ref().and_then(|telling| telling.again);
        next = again.map_or(next, |again| next.min(again));
        if self.shared.bell().is_none() {
            next = next.min(self.looked + WITHOUT_A_BELL);
        }
        next
    }

    /// Whether a change is being handled, or is to be reported again.
    pub(super) fn is_telling(&self) -> bool {
        self.telling.is_some()
    }

    pub(super) fn layout(&self) -> u64 {
        self.layout
    }

    /// What to wait for.
    pub(super) fn events(&self) -> Vec<Event> {
        let bell = self.shared.bell().cloned().map(Event::Bell);
        let members = [&self.driver, &self.beside].map(Slot::event);
        [bell].into_iter().chain(members).flatten().collect()
    }

    /// Looks for sources. One that was not there before counts as a change if `is_owed`: nothing tells
    /// what happened before.
    fn search(&mut self, now: Instant, is_owed: bool) {
        let duties = self.options.duties();
        let (found, takes_another) = self.options.find();
        let mut has_moved = self.driver.choose(found, duties, is_owed);
        if !takes_another {
            has_moved |= self.beside.0.take().is_some();
        } else if !self.beside.works() {
            has_moved |= self.beside.0.take().is_some();
            if let Some(counter) = Source::hypervisor() {
                has_moved |= self.beside.choose(Ok(counter), duties, is_owed);
            }
        }
        self.layout += u64::from(has_moved);
        let is_driven = self.driver.0.as_ref().is_some_and(|it| !it.is_polled());
        let rarely = if is_driven { RARELY } else { 1 };
        self.next_search = now + self.options.period * rarely;
    }

    /// Watches this beside the source that is watched, and looks for no others.
    #[cfg(test)]
    pub(super) fn watch_beside(&mut self, source: Source) {
        self.beside.choose(Ok(source), self.options.duties(), false);
        self.next_search = Instant::now() + Duration::from_secs(3600);
    }

    /// In a forked child: what is open is the parent's.
    fn renew(&mut self) {
        self.shared = Shared::new(self.shared.is_stopped());
        #[cfg(feature = "testing")]
        self.options.be_told(&self.shared);
        self.telling = None;
        for slot in [&mut self.driver, &mut self.beside] {
            // What cannot be opened again is looked for, and counts as a change.
            slot.0 = slot.0.take().and_then(|member| member.reopened().ok());
        }
        self.next_search = Instant::now();
        self.layout += 1;
    }
}

impl Telling {
    /// Whether it is to be reported again.
    fn is_due(&mut self, now: Instant) -> bool {
        if self.ticket.fate() == Fate::Held {
            return false;
        }
        let pause = self.pause;
        now >= *self.again.get_or_insert_with(|| now + pause)
    }
}

/// A place for one source.
struct Slot(Option<Member>);

impl Slot {
    fn event(&self) -> Option<Event> {
        self.0.as_ref()?.event()
    }

    fn works(&self) -> bool {
        self.0.as_ref().is_some_and(Member::works)
    }

    /// Whether there are other events to wait for than at the last time.
    fn take_move(&mut self) -> bool {
        let member = self.0.as_mut();
        member.is_some_and(|member| std::mem::take(&mut member.has_moved))
    }

    /// The generation to be handled, if there is one.
    fn look(&mut self, now: Instant, duties: Duties, is_open: bool) -> Option<Generation> {
        let pending = self.attend(now, duties, is_open);
        if let (None, Some(member)) = (pending, &mut self.0) {
            member.told = None;
        }
        pending
    }

    fn attend(&mut self, now: Instant, duties: Duties, is_open: bool) -> Option<Generation> {
        let member = self.0.as_mut()?;
        if member.connect(now) {
            let source = member.source().clone();
            self.0 = Member::open(&source, duties, true).ok();
        }
        let member = self.0.as_mut()?;
        match member.look(is_open) {
            Ok(pending) => pending,
            // The clock of a hypervisor that does not notify any more is looked at from time to time.
            // The rest is looked for anew.
            Err(_) => match member.poll_instead() {
                Ok(()) => member.look(false).ok().flatten(),
                Err(_) => {
                    self.0 = None;
                    None
                }
            },
        }
    }

    fn is_new(&self, pending: Option<Generation>) -> bool {
        let told = self.0.as_ref().and_then(|member| member.told);
        pending.is_some() && pending != told
    }

    fn await_next(&mut self, now: Instant) {
        if let Some(member) = &mut self.0 {
            member.await_next(now);
        }
    }

    fn tell(&mut self, pending: Option<Generation>) -> Option<Part> {
        let member = self.0.as_mut()?;
        member.told = pending;
        Some(Part {
            record: Arc::clone(&member.record),
            generation: pending.unwrap_or_else(|| member.eye.generation(member.source())),
            eye: member.eye.clone(),
            has_changed: pending.is_some(),
        })
    }

    /// Watches what was found, unless what is watched is as good. Returns whether it did.
    fn choose(&mut self, found: Result<Source>, duties: Duties, is_owed: bool) -> bool {
        let Some(member) = &self.0 else {
            self.0 = found.and_then(|it| Member::open(&it, duties, is_owed)).ok();
            return self.0.is_some();
        };
        match found {
            Ok(same) if same == *member.source() => match member.verify() {
                Err(error) if error.is_broken() => {
                    self.0 = Member::open(&same, duties, is_owed).ok();
                    true
                }
                _ => false,
            },
            Ok(other) if rank(&other) <= member.rank() || !member.works() => {
                match Member::open(&other, duties, is_owed) {
                    Ok(other) => {
                        self.0 = Some(other);
                        true
                    }
                    Err(_) => false,
                }
            }
            Ok(_) => false,
            // A broker may come back. A page that is gone does not, and its successor is another.
            Err(_) => {
                let is_gone = member.next_attempt().is_none() && !member.works();
                if is_gone {
                    self.0 = None;
                }
                is_gone
            }
        }
    }
}
