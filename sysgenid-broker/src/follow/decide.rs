// SPDX-License-Identifier: Apache-2.0 OR MIT
//! When the generation changes, given what the followers have seen: a pure state machine.
//!
//! The generation changes once for each restore, when the kernel's entropy is new. The kernel's log
//! says so. A counter that the hypervisor writes precedes the reseed, so it only begins a wait for
//! the record. A wait that is in vain ends with the entropy barrier, if there is one, and else with
//! [`Cause::ENTROPY_UNKNOWN`].

use std::time::{Duration, Instant};

use sysgenid_sys::wire::Cause;

/// How long the entropy barrier may take.
pub(super) const BARRIER_TIME: Duration = Duration::from_secs(5);

/// What a follower has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// The kernel has reseeded itself because of a restore. `foretold` says whether a counter had
    /// changed as well by the time that this was read.
    Reseeded { foretold: bool },
    /// A restore, in a place where the snapshot does not have the kernel's entropy.
    Restored,
    /// A counter has changed: a restore, and perhaps the kernel has yet to be reseeded.
    Counted,
    /// There may have been a restore that no follower has seen.
    Missed,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Act {
    Nothing,
    Change(Cause),
    /// The entropy barrier is to be run, and its end to be told.
    Barrier,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    Nothing,
    /// A record is awaited, until then.
    Record(Instant),
    /// The end of the barrier is awaited, until then.
    Barrier(Instant),
}

#[derive(Debug)]
pub(super) struct Decision {
    /// How long a record may take.
    patience: Duration,
    /// The log is followed, so that a record can be awaited.
    has_log: bool,
    has_barrier: bool,
    pending: Pending,
    /// The log has announced a restore, and a counter has yet to show it, if one does: until then.
    unmatched: Option<Instant>,
}

impl Decision {
    pub(super) fn new(patience: Duration, has_log: bool, has_barrier: bool) -> Self {
        Self {
            patience,
            has_log,
            has_barrier,
            pending: Pending::Nothing,
            unmatched: None,
        }
    }

    /// The log is followed no more.
    pub(super) fn log_failed(&mut self) {
        self.has_log = false;
    }

    /// Whether a restore was seen for which the generation has yet to change.
    pub(super) fn is_pending(&self) -> bool {
        self.pending != Pending::Nothing
    }

    pub(super) fn sign(&mut self, sign: Sign, now: Instant) -> Act {
        match sign {
            Sign::Reseeded { foretold } => {
                let was_counted = self.is_pending() || foretold;
                self.unmatched = (!was_counted).then_some(now + self.patience);
                self.change(Cause::RESTORE)
            }
            Sign::Restored => self.change(Cause::RESTORE),
            // The change that comes is that of this restore as well.
            Sign::Counted | Sign::Missed if self.is_pending() => Act::Nothing,
            Sign::Missed => self.change(Cause::POSSIBLE),
            Sign::Counted => {
                // A hypervisor may write its counter after the kernel was reseeded. Each further restore
                // has a record as well, so that none is missed by this.
                let unmatched = self.unmatched.take();
                if unmatched.is_some_and(|until| now < until) && self.has_log {
                    return Act::Nothing;
                }
                if !self.has_log && self.has_barrier {
                    return self.begin_barrier(now);
                }
                // Also without a log: the kernel has the time in which it usually reseeds.
                self.pending = Pending::Record(now + self.patience);
                Act::Nothing
            }
        }
    }

