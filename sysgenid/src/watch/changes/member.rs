// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One source that is watched: how it is looked at, and what of it was handled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::event::Event;
use crate::base::error::Result;
use crate::base::{Deadline, Generation};
use crate::check::Probe;
use crate::source::{Source, SourceKind};
use crate::watch::pauses::Pauses;
use crate::watch::watcher::{ANSWER_TIME, Asked, Duties, Opening, Tracking};
use crate::watch::{Observer, Watcher};

/// How long a connection must have stood for the next loss to be one that has nothing to do with the
/// last.
const STEADY: Duration = Duration::from_secs(1);

/// How often a driver is asked at most to notify of the next change while one is not acknowledged.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// What is known of a source whatever becomes of the connection to it. Changes that are being handled
/// share it.
pub(super) struct Record {
    pub(super) source: Source,
    /// The generation that was handled last, or at which the watching began.
    handled: AtomicU64,
    /// The source is to be handled whatever its number: it was not there before, or another was in its
    /// place. Nothing else depends on the two, so they are relaxed.
    pub(super) is_owed: AtomicBool,
}

impl Record {
    pub(super) fn handle(&self, generation: Generation) {
        self.handled.store(generation.get(), Ordering::Relaxed);
        self.is_owed.store(false, Ordering::Relaxed);
    }

    /// Has what `other` has, of the same source.
    pub(super) fn copy(&self, other: &Self) {
        self.handle(other.handled());
        self.is_owed.store(other.is_owed(), Ordering::Relaxed);
    }

    pub(super) fn owe(&self) {
        self.is_owed.store(true, Ordering::Relaxed);
    }

    pub(super) fn handled(&self) -> Generation {
        Generation::new(self.handled.load(Ordering::Relaxed))
    }

    fn is_owed(&self) -> bool {
        self.is_owed.load(Ordering::Relaxed)
    }

    /// Whether the source, which is in this generation, is to be handled.
    pub(super) fn owes(&self, current: Generation) -> bool {
        self.is_owed() || self.handled() != current
    }
}

/// With what a source is looked at.
#[derive(Clone)]
pub(super) enum Eye {
    /// A driver, which tells of changes and takes acknowledgements.
    Watcher(Arc<Watcher>),
    /// A clock that notifies.
    Observer(Arc<Observer>),
    /// A page that notifies nobody, or that of a broker to which there is no connection. It is looked at
    /// from time to time.
    Page(Arc<Probe>),
}

impl Eye {
    pub(super) fn generation(&self, source: &Source) -> Generation {
        match self {
            Self::Watcher(watcher) => watcher.generation(),
            Self::Observer(observer) => observer.generation(),
            Self::Page(probe) => generation_of(probe, source),
        }
    }
}

/// The number of a driver has 32 bits, whatever stands behind it.
fn generation_of(probe: &Probe, source: &Source) -> Generation {
    let number = probe.generation().get();
    match source.kind() {
        SourceKind::Broker | SourceKind::Device => Generation::new(number & u64::from(u32::MAX)),
        _ => Generation::new(number),
    }
}

pub(super) struct Member {
    pub(super) record: Arc<Record>,
    pub(super) eye: Eye,
    /// The mapped page, where there is one beside the eye: it says whether the source was replaced.
    page: Option<Arc<Probe>>,
    link: Option<Link>,
    duties: Duties,
    /// There are other events to wait for than before.
    pub(super) has_moved: bool,
    /// The generation that was reported last, as long as it is not acknowledged.
    pub(super) told: Option<Generation>,
    /// When the driver was asked last to notify of the change after that.
    asked: Option<Instant>,
    /// When to ask again, because an answer may have come since.
    asks_again: Option<Instant>,
}

/// The way to a broker.
struct Link {
    opening: Option<(Opening, Instant)>,
    pauses: Pauses,
    /// When to try to connect, if nothing is under way.
    next: Option<Instant>,
    /// Since when there is a connection.
    connected: Instant,
}

impl Member {
    /// Begins with the generation as it is now, which counts as a change if `is_owed`. Does not wait for a
    /// broker.
    pub(super) fn open(source: &Source, duties: Duties, is_owed: bool) -> Result<Self> {
        let mut page = None;
        let mut link = None;
        let eye = match source.kind() {
            SourceKind::Device => match watch(source, duties.tracked) {
                Ok(watcher) => Eye::Watcher(Arc::new(watcher)),
                // Who may only read it can look.
                Err(refused) => match Probe::open_on(source.clone()) {
                    Ok(probe) => Eye::Page(Arc::new(probe)),
                    Err(_) => return Err(refused),
                },
            },
            SourceKind::Vmclock => match Observer::open_on(source.clone()) {
                Ok(observer) => Eye::Observer(Arc::new(observer)),
                Err(_) => Eye::Page(Arc::new(Probe::open_on(source.clone())?)),
            },
            kind => {
                let probe = Arc::new(Probe::open_on(source.clone())?);
                page = Some(Arc::clone(&probe));
                if kind == SourceKind::Broker {
                    link = Some(Link::new());
                }
                Eye::Page(probe)
            }
        };
        let record = Record {
            handled: AtomicU64::new(eye.generation(source).get()),
            is_owed: AtomicBool::new(is_owed),
            source: source.clone(),
        };
        Ok(Self {
            record: Arc::new(record),
            eye,
            page,
            link,
            duties,
            has_moved: true,
            told: None,
            asked: None,
            asks_again: None,
        })
    }

