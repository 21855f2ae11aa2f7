// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::fmt;
use std::time::Duration;

use crate::cases;

/// What became of one watcher's changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// How often a task was told of a change.
    pub(super) wakes: u64,
    /// What was handled to its end.
    pub(super) handled: u64,
    /// What was handled, and was the current generation still.
    pub(super) acks: u64,
    /// What was handled, and was not.
    pub(super) stale: u64,
    /// Generations that were told again after they had been handled.
    pub(super) duplicates: u64,
    pub(super) futures_dropped: u64,
    pub(super) handlings_dropped: u64,
    pub(super) registered_again: u64,
    pub(super) opened_again: u64,
    pub(super) errors: u64,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub(super) elapsed: Duration,
    pub(super) wanted: u32,
    pub(super) changes: u32,
    pub(super) bursts: u32,
    /// Watchers that did not get to the last generation, although nothing else happened.
    pub(super) lost: usize,
    /// Whether the source thinks that somebody is outdated at the end.
    pub(super) stragglers: bool,
    pub(super) tallies: Vec<Tally>,
}

impl Outcome {
    fn sum(&self, count: impl Fn(&Tally) -> u64) -> u64 {
        self.tallies.iter().map(count).sum()
    }
}

impl fmt::Display for Outcome {
    /// Lines that begin as comments do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_each = |count: fn(&Tally) -> u64| {
            let counts = || self.tallies.iter().map(count);
            let (least, most) = (counts().min(), counts().max());
            let (least, most) = (least.unwrap_or(0), most.unwrap_or(0));
            format!("{} ({least} to {most} each)", self.sum(count))
        };
        writeln!(
            f,
            "# bumps: {} bumps in {:.0?}, in {} bursts, against {} watchers",
            self.changes,
            self.elapsed,
            self.bursts,
            self.tallies.len()
        )?;
        writeln!(
            f,
            "# bumps: dropped: {} futures, {} handlings; registered again: {}; opened again: {}",
            self.sum(|tally| tally.futures_dropped),
            self.sum(|tally| tally.handlings_dropped),
            self.sum(|tally| tally.registered_again),
            self.sum(|tally| tally.opened_again),
        )?;
        writeln!(
            f,
            "# bumps: wakes {}, handled {}, acks {}, stale acks {}",
            of_each(|tally| tally.wakes),
            of_each(|tally| tally.handled),
            of_each(|tally| tally.acks),
            of_each(|tally| tally.stale),
        )?;
        write!(
            f,
            "# bumps: {} bumps, {} wakes, {} acks, lost = {}, duplicates = {}",
            self.changes,
            self.sum(|tally| tally.wakes),
            self.sum(|tally| tally.acks),
            self.lost,
            self.sum(|tally| tally.duplicates)
        )
    }
}

cases! { Outcome;
    generation_changed_as_often_as_asked,
    every_way_to_disturb_was_taken,
    no_wake_up_was_lost,
    no_generation_was_handled_twice,
    no_call_failed,
    nobody_is_outdated_at_the_end,
}

fn generation_changed_as_often_as_asked(outcome: &Outcome) {
    assert_eq!(outcome.changes, outcome.wanted);
}

/// Or the rest shows little.
fn every_way_to_disturb_was_taken(outcome: &Outcome) {
    for tally in &outcome.tallies {
        assert!(tally.wakes >= u64::from(outcome.bursts) / 2, "{tally:?}");
        assert!(tally.acks > 0, "{tally:?}");
    }
    assert!(outcome.sum(|tally| tally.stale) > 0);
    assert!(outcome.sum(|tally| tally.futures_dropped) > 0);
    assert!(outcome.sum(|tally| tally.handlings_dropped) > 0);
    assert!(outcome.sum(|tally| tally.registered_again) > 0);
    assert!(outcome.sum(|tally| tally.opened_again) > 0);
}

fn no_wake_up_was_lost(outcome: &Outcome) {
    assert_eq!(outcome.lost, 0, "watchers sleep though they are outdated");
}

fn no_generation_was_handled_twice(outcome: &Outcome) {
    for tally in &outcome.tallies {
        assert_eq!(tally.duplicates, 0, "{tally:?}");
    }
}

fn no_call_failed(outcome: &Outcome) {
    assert_eq!(outcome.sum(|tally| tally.errors), 0);
}

/// Nor does the source think so.
fn nobody_is_outdated_at_the_end(outcome: &Outcome) {
    assert!(!outcome.stragglers);
}
