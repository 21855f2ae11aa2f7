// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The phase, and the watchers that park.

use std::ops::Bound;

use super::{Awaited, Ended, Model, Outcome, Phase, Refusal, Straggler, WatcherId};

impl Model {
    /// The phase.
    ///
    /// ```
    /// # use sysgenid_broker::model::{Model, Phase};
    /// assert_eq!(Model::new(0).phase(), Phase::Running);
    /// ```
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Its number, which another phase never has.
    #[must_use]
    pub fn phase_number(&self) -> u32 {
        self.phase_number
    }

    /// How many tracked watchers park.
    #[must_use]
    pub fn parking(&self) -> usize {
        self.parking
    }

    /// How many of these have yet to acknowledge the phase.
    #[must_use]
    pub fn unparked(&self) -> usize {
        self.unparked
    }

    /// Whether the watcher parks and has yet to acknowledge the phase, tracked or not.
    #[must_use]
    pub fn is_unparked(&self, id: WatcherId) -> bool {
        self.watchers
            .get(&id)
            .is_some_and(|watcher| watcher.parks && watcher.unparked)
    }

    /// Changes the phase. To change it to what it is changes nothing. Returns the waits that ended:
    /// all that were for the phase of before.
    ///
    /// ```
    /// # use sysgenid_broker::model::{Awaited, Model, Phase, Wait};
    /// let mut model = Model::new(0);
    /// let worker = model.open(true, None);
    /// model.set_parking(worker)?;
    /// model.set_phase(Phase::Quiesce);
    /// assert_eq!(model.unparked(), 1);
    /// let Wait::Pending(wait) = model.wait(None, Awaited::Phase)? else { panic!() };
    ///
    /// let ended = model.acknowledge_phase(worker, model.phase_number())?;
    /// assert_eq!(ended[0].wait, wait);
    /// # Ok::<(), sysgenid_broker::model::Refusal>(())
    /// ```
    pub fn set_phase(&mut self, phase: Phase) -> Vec<Ended> {
        if self.phase == phase {
            return Vec::new();
        }
        self.phase = phase;
        self.phase_number = self.phase_number.wrapping_add(1);
        self.unparked = 0;
        for watcher in self.watchers.values_mut() {
            watcher.unparked = watcher.parks;
            self.unparked += usize::from(watcher.is_unparked());
        }
        self.end_waits_for(Awaited::Phase, Outcome::Outdated)
    }

    /// Makes a watcher one that parks. In a phase other than [`Phase::Running`] it has that one to
    /// acknowledge at once.
    ///
    /// # Errors
    ///
    /// [`Refusal::Unknown`].
    pub fn set_parking(&mut self, id: WatcherId) -> Result<(), Refusal> {
        let is_running = self.phase == Phase::Running;
        self.change(id, |watcher| {
            if !watcher.parks {
                watcher.parks = true;
                watcher.unparked = !is_running;
            }
            Ok(())
        })
        .map(drop)
    }

    /// A watcher has done what the phase asks for. Doing it again changes nothing. Returns the waits
    /// that ended.
    ///
    /// # Errors
    ///
    /// [`Refusal::Stale`] if this is not the number of the phase, [`Refusal::Unknown`].
    pub fn acknowledge_phase(&mut self, id: WatcherId, number: u32) -> Result<Vec<Ended>, Refusal> {
        let current = self.phase_number;
        self.change(id, |watcher| {
            if number != current {
                return Err(Refusal::Stale);
            }
            watcher.unparked = false;
            Ok(())
        })
    }

    /// The tracked watchers that park, have yet to acknowledge the phase and come after `after`, in
    /// the order of their numbers.
    pub fn unparked_after(&self, after: WatcherId) -> impl Iterator<Item = Straggler> + '_ {
        self.watchers
            .range((Bound::Excluded(after), Bound::Unbounded))
            .filter(|(_, watcher)| watcher.is_unparked())
            .map(|(&id, watcher)| Straggler {
                watcher: id,
                acknowledged: watcher.acknowledged,
            })
    }
}