    /// In a forked child: one of its own, which reports what the parent had not handled at the fork.
    pub(super) fn reopened(self) -> Result<Self> {
        let mut fresh = Self {
            told: None,
            asked: None,
            asks_again: None,
            ..self
        };
        fresh.eye = match fresh.eye {
            Eye::Watcher(watcher) => match &fresh.page {
                Some(page) => Eye::Page(Arc::clone(page)),
                None => Eye::Watcher(Arc::new(watcher.reopened()?)),
            },
            Eye::Observer(_) => {
                Eye::Observer(Arc::new(Observer::open_on(fresh.record.source.clone())?))
            }
            page @ Eye::Page(_) => page,
        };
        fresh.link = fresh.link.map(|_| Link::new());
        Ok(fresh)
    }

    pub(super) fn source(&self) -> &Source {
        &self.record.source
    }

    /// The smaller, the more preferred.
    pub(super) fn rank(&self) -> u8 {
        rank(self.source())
    }

    /// Whether a broker has been asked for a connection and has not answered.
    pub(super) fn is_connecting(&self) -> bool {
        self.link
            .as_ref()
            .is_some_and(|link| link.opening.is_some())
    }

    /// Whether there is no connection to a broker.
    pub(super) fn is_lost(&self) -> bool {
        self.link.is_some() && self.is_polled()
    }

    /// What a broker asks those for that park, as far as the last look has shown it; `None` without a
    /// connection to one.
    pub(super) fn asked(&self) -> Option<Asked> {
        match &self.eye {
            Eye::Watcher(watcher) => watcher.asked(),
            Eye::Observer(_) | Eye::Page(_) => None,
        }
    }

    /// Whether it has to be looked at from time to time.
    pub(super) fn is_polled(&self) -> bool {
        matches!(self.eye, Eye::Page(_))
    }

    /// Whether the driver is connected or the page is still that of the source.
    pub(super) fn works(&self) -> bool {
        !self.is_polled() || self.verify().is_ok()
    }

    /// Whether the path still names what is looked at.
    pub(super) fn verify(&self) -> Result<()> {
        match (&self.eye, &self.page) {
            (_, Some(page)) | (Eye::Page(page), _) => page.verify(),
            (Eye::Observer(observer), _) => observer.probe().verify(),
            (Eye::Watcher(_), None) => Ok(()),
        }
    }

    /// What becomes readable when there may be something to see.
    pub(super) fn event(&self) -> Option<Event> {
        if let Some((opening, _)) = self.link.as_ref().and_then(|link| link.opening.as_ref()) {
            return Some(Event::Connection(Arc::clone(opening.connection())));
        }
        match &self.eye {
            Eye::Watcher(watcher) => Some(match watcher.connection() {
                Some(connection) => Event::Connection(Arc::clone(connection)),
                None => Event::Watcher(Arc::clone(watcher)),
            }),
            Eye::Observer(observer) => Some(Event::Observer(Arc::clone(observer))),
            Eye::Page(_) => None,
        }
    }

    /// The generation that is to be handled, if one is. An error says that the source is of no use any
    /// more as it is looked at; whatever it has shown before is kept.
    ///
    /// `is_open` says that an event of a moment ago was not the loss of the broker.
    pub(super) fn look(&mut self, is_open: bool) -> Result<Option<Generation>> {
        match &self.eye {
            Eye::Watcher(watcher) => {
                let changed = if is_open {
                    watcher.try_changed_at_event()
                } else {
                    watcher.try_changed()
                };
                match changed {
                    Ok(Some(generation)) if self.page.is_none() || self.record.owes(generation) => {
                        Ok(Some(generation))
                    }
                    Ok(None) if !self.record.is_owed() => Ok(None),
                    Ok(None) => Ok(Some(watcher.generation())),
                    // It was acknowledged while the broker was away, and is news to the next one.
                    Ok(Some(generation)) => match watcher.acknowledge(generation) {
                        // Of a watcher that parks, more notices may be unread, and no event is to come for them.
                        Ok(()) => match watcher.try_changed() {
                            Ok(changed) => Ok(changed),
                            Err(_) => self.look_at_page(),
                        },
                        // There is another one already.
                        Err(error) if error.is_stale() => Ok(watcher.try_changed().ok().flatten()),
                        Err(_) => self.look_at_page(),
                    },
                    Err(_) if self.page.is_some() => self.look_at_page(),
                    Err(error) => Err(error),
                }
            }
            Eye::Observer(observer) => {
                // Before the look: what comes after it is an event of its own.
                let taken = observer.take_notification();
                let current = observer.generation();
                if self.record.owes(current) {
                    return Ok(Some(current));
                }
                taken.map(|()| None)
            }
            Eye::Page(probe) => {
                let current = generation_of(probe, self.source());
                Ok(Some(current).filter(|current| self.record.owes(*current)))
            }
        }
    }

