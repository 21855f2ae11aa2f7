// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is to be done next about the broker's phase. It decides, and does nothing itself.

use std::time::{Duration, Instant};

use sysgenid_sys::wire::Phase;

use crate::base::Deadline;
use crate::watch::Changes;
use crate::watch::watcher::Asked;

/// After how long a step that failed is tried again: at first, and at most. As changes are.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Something to do about the phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To run the hooks before a snapshot, and then to acknowledge the phase with this number.
    Rest(u32),
    /// To run the hooks after it.
    GoOn,
    /// To acknowledge the phase with this number, for which nothing is to be done.
    Acknowledge(u32),
}

/// How far the process has followed the phase.
pub(super) struct Parking {
    /// Hooks before a snapshot have run, and those after it have not.
    is_parked: bool,
    /// For which phase they ran; `None` if that was in another thread or process.
    number: Option<u32>,
    retry: Option<Retry>,
}

struct Retry {
    step: Step,
    pause: Duration,
    at: Instant,
}

impl Parking {
    pub(super) fn new(is_parked: bool) -> Self {
        Self {
            is_parked,
            number: None,
            retry: None,
        }
    }

    /// The hooks before a snapshot are about to run for this phase. If they fail, some of them have run.
    pub(super) fn park(&mut self, number: u32) {
        self.is_parked = true;
        self.number = Some(number);
    }

    /// The hooks after a restore have run.
    pub(super) fn unpark(&mut self) {
        self.is_parked = false;
        self.number = None;
    }

    /// What to do now.
    pub(super) fn next(&self, changes: &Changes) -> Option<Step> {
        // A process that has a change to handle is not to be copied, and goes on with that change.
        if changes.is_telling() {
            return None;
        }
        let step = self.step(changes.asked())?;
        let is_due = match &self.retry {
            Some(retry) if retry.step == step => Instant::now() >= retry.at,
            _ => true,
        };
        is_due.then_some(step)
    }

    fn step(&self, asked: Option<Asked>) -> Option<Step> {
        let rests = asked.filter(|asked| asked.phase == Phase::Quiesce);
        let stays = rests.is_some_and(|asked| self.number == Some(asked.number));
        if self.is_parked && !stays {
            // The phase has passed, or its broker: one that is started again begins as running.
            return Some(Step::GoOn);
        }
        let asked = asked.filter(|asked| !asked.is_acknowledged)?;
        Some(match asked.phase {
            Phase::Quiesce => Step::Rest(asked.number),
            Phase::Running => Step::Acknowledge(asked.number),
        })
    }

    pub(super) fn succeeded(&mut self) {
        self.retry = None;
    }

    pub(super) fn failed(&mut self, step: Step) {
        let pause = match &self.retry {
            Some(retry) if retry.step == step => (retry.pause * 2).min(LONGEST_PAUSE),
            _ => SHORTEST_PAUSE,
        };
        self.retry = Some(Retry {
            step,
            pause,
            at: Instant::now() + pause,
        });
    }

    /// When to look again although nothing was heard.
    pub(super) fn deadline(&self) -> Deadline {
        match &self.retry {
            Some(retry) => retry.at.into(),
            None => Deadline::NEVER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(phase: Phase, number: u32, is_acknowledged: bool) -> Option<Asked> {
        Some(Asked {
            phase,
            number,
            is_acknowledged,
        })
    }

    /// The hooks of two snapshots take turns, though nothing was seen of what was in between.
    #[test]
    fn a_second_snapshot_is_not_prepared_before_the_first_is_over() {
        let mut parking = Parking::new(false);
        assert_eq!(
            parking.step(asked(Phase::Quiesce, 1, false)),
            Some(Step::Rest(1))
        );
        parking.park(1);
        assert_eq!(parking.step(asked(Phase::Quiesce, 1, true)), None);
        assert_eq!(
            parking.step(asked(Phase::Quiesce, 3, false)),
            Some(Step::GoOn)
        );
        parking.unpark();
        assert_eq!(
            parking.step(asked(Phase::Quiesce, 3, false)),
            Some(Step::Rest(3))
        );
    }

    #[test]
    fn what_another_thread_began_is_ended_first() {
        let mut parking = Parking::new(true);
        for now in [
            None,
            asked(Phase::Running, 0, true),
            asked(Phase::Quiesce, 1, false),
        ] {
            assert_eq!(parking.step(now), Some(Step::GoOn), "{now:?}");
        }
        parking.unpark();
        assert_eq!(parking.step(None), None);
    }

    #[test]
    fn a_step_that_fails_is_tried_later_and_another_one_at_once() {
        let mut parking = Parking::new(false);
        parking.failed(Step::Rest(1));
        let first = parking.retry.as_ref().map(|retry| retry.pause);
        parking.failed(Step::Rest(1));
        let second = parking.retry.as_ref().map(|retry| retry.pause);
        assert_eq!(second, first.map(|pause| pause * 2));
        for _ in 0..40 {
            parking.failed(Step::Rest(1));
        }
        let last = parking.retry.as_ref().map(|retry| retry.pause);
        assert_eq!(last, Some(LONGEST_PAUSE));
        parking.failed(Step::GoOn);
        assert_eq!(parking.retry.as_ref().map(|retry| retry.pause), first);
        parking.succeeded();
        assert_eq!(parking.deadline(), Deadline::NEVER);
    }
}