    /// When to [tick](Self::tick).
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.pending {
            Pending::Nothing => None,
            Pending::Record(until) | Pending::Barrier(until) => Some(until),
        }
    }

    pub(super) fn tick(&mut self, now: Instant) -> Act {
        match self.pending {
            Pending::Record(until) if until <= now && self.has_barrier => self.begin_barrier(now),
            Pending::Record(until) | Pending::Barrier(until) if until <= now => {
                self.change(Cause::ENTROPY_UNKNOWN)
            }
            _ => Act::Nothing,
        }
    }

    /// The barrier has ended, with success or without.
    pub(super) fn barrier_ended(&mut self, success: bool) -> Act {
        match self.pending {
            Pending::Barrier(_) if success => self.change(Cause::RESTORE),
            Pending::Barrier(_) => self.change(Cause::ENTROPY_UNKNOWN),
            // It was too late, or the record came first.
            Pending::Nothing | Pending::Record(_) => Act::Nothing,
        }
    }

    fn begin_barrier(&mut self, now: Instant) -> Act {
        self.pending = Pending::Barrier(now + BARRIER_TIME);
        Act::Barrier
    }

    fn change(&mut self, cause: Cause) -> Act {
        self.pending = Pending::Nothing;
        Act::Change(cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);
    const RESEEDED: Sign = Sign::Reseeded { foretold: false };

    fn decision(has_log: bool, has_barrier: bool) -> (Decision, Instant) {
        (
            Decision::new(PATIENCE, has_log, has_barrier),
            Instant::now(),
        )
    }

    #[test]
    fn a_record_is_a_change_at_once() {
        let (mut decision, now) = decision(true, false);
        assert_eq!(decision.sign(RESEEDED, now), Act::Change(Cause::RESTORE));
        assert_eq!(decision.deadline(), None);
        assert_eq!(decision.sign(RESEEDED, now), Act::Change(Cause::RESTORE));
    }

    #[test]
    fn a_counter_waits_for_the_record_and_both_are_one_change() {
        let (mut decision, now) = decision(true, true);
        assert_eq!(decision.sign(Sign::Counted, now), Act::Nothing);
        assert_eq!(decision.sign(Sign::Counted, now), Act::Nothing);
        assert_eq!(decision.deadline(), Some(now + PATIENCE));
        assert_eq!(decision.tick(now + PATIENCE / 2), Act::Nothing);
        assert_eq!(decision.sign(RESEEDED, now), Act::Change(Cause::RESTORE));
        assert!(!decision.is_pending());
        assert_eq!(decision.tick(now + PATIENCE * 2), Act::Nothing);
    }

    #[test]
    fn a_counter_that_follows_its_record_is_the_same_restore_and_the_next_is_not() {
        let (mut decision, now) = decision(true, false);
        assert_eq!(decision.sign(RESEEDED, now), Act::Change(Cause::RESTORE));
        assert_eq!(decision.sign(Sign::Counted, now), Act::Nothing);
        assert!(!decision.is_pending());
        assert_eq!(decision.sign(Sign::Counted, now), Act::Nothing);
        assert!(decision.is_pending(), "another restore");
    }

    #[test]
    fn a_counter_that_has_changed_by_the_time_of_the_record_explains_no_later_one() {
        let (mut decision, now) = decision(true, false);
        let foretold = Sign::Reseeded { foretold: true };
        assert_eq!(decision.sign(foretold, now), Act::Change(Cause::RESTORE));
        let _ = decision.sign(Sign::Counted, now);
        assert!(decision.is_pending());
    }

    #[test]
    fn a_counter_long_after_a_record_is_another_restore() {
        let (mut decision, now) = decision(true, false);
        let _ = decision.sign(RESEEDED, now);
        let _ = decision.sign(Sign::Counted, now + PATIENCE);
        assert!(decision.is_pending());
    }

    #[test]
    fn without_a_record_the_barrier_is_run_and_without_a_barrier_the_entropy_is_unknown() {
        let (mut with, now) = decision(true, true);
        let _ = with.sign(Sign::Counted, now);
        assert_eq!(with.tick(now + PATIENCE), Act::Barrier);
        assert_eq!(with.barrier_ended(true), Act::Change(Cause::RESTORE));
        assert_eq!(with.barrier_ended(true), Act::Nothing, "only once");

        let _ = with.sign(Sign::Counted, now);
        assert_eq!(with.tick(now + PATIENCE), Act::Barrier);
        let failed = with.barrier_ended(false);
        assert_eq!(failed, Act::Change(Cause::ENTROPY_UNKNOWN));

        let (mut without, now) = decision(true, false);
        let _ = without.sign(Sign::Counted, now);
        let late = without.tick(now + PATIENCE);
        assert_eq!(late, Act::Change(Cause::ENTROPY_UNKNOWN));
    }

    #[test]
    fn a_barrier_that_hangs_holds_up_no_change() {
        let (mut decision, now) = decision(false, true);
        assert_eq!(decision.sign(Sign::Counted, now), Act::Barrier);
        assert_eq!(decision.deadline(), Some(now + BARRIER_TIME));
        let hung = decision.tick(now + BARRIER_TIME);
        assert_eq!(hung, Act::Change(Cause::ENTROPY_UNKNOWN));
        assert_eq!(decision.barrier_ended(true), Act::Nothing);
    }

    #[test]
    fn a_record_after_a_change_of_unknown_entropy_is_a_change_because_now_it_is_new() {
        let (mut decision, now) = decision(true, false);
        let _ = decision.sign(Sign::Counted, now);
        let _ = decision.tick(now + PATIENCE);
        assert_eq!(decision.sign(RESEEDED, now), Act::Change(Cause::RESTORE));
    }

    #[test]
    fn what_was_missed_is_a_change_unless_one_is_coming() {
        let (mut decision, now) = decision(true, false);
        let missed = decision.sign(Sign::Missed, now);
        assert_eq!(missed, Act::Change(Cause::POSSIBLE));
        let _ = decision.sign(Sign::Counted, now);
        assert_eq!(decision.sign(Sign::Missed, now), Act::Nothing);
        assert!(decision.is_pending());
    }

    #[test]
    fn without_a_log_a_counter_gives_the_kernel_time_to_reseed() {
        let (mut decision, now) = decision(true, false);
        decision.log_failed();
        let _ = decision.sign(RESEEDED, now);
        assert_eq!(decision.sign(Sign::Counted, now), Act::Nothing);
        assert!(
            decision.is_pending(),
            "no record stands for a later counter"
        );
    }
}
