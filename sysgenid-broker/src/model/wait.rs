// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Waiting for others.

use std::collections::BTreeSet;

use super::{Awaited, Model, Refusal, WatcherId};

/// A wait's name. Never used twice by one [`Model`].
///
/// Ordered by the waiter's own watcher first; those without one come first of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaitId {
    own: Option<WatcherId>,
    number: u64,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Nobody is left to wait for.
    Done,
    /// The waiter's own watcher is outdated, `EINTR` on the device, or gone; or the phase that was
    /// waited for is no longer the phase.
    Outdated,
}

/// What [`Model::wait`] says at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// It is over already.
    Ended(Outcome),
    /// It goes on; a later operation returns how it ended.
    Pending(WaitId),
}

/// A wait that an operation has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ended {
    /// Which one.
    pub wait: WaitId,
    /// How it ended.
    pub outcome: Outcome,
}

/// The waits, by what they are for.
#[derive(Clone, Debug, Default)]
pub(super) struct Waits {
    generation: BTreeSet<WaitId>,
    phase: BTreeSet<WaitId>,
}

impl Waits {
    fn of(&self, awaited: Awaited) -> &BTreeSet<WaitId> {
        match awaited {
            Awaited::Generation => &self.generation,
            Awaited::Phase => &self.phase,
        }
    }

    fn of_mut(&mut self, awaited: Awaited) -> &mut BTreeSet<WaitId> {
        match awaited {
            Awaited::Generation => &mut self.generation,
            Awaited::Phase => &mut self.phase,
        }
    }
}

impl Model {
    /// Begins to wait until all have acknowledged. `own` is the waiter's own watcher, if it has one.
    ///
    /// # Errors
    ///
    /// [`Refusal::Unknown`].
    ///
    /// ```
    /// # use sysgenid_broker::model::{Awaited, Model, Occasion, Outcome, Wait};
    /// let mut model = Model::new(0);
    /// let own = model.open(true, None);
    /// let wait = model.wait(Some(own), Awaited::Generation)?;
    /// assert_eq!(wait, Wait::Ended(Outcome::Done));
    ///
    /// let slow = model.open(true, Some(9));
    /// let wait = model.wait(Some(own), Awaited::Generation)?;
    /// assert!(matches!(wait, Wait::Pending(_)));
    ///
    /// let ended = model.trigger(0, Occasion::default());
    /// assert_eq!(ended[0].outcome, Outcome::Outdated);
    /// let wait = model.wait(Some(own), Awaited::Generation)?;
    /// assert_eq!(wait, Wait::Ended(Outcome::Outdated));
    /// # Ok::<(), sysgenid_broker::model::Refusal>(())
    /// ```
    pub fn wait(&mut self, own: Option<WatcherId>, awaited: Awaited) -> Result<Wait, Refusal> {
        if let Some(own) = own {
            let watcher = self.watchers.get(&own).ok_or(Refusal::Unknown)?;
            if watcher.outdated {
                return Ok(Wait::Ended(Outcome::Outdated));
            }
        }
        if self.is_done(awaited) {
            return Ok(Wait::Ended(Outcome::Done));
        }
        self.last_wait = self.last_wait.saturating_add(1);
        let number = self.last_wait;
        let wait = WaitId { own, number };
        self.waits.of_mut(awaited).insert(wait);
        Ok(Wait::Pending(wait))
    }

    /// Ends a wait without an outcome, as a timeout or a signal does. Returns whether there was
    /// one.
    ///
    /// ```
    /// # use sysgenid_broker::model::{Awaited, Model, Wait};
    /// let mut model = Model::new(0);
    /// let slow = model.open(true, Some(9));
    /// let Wait::Pending(wait) = model.wait(None, Awaited::Generation)? else { panic!() };
    /// assert!(model.cancel_wait(wait));
    /// assert!(model.close(slow).is_empty());
    /// # Ok::<(), sysgenid_broker::model::Refusal>(())
    /// ```
    pub fn cancel_wait(&mut self, wait: WaitId) -> bool {
        self.waits.generation.remove(&wait) || self.waits.phase.remove(&wait)
    }

    /// How many waits there are.
    ///
    /// ```
    /// # use sysgenid_broker::model::{Awaited, Model};
    /// let mut model = Model::new(0);
    /// let slow = model.open(true, Some(9));
    /// model.wait(None, Awaited::Generation)?;
    /// assert_eq!(model.waits(), 1);
    /// # Ok::<(), sysgenid_broker::model::Refusal>(())
    /// ```
    #[must_use]
    pub fn waits(&self) -> usize {
        self.waits.generation.len() + self.waits.phase.len()
    }

    /// How many of them are for this.
    #[must_use]
    pub fn waits_for(&self, awaited: Awaited) -> usize {
        self.waits.of(awaited).len()
    }

    fn is_done(&self, awaited: Awaited) -> bool {
        match awaited {
            Awaited::Generation => self.outdated == 0,
            Awaited::Phase => self.unparked == 0,
        }
    }

    /// Ends the waits that have nobody left to wait for.
    pub(super) fn done_waits(&mut self) -> Vec<Ended> {
        let mut ended = Vec::new();
        for awaited in [Awaited::Generation, Awaited::Phase] {
            if self.is_done(awaited) {
                ended.extend(self.end_waits_for(awaited, Outcome::Done));
            }
        }
        ended
    }

    pub(super) fn end_waits_for(&mut self, awaited: Awaited, outcome: Outcome) -> Vec<Ended> {
        let waits = std::mem::take(self.waits.of_mut(awaited));
        waits
            .into_iter()
            .map(|wait| Ended { wait, outcome })
            .collect()
    }

    /// Ends the waits whose own watcher is this one.
    pub(super) fn end_waits_of(&mut self, own: WatcherId) -> Vec<Ended> {
        let of = |number| WaitId {
            own: Some(own),
            number,
        };
        let mut ended = Vec::new();
        for waits in [&mut self.waits.generation, &mut self.waits.phase] {
            let own: Vec<_> = waits.range(of(0)..=of(u64::MAX)).copied().collect();
            for wait in own {
                waits.remove(&wait);
                ended.push(Ended {
                    wait,
                    outcome: Outcome::Outdated,
                });
            }
        }
        ended
    }

    /// Ends the waits that have a watcher, when all are outdated.
    pub(super) fn end_waits_of_outdated(&mut self) -> Vec<Ended> {
        let first = WaitId {
            own: Some(WatcherId::from_number(0)),
            number: 0,
        };
        let mut ended = Vec::new();
        for waits in [&mut self.waits.generation, &mut self.waits.phase] {
            ended.extend(waits.split_off(&first).into_iter().map(|wait| Ended {
                wait,
                outcome: Outcome::Outdated,
            }));
        }
        // Without a tracked watcher nobody is outdated.
        ended.extend(self.done_waits());
        ended
    }
}
