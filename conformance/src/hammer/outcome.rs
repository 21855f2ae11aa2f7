// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::fmt;
use std::time::Duration;

use super::worker::Tally;
use crate::cases;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub(super) elapsed: Duration,
    pub(super) changes: u64,
    pub(super) shared_builds: u64,
    pub(super) shared_repeated: u64,
    pub(super) kinds: Vec<Tally>,
}

impl Outcome {
    fn sum(&self, count: impl Fn(&Tally) -> u64) -> u64 {
        self.kinds.iter().map(count).sum()
    }
}

impl fmt::Display for Outcome {
    /// Lines that begin as comments do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.changes as f64 / self.elapsed.as_secs_f64() / 1e6;
        writeln!(
            f,
            "# hammer: {} changes in {:.1?}: {rate:.3} million a second",
            self.changes, self.elapsed
        )?;
        for kind in &self.kinds {
            writeln!(
                f,
                "# hammer: {}: {} uses, {} results thrown away, {} unsettled, {} stale",
                kind.name, kind.uses, kind.thrown_away, kind.unsettled, kind.stale
            )?;
        }
        let owned = self.sum(|kind| kind.builds);
        writeln!(
            f,
            "# hammer: {owned} builds of values of a thread's own, {} of the shared one",
            self.shared_builds
        )?;
        let uses = self.sum(|kind| kind.uses);
        write!(
            f,
            "# hammer: {uses} uses, stale = {}",
            self.sum(|kind| kind.stale)
        )
    }
}

cases! { Outcome;
    page_changed_a_million_times_a_second,
    guards_of_every_kind_were_used_and_overtaken,
    no_stale_value_was_handed_out,
    transactions_had_one_effect_or_none,
    no_use_failed_but_by_changes,
    shared_value_was_built_once_for_a_change,
}

/// Or the rest shows little.
fn page_changed_a_million_times_a_second(outcome: &Outcome) {
    let due = outcome.elapsed.as_micros();
    // The last burst may be missing, while others have the processor.
    assert!(
        u128::from(outcome.changes) >= due * 9 / 10,
        "{} changes of {due}",
        outcome.changes
    );
}

/// The same.
fn guards_of_every_kind_were_used_and_overtaken(outcome: &Outcome) {
    for kind in &outcome.kinds {
        assert!(kind.uses >= 1000, "{}: {} uses", kind.name, kind.uses);
        let is_computed = !kind.name.ends_with("get");
        assert!(!is_computed || kind.thrown_away > 0, "{}", kind.name);
    }
    // Where others have the processors, the changes come while no thread uses a guard.
    assert!(outcome.sum(|kind| kind.builds) > 100);
    assert!(outcome.shared_builds > 100);
}

fn no_stale_value_was_handed_out(outcome: &Outcome) {
    for kind in &outcome.kinds {
        assert_eq!(kind.stale, 0, "{}", kind.name);
    }
}

fn transactions_had_one_effect_or_none(outcome: &Outcome) {
    assert_eq!(outcome.sum(|kind| kind.wrong_effects), 0);
}

fn no_use_failed_but_by_changes(outcome: &Outcome) {
    for kind in &outcome.kinds {
        assert_eq!(kind.errors, 0, "{}", kind.name);
    }
}

fn shared_value_was_built_once_for_a_change(outcome: &Outcome) {
    assert_eq!(outcome.shared_repeated, 0);
    assert!(outcome.shared_builds <= outcome.changes + 1);
}
