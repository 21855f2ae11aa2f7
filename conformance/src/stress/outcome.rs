// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What must hold after a run, in whatever order things happened.

use std::fs;

use sysgenid_sys::abi::Dialect;

use crate::cases;
use crate::raw::Node;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub(super) node: Node,
    pub(super) counts: Vec<(&'static str, u64)>,
    pub(super) waits: [(&'static str, u64); 3],
    /// The generation that all changes together lead to.
    pub(super) expected: u32,
    pub(super) faults: Vec<String>,
}

impl Outcome {
    /// How often each operation was made, in one line.
    #[must_use]
    pub fn operations(&self) -> String {
        let total: u64 = self.counts.iter().map(|(_, count)| count).sum();
        format!("{total} operations: {}", list(&self.counts))
    }

    /// How the waits ended, in one line.
    #[must_use]
    pub fn waits(&self) -> String {
        list(&self.waits)
    }
}

fn list(counts: &[(&str, u64)]) -> String {
    let counts = counts.iter().map(|(name, count)| format!("{name} {count}"));
    counts.collect::<Vec<_>>().join(", ")
}

cases! { Outcome;
    every_operation_was_made,
    waits_ended_in_every_way,
    no_call_returned_what_it_must_not,
    generation_is_the_number_of_changes,
    nobody_is_left,
    nobody_is_left_to_wait_for,
}

fn every_operation_was_made(outcome: &Outcome) {
    for (name, count) in &outcome.counts {
        assert_ne!(*count, 0, "{name}");
    }
}

fn waits_ended_in_every_way(outcome: &Outcome) {
    for (how, count) in &outcome.waits {
        assert_ne!(*count, 0, "{how}");
    }
}

/// An unexpected error, or a generation that went back.
fn no_call_returned_what_it_must_not(outcome: &Outcome) {
    assert!(outcome.faults.is_empty(), "{}", outcome.faults.join("; "));
}

/// Each trigger changed it once, and so did each announced restore.
fn generation_is_the_number_of_changes(outcome: &Outcome) {
    assert_eq!(outcome.node.generation(), outcome.expected);
}

/// Neither a watcher nor its part in a count.
fn nobody_is_left(outcome: &Outcome) {
    let sysfs = outcome.node.sysfs();
    for name in ["watchers", "tracked_watchers", "outdated_watchers"] {
        let path = sysfs.join(name);
        let count =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(count.trim_end(), "0", "{name}");
    }
}

/// Were a count wrong, this would time out.
fn nobody_is_left_to_wait_for(outcome: &Outcome) {
    let file = outcome.node.open();
    if outcome.node.dialect() == Dialect::V6 {
        file.track(true);
    }
    assert_eq!(file.wait(1), Ok(()));
    file.trigger(0).expect("root may trigger");
    file.catch_up();
    assert_eq!(file.wait(1), Ok(()));
}
