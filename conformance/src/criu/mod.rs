// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A process that CRIU has copied: checkpointed once, restored again and again, and forked.
//!
//! What the copies report is compared. Half of the cases are controls, which show that there is
//! something to see: that the copies are copies, and that the kernel has forgotten in them that it
//! should empty memory in a child.

mod copies;
mod report;
mod services;
mod subject;

use std::collections::BTreeMap;

pub use self::copies::{Copies, Program};
use self::report::Report;
pub use self::services::{Services, cases as service_cases};
pub use self::subject::run as run_subject;
use crate::cases;
use crate::suite::Case;

cases! { Copies;
    copies_share_what_is_not_guarded,
    copies_share_what_is_guarded_if_nothing_shows_the_restore,
    kernel_empties_no_memory_in_a_child_of_a_copy,
    no_secret_is_equal_after_a_restore_that_a_source_shows,
    no_secret_is_equal_after_a_restore_that_the_program_learned_of,
    child_of_a_copy_has_its_own_secrets_whatever_shows_the_restore,
    child_of_a_copy_does_not_acknowledge_for_it,
}

/// All cases.
pub fn cases() -> impl Iterator<Item = &'static Case<Copies>> {
    CASES.iter()
}

/// The control for all that follows.
fn copies_share_what_is_not_guarded(copies: &Copies) {
    for pair in [&copies.seen, &copies.learned, &copies.unseen] {
        let [first, second] = pair;
        for process in first.processes() {
            assert_eq!(
                first.get(process, "copied"),
                second.get(process, "copied"),
                "{process}"
            );
        }
    }
}

/// Nobody can know of such a restore. The control for the cases in which it is known.
fn copies_share_what_is_guarded_if_nothing_shows_the_restore(copies: &Copies) {
    let [first, second] = &copies.unseen;
    for secret in first.secrets() {
        assert_eq!(
            first.get("parent", secret),
            second.get("parent", secret),
            "{secret}"
        );
    }
}

/// The control for the children. CRIU keeps the advice since 4.2.
fn kernel_empties_no_memory_in_a_child_of_a_copy(copies: &Copies) {
    let expected = if copies.keeps_advice() {
        "emptied"
    } else {
        "copied"
    };
    for copy in copies.seen.iter().chain(&copies.unseen) {
        assert_eq!(copy.get("forked", "page"), expected);
    }
}

fn no_secret_is_equal_after_a_restore_that_a_source_shows(copies: &Copies) {
    expect_no_equal_secret(&copies.seen);
}

fn no_secret_is_equal_after_a_restore_that_the_program_learned_of(copies: &Copies) {
    expect_no_equal_secret(&copies.learned);
}

/// Between the copies, and between each copy and its children, however those were made. Returns how
/// many were compared.
fn expect_no_equal_secret(copies: &[Report]) -> usize {
    let mut seen = BTreeMap::new();
    for (number, copy) in copies.iter().enumerate() {
        for process in copy.processes() {
            for secret in copy.secrets() {
                let value = copy.get(process, secret);
                let place = format!("{secret} of {process} {number}");
                if let Some(other) = seen.insert(value.to_owned(), place.clone()) {
                    panic!("the {place} is the {other}");
                }
            }
        }
    }
    assert!(seen.len() >= 8, "{seen:?}");
    seen.len()
}

fn child_of_a_copy_has_its_own_secrets_whatever_shows_the_restore(copies: &Copies) {
    for copy in &copies.unseen {
        for secret in copy.secrets() {
            assert_ne!(
                copy.get("forked", secret),
                copy.get("parent", secret),
                "{secret}"
            );
        }
    }
}

fn child_of_a_copy_does_not_acknowledge_for_it(copies: &Copies) {
    let all = [&copies.seen, &copies.learned, &copies.unseen];
    for copy in all.into_iter().flatten() {
        for child in copy.processes().filter(|&process| process != "parent") {
            assert_eq!(copy.get(child, "watcher"), "refused", "{child}");
        }
        assert_eq!(copy.get("parent", "watcher"), "outdated");
    }
}
