// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the device does, as a pure state machine: the executable specification.
//!
//! A [`Model`] is the generation and the watchers of one device. It does no I/O and knows no time.
//! Its methods are the operations of the device, so the kernel driver and the userspace driver are
//! both compared with it, and the [`Server`](crate::Server) of this crate is a shell around it.
//!
//! # The rules
//!
//! 1. The *generation* is a `u32`. It is compared for equality, never ordered: it wraps.
//! 2. A *watcher* is up to date when it is opened, *outdated* from the next change on, and up to
//!    date again when it *acknowledges*. That a generation comes round again changes nothing in
//!    this: a change is a change.
//! 3. A watcher is *tracked* or not. Only tracked watchers hold up those who wait.
//! 4. Only the current generation can be acknowledged; another one is stale and changes nothing.
//! 5. A wait ends when no tracked watcher is outdated ([`Outcome::Done`]), or when the waiter's own
//!    watcher is ([`Outcome::Outdated`]), and the second overrides the first. A wait may do without
//!    a watcher of the waiter's.
//! 6. A trigger makes the generation `max(min, generation + 1)`, where `u32::MAX + 1` is 0. It
//!    always changes it: at `u32::MAX`, a `min` of `u32::MAX` asks for what is there, and the next
//!    generation is 0. Each change has an [`Occasion`], which is kept until the next.
//! 7. Besides, there is a *phase*, with a number that differs from one change of the phase to the
//!    next. Watchers that *park* acknowledge that number, and can be waited for as in rule 5: the
//!    wait is over when no tracked watcher that parks has yet to acknowledge it, and
//!    [`Outcome::Outdated`] if the phase changes meanwhile. The phase and the generation have nothing
//!    else to do with each other.
//!
//! # Example
//!
//! An orchestrator triggers a change and waits until a worker has handled it:
//!
//! ```
//! use sysgenid_broker::model::{Awaited, Ended, Model, Occasion, Outcome, Wait};
//!
//! let mut model = Model::new(0);
//! let worker = model.open(true, None);
//! let orchestrator = model.open(false, None);
//!
//! model.trigger(0, Occasion::default());
//! model.acknowledge(orchestrator, 1)?;
//! let Wait::Pending(wait) = model.wait(Some(orchestrator), Awaited::Generation)? else {
//!     panic!("the worker has not acknowledged");
//! };
//!
//! let ended = model.acknowledge(worker, 1)?;
//! assert_eq!(ended, [Ended { wait, outcome: Outcome::Done }]);
//! # Ok::<(), sysgenid_broker::model::Refusal>(())
//! ```

mod phase;
mod wait;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

pub use sysgenid_sys::wire::{Awaited, Cause, Payload, Phase};
use wait::Waits;
pub use wait::{Ended, Outcome, Wait, WaitId};

/// A watcher's number. Never used twice by one [`Model`]; the first is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatcherId(u64);

impl WatcherId {
    /// The watcher with this number, which need not exist. 0 comes before every watcher.
    ///
    /// ```
    /// use sysgenid_broker::model::{Model, WatcherId};
    ///
    /// assert_eq!(Model::new(0).open(true, None), WatcherId::from_number(1));
    /// ```
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    ///
    /// ```
    /// # use sysgenid_broker::model::Model;
    /// assert_eq!(Model::new(0).open(true, None).number(), 1);
    /// ```
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// Why an operation is refused. It has changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The acknowledged generation is not the current one: `EINVAL` on the device.
    #[error("this is not the current generation")]
    Stale,
    /// There is no such watcher: `EBADF` on the device.
    #[error("there is no such watcher")]
    Unknown,
}

/// A tracked watcher that is outdated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Straggler {
    /// Which one.
    pub watcher: WatcherId,
    /// The generation it has acknowledged.
    pub acknowledged: u32,
}

/// What is known of a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Occasion {
    /// Why it came.
    pub cause: Cause,
    /// When it came, in nanoseconds since the Unix epoch; 0 if that is not known.
    pub time: u64,
    /// What came along with it.
    pub payload: Payload,
}

#[derive(Clone, Copy, Debug)]
struct Watcher {
    acknowledged: u32,
    outdated: bool,
    tracked: bool,
    parks: bool,
    /// It has yet to acknowledge the phase.
    unparked: bool,
}

impl Watcher {
    fn is_straggler(self) -> bool {
        self.tracked && self.outdated
    }