    /// After the loss of the broker.
    fn look_at_page(&mut self) -> Result<Option<Generation>> {
        self.lose();
        self.look(false)
    }

    /// Has the source tell of the change after the one that was reported, which is not acknowledged. To be
    /// called after each look, because each answer is given once.
    pub(super) fn await_next(&mut self, now: Instant) {
        let (Eye::Watcher(watcher), Some(told)) = (&self.eye, self.told) else {
            return;
        };
        // A broker that knows of a change and cannot write its page would answer at once each time.
        if self.asked.is_none_or(|asked| now >= asked + ASK_AGAIN) {
            // As long as there is a change to handle, this alone shows that the broker is lost.
            if watcher.await_next(told).is_err() {
                self.lose();
                return;
            }
            self.asked = Some(now);
            self.asks_again = None;
        } else {
            self.asks_again = self.asked.map(|asked| asked + ASK_AGAIN);
        }
    }

    /// Looks at a page from time to time, because waiting fails: that of a clock whose hypervisor does
    /// not notify any more.
    pub(super) fn poll_instead(&mut self) -> Result<()> {
        let probe = Probe::open_on(self.source().clone())?;
        self.eye = Eye::Page(Arc::new(probe));
        self.has_moved = true;
        Ok(())
    }

    /// The broker is gone. Its page stays.
    fn lose(&mut self) {
        let (Some(page), Some(link)) = (&self.page, &mut self.link) else {
            return;
        };
        self.eye = Eye::Page(Arc::clone(page));
        self.has_moved = true;
        self.asked = None;
        let now = Instant::now();
        if now.saturating_duration_since(link.connected) >= STEADY {
            link.pauses = Pauses::default();
            link.next = Some(now);
        } else {
            // One that takes connections only to close them is not asked without a pause.
            link.next = Some(now + link.pauses.next_if(true));
        }
    }

    /// Goes on with the connection to a broker, and returns whether it turned out to be another one than
    /// before. Never waits.
    pub(super) fn connect(&mut self, now: Instant) -> bool {
        let Some(link) = &mut self.link else {
            return false;
        };
        if let Some((opening, until)) = &link.opening {
            match opening.finish() {
                Ok((_, page)) if self.page.as_ref().is_some_and(|own| own.identity() != page) => {
                    return true;
                }
                Ok((watcher, _)) => {
                    self.eye = Eye::Watcher(Arc::new(watcher));
                    link.opening = None;
                    link.next = None;
                    link.connected = now;
                    return false;
                }
                Err(error) if error.is_timeout() && now < *until => return false,
                Err(error) => {
                    link.opening = None;
                    link.next = Some(now + link.pauses.next(&error));
                    self.has_moved = true;
                    return false;
                }
            }
        }
        if link.next.is_none_or(|next| now < next) {
            return false;
        }
        let source = &self.record.source;
        // Another number than the current one has the broker take it for outdated.
        let resume = match &self.page {
            Some(page) if self.record.is_owed() => {
                generation_of(page, source).get().wrapping_sub(1)
            }
            _ => self.record.handled().get(),
        };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a broker's number has 32 bits"
        )]
        let resume = resume as u32;
        let at_once = Deadline::after(Duration::ZERO);
        match Opening::begin(source, self.duties, Some(resume), at_once) {
            Ok(opening) => {
                link.opening = Some((opening, now + ANSWER_TIME));
                self.has_moved = true;
            }
            Err(error) => link.next = Some(now + link.pauses.next(&error)),
        }
        false
    }

    /// When to go on with that although nothing was heard.
    pub(super) fn next_attempt(&self) -> Option<Instant> {
        let link = self.link.as_ref()?;
        match &link.opening {
            Some((_, until)) => Some(*until),
            None => link.next,
        }
    }

    /// When to look again whatever happens.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let asks_again = self.asks_again.filter(|_| self.told.is_some());
        [self.next_attempt(), asks_again]
            .into_iter()
            .flatten()
            .min()
    }
}

impl Link {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            opening: None,
            pauses: Pauses::default(),
            next: Some(now),
            connected: now,
        }
    }
}

fn watch(source: &Source, tracked: bool) -> Result<Watcher> {
    let tracking = if tracked {
        Tracking::On
    } else {
        Tracking::OffIfPossible
    };
    Watcher::options()
        .tracking(tracking)
        .open_on(source.clone())
}

/// The smaller, the more preferred.
pub(super) fn rank(source: &Source) -> u8 {
    match source.kind() {
        SourceKind::Device => 0,
        SourceKind::Broker | SourceKind::PageFile => 1,
        SourceKind::Vmclock => 2,
        SourceKind::Vmgenid => 3,
    }
}