    fn is_parking(self) -> bool {
        self.tracked && self.parks
    }

    fn is_unparked(self) -> bool {
        self.is_parking() && self.unparked
    }
}

/// The generation and the watchers of one device.
///
/// See the [module](self) for the rules.
#[derive(Clone)]
pub struct Model {
    generation: u32,
    occasion: Occasion,
    phase: Phase,
    phase_number: u32,
    watchers: BTreeMap<WatcherId, Watcher>,
    waits: Waits,
    last: u64,
    last_wait: u64,
    // Counted as they change, so that whether a wait is over never takes a walk.
    tracked: usize,
    outdated: usize,
    parking: usize,
    unparked: usize,
}

impl Model {
    /// A device at this generation, with no watchers. A kernel driver starts at 0.
    ///
    /// ```
    /// # use sysgenid_broker::model::Model;
    /// assert_eq!(Model::new(7).generation(), 7);
    /// ```
    #[must_use]
    pub fn new(generation: u32) -> Self {
        Self {
            generation,
            occasion: Occasion::default(),
            phase: Phase::Running,
            phase_number: 0,
            watchers: BTreeMap::new(),
            waits: Waits::default(),
            last: 0,
            last_wait: 0,
            tracked: 0,
            outdated: 0,
            parking: 0,
            unparked: 0,
        }
    }

    /// The current generation.
    ///
    /// ```
    /// # use sysgenid_broker::model::{Model, Occasion};
    /// let mut model = Model::new(0);
    /// model.trigger(0, Occasion::default());
    /// assert_eq!(model.generation(), 1);
    /// ```
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// What is known of the last change.
    ///
    /// ```
    /// # use sysgenid_broker::model::{Cause, Model, Occasion};
    /// let mut model = Model::new(0);
    /// assert_eq!(model.occasion().cause, Cause::NONE);
    /// model.trigger(0, Occasion { cause: Cause::TRIGGER, ..Occasion::default() });
    /// assert_eq!(model.occasion().cause, Cause::TRIGGER);
    /// ```
    #[must_use]
    pub fn occasion(&self) -> &Occasion {
        &self.occasion
    }

    /// How many watchers there are.
    ///
    /// ```
    /// # use sysgenid_broker::model::Model;
    /// let mut model = Model::new(0);
    /// model.open(false, None);
    /// assert_eq!(model.watchers(), 1);
    /// ```
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.watchers.len()
    }

    /// How many of them are tracked.
    ///
    /// ```
    /// # use sysgenid_broker::model::Model;
    /// let mut model = Model::new(0);
    /// model.open(false, None);
    /// model.open(true, None);
    /// assert_eq!(model.tracked(), 1);
    /// ```
    #[must_use]
    pub fn tracked(&self) -> usize {
        self.tracked
    }

    /// How many are tracked and outdated: a wait is over when this is 0.
    ///
    /// ```
    /// # use sysgenid_broker::model::{Model, Occasion};
    /// let mut model = Model::new(0);
    /// model.open(false, None);
    /// model.open(true, None);
    /// model.trigger(0, Occasion::default());
    /// assert_eq!(model.outdated(), 1);
    /// ```
    #[must_use]
    pub fn outdated(&self) -> usize {
        self.outdated
    }

    /// Adds a watcher. It has acknowledged the current generation, or with `resume` the one given
    /// there, so that a watcher of an earlier device goes on where it was.
    ///
    /// No wait ends by this: a watcher that is outdated from the start only adds to what is waited
    /// for.
    ///
    /// ```
    /// # use sysgenid_broker::model::Model;
    /// let mut model = Model::new(5);
    /// let fresh = model.open(true, None);
    /// let resumed = model.open(true, Some(4));
    /// assert!(!model.is_outdated(fresh));
    /// assert!(model.is_outdated(resumed));
    /// ```
    pub fn open(&mut self, tracked: bool, resume: Option<u32>) -> WatcherId {
        self.last = self.last.saturating_add(1);
        let id = WatcherId(self.last);
        let watcher = Watcher {
            acknowledged: resume.unwrap_or(self.generation),
            outdated: resume.is_some_and(|acknowledged| acknowledged != self.generation),
            tracked,
            parks: false,
            unparked: false,
        };
        self.count(watcher);
        self.watchers.insert(id, watcher);
        id
    }

    /// Removes a watcher. Returns the waits that ended: its own ones, of which nobody can say any more
    /// whether the waiter is outdated, and others because it was the last that was outdated. An
    /// unknown watcher changes nothing.
    ///
    /// ```
    /// # use sysgenid_broker::model::{Awaited, Model};
    /// let mut model = Model::new(0);
    /// let hung = model.open(true, Some(9));
    /// model.wait(None, Awaited::Generation)?;
    /// assert_eq!(model.close(hung).len(), 1);
    /// # Ok::<(), sysgenid_broker::model::Refusal>(())
    /// ```
    pub fn close(&mut self, id: WatcherId) -> Vec<Ended> {
        let Some(watcher) = self.watchers.remove(&id) else {
            return Vec::new();
        };
        self.uncount(watcher);
        let mut ended = self.end_waits_of(id);
        ended.extend(self.done_waits());
        ended
    }

    /// A watcher has handled `generation`. Doing it again changes nothing. Returns the waits that
    /// ended.
    ///
    /// # Errors
    ///
    /// [`Refusal::Stale`] if this is not the current generation, [`Refusal::Unknown`].
    ///
    /// ```
    /// # use sysgenid_broker::model::{Model, Occasion, Refusal};
    /// let mut model = Model::new(0);
    /// let watcher = model.open(true, None);
    /// model.trigger(0, Occasion::default());
    /// assert_eq!(model.acknowledge(watcher, 0), Err(Refusal::Stale));
    /// assert_eq!(model.acknowledge(watcher, 1), Ok(vec![]));
    /// assert!(!model.is_outdated(watcher));
    /// ```
    pub fn acknowledge(&mut self, id: WatcherId, generation: u32) -> Result<Vec<Ended>, Refusal> {
        let current = self.generation;
        self.change(id, |watcher| {
            if generation == current {
                watcher.acknowledged = current;
                watcher.outdated = false;
                Ok(())
            } else {
                Err(Refusal::Stale)
            }
        })
    }

    /// Makes a watcher tracked or not. An outdated one counts at once when it becomes tracked.
    /// Returns the waits that ended because the last one that was outdated is tracked no more.
    ///
    /// # Errors
    ///
    /// [`Refusal::Unknown`].
    ///
    /// ```
    /// # use sysgenid_broker::model::{Model, Occasion};
    /// let mut model = Model::new(0);
    /// let watcher = model.open(false, None);
    /// model.trigger(0, Occasion::default());
    /// assert_eq!(model.outdated(), 0);
    /// model.set_tracking(watcher, true)?;
    /// assert_eq!(model.outdated(), 1);
    /// # Ok::<(), sysgenid_broker::model::Refusal>(())
    /// ```
    pub fn set_tracking(&mut self, id: WatcherId, tracked: bool) -> Result<Vec<Ended>, Refusal> {
        self.change(id, |watcher| {
            watcher.tracked = tracked;
            Ok(())
        })
    }

    /// Changes the generation to `max(min, generation + 1)`, where `u32::MAX + 1` is 0 and so is
    /// the result if it would be no change. Returns the waits that ended, which are all of those with
    /// a watcher: every watcher is outdated now.
    ///
    /// ```
    /// # use sysgenid_broker::model::{Model, Occasion};
    /// let mut model = Model::new(0);
    /// model.trigger(0, Occasion::default());
    /// assert_eq!(model.generation(), 1);
    /// model.trigger(u32::MAX, Occasion::default());
    /// assert_eq!(model.generation(), u32::MAX);
    /// model.trigger(0, Occasion::default());
    /// assert_eq!(model.generation(), 0);
    /// ```
    pub fn trigger(&mut self, min: u32, occasion: Occasion) -> Vec<Ended> {
        let next = self.generation.wrapping_add(1);
        let asked = min.max(next);
        self.generation = if asked == self.generation {
            next
        } else {
            asked
        };
        self.occasion = occasion;
        for watcher in self.watchers.values_mut() {
            watcher.outdated = true;
        }
        self.outdated = self.tracked;
        self.end_waits_of_outdated()
    }

    /// What `read` returns: the current generation while the watcher is outdated, else nothing
    /// (the device blocks, or fails with `EAGAIN`). Reading acknowledges nothing.
    ///
    /// ```
    /// # use sysgenid_broker::model::{Model, Occasion};
    /// let mut model = Model::new(0);
    /// let watcher = model.open(true, None);
    /// assert_eq!(model.read(watcher), None);
    /// model.trigger(0, Occasion::default());
    /// assert_eq!(model.read(watcher), Some(1));
    /// assert_eq!(model.read(watcher), Some(1));
    /// ```
    #[must_use]
    pub fn read(&self, id: WatcherId) -> Option<u32> {
        self.is_outdated(id).then_some(self.generation)
    }

    /// Whether the watcher is outdated: `POLLIN` on the device. An unknown one is not.
    ///
    /// ```
    /// # use sysgenid_broker::model::{Model, Occasion};
    /// let mut model = Model::new(0);
    /// let watcher = model.open(false, None);
    /// assert!(!model.is_outdated(watcher));
    /// model.trigger(0, Occasion::default());
    /// assert!(model.is_outdated(watcher));
    /// ```
    #[must_use]
    pub fn is_outdated(&self, id: WatcherId) -> bool {
        self.watchers
            .get(&id)
            .is_some_and(|watcher| watcher.outdated)
    }

    /// The generation that the watcher has acknowledged.
    ///
    /// ```
    /// # use sysgenid_broker::model::{Model, Occasion};
    /// let mut model = Model::new(3);
    /// let watcher = model.open(false, None);
    /// model.trigger(0, Occasion::default());
    /// assert_eq!(model.acknowledged(watcher), Some(3));
    /// ```
    #[must_use]
    pub fn acknowledged(&self, id: WatcherId) -> Option<u32> {
        self.watchers.get(&id).map(|watcher| watcher.acknowledged)
    }

    /// Whether the watcher is tracked. An unknown one is not.
    ///
    /// ```
    /// # use sysgenid_broker::model::Model;
    /// let mut model = Model::new(0);
    /// let watcher = model.open(true, None);
    /// assert!(model.is_tracked(watcher));
    /// ```
    #[must_use]
    pub fn is_tracked(&self, id: WatcherId) -> bool {
        self.watchers
            .get(&id)
            .is_some_and(|watcher| watcher.tracked)
    }

    /// The tracked watchers that are outdated and come after `after`, in the order of their
    /// numbers: those who hold up a wait.
    ///
    /// ```
    /// # use sysgenid_broker::model::{Model, Occasion, WatcherId};
    /// let mut model = Model::new(0);
    /// let first = model.open(true, None);
    /// let second = model.open(true, None);
    /// model.trigger(0, Occasion::default());
    ///
    /// let all = model.stragglers(WatcherId::from_number(0));
    /// assert_eq!(all.count(), 2);
    /// let rest = model.stragglers(first).map(|straggler| straggler.watcher);
    /// assert_eq!(rest.collect::<Vec<_>>(), [second]);
    /// ```
    pub fn stragglers(&self, after: WatcherId) -> impl Iterator<Item = Straggler> + '_ {
        self.watchers
            .range((Bound::Excluded(after), Bound::Unbounded))
            .filter(|(_, watcher)| watcher.is_straggler())
            .map(|(&id, watcher)| Straggler {
                watcher: id,
                acknowledged: watcher.acknowledged,
            })
    }

    /// Changes one watcher, keeps the counts and ends the waits that this ends.
    fn change(
        &mut self,
        id: WatcherId,
        change: impl FnOnce(&mut Watcher) -> Result<(), Refusal>,
    ) -> Result<Vec<Ended>, Refusal> {
        let watcher = self.watchers.get_mut(&id).ok_or(Refusal::Unknown)?;
        let before = *watcher;
        change(watcher)?;
        let after = *watcher;
        self.uncount(before);
        self.count(after);
        Ok(self.done_waits())
    }

    fn count(&mut self, watcher: Watcher) {
        self.tracked += usize::from(watcher.tracked);
        self.outdated += usize::from(watcher.is_straggler());
        self.parking += usize::from(watcher.is_parking());
        self.unparked += usize::from(watcher.is_unparked());
    }

    fn uncount(&mut self, watcher: Watcher) {
        self.tracked -= usize::from(watcher.tracked);
        self.outdated -= usize::from(watcher.is_straggler());
        self.parking -= usize::from(watcher.is_parking());
        self.unparked -= usize::from(watcher.is_unparked());
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("generation", &self.generation)
            .field("watchers", &self.watchers.len())
            .field("tracked", &self.tracked)
            .field("outdated", &self.outdated)
            .field("phase", &self.phase)
            .field("waits", &self.waits())
            .finish()
    }
}
