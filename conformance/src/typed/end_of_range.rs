// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Large generations, and the wrap. Each case leaves the counter at its beginning.

use sysgenid::{Generation, Guarded};

use super::Subject;
use super::subject::{catch_up, is_outdated, number};
use crate::background::PATIENCE;
use crate::cases;

cases! { Subject;
    generation_wraps_and_is_unequal,
    guarded_value_is_built_again_after_the_wrap,
    generation_beyond_the_signed_numbers_is_honoured,
    trigger_at_the_end_changes_whatever_it_asks_for,
    generation_that_comes_round_again_is_a_change,
}

/// 2^32 - 1 and one is 0, and that is a change like any other.
fn generation_wraps_and_is_unequal(subject: &Subject) {
    wind_to_zero(subject);
    let watcher = subject.watcher();
    let probe = watcher.probe().unwrap();
    let last = subject.change_to(u32::MAX);
    assert_eq!(number(last), u32::MAX);
    catch_up(&watcher);
    subject.expect_settled("it has acknowledged the last generation");

    let first = subject.change();
    assert_eq!(number(first), 0);
    assert_ne!(first, last);
    assert_eq!(probe.generation(), first);
    assert_eq!(watcher.wait(PATIENCE).unwrap(), first);
    assert!(watcher.acknowledge(last).unwrap_err().is_stale());
    watcher.acknowledge(first).unwrap();
    subject.expect_settled("it has acknowledged the first generation");
}

/// A smaller number is no older one.
fn guarded_value_is_built_again_after_the_wrap(subject: &Subject) {
    let mut secret = Guarded::unwiped_with_witness(subject.probe(), Ok);
    subject.change_to(u32::MAX);
    assert_eq!(number(*secret.get().unwrap()), u32::MAX);
    assert_eq!(number(subject.change()), 0);
    assert_eq!(number(*secret.get().unwrap()), 0);
}

/// As a minimum, and by adding one.
fn generation_beyond_the_signed_numbers_is_honoured(subject: &Subject) {
    const INT_MAX: u32 = 0x7fff_ffff;
    wind_to_zero(subject);
    assert_eq!(number(subject.change_to(INT_MAX)), INT_MAX);
    assert_eq!(number(subject.change()), INT_MAX + 1);
    assert_eq!(number(subject.change_to(0xc000_0000)), 0xc000_0000);
    assert_eq!(number(subject.change_to(INT_MAX)), 0xc000_0001);
    wind_to_zero(subject);
}

/// What is there already is not a change: the next one is 0. Below it, the minimum decides.
fn trigger_at_the_end_changes_whatever_it_asks_for(subject: &Subject) {
    subject.change_to(u32::MAX - 1);
    assert_eq!(number(subject.change_to(u32::MAX)), u32::MAX);
    let watcher = subject.watcher();
    assert_eq!(number(subject.change_to(u32::MAX)), 0);
    assert!(is_outdated(&watcher));
    catch_up(&watcher);
    subject.change_to(u32::MAX);
    assert_eq!(number(subject.change_to(7)), 7);
    wind_to_zero(subject);
}

/// Whoever missed the changes between must rebuild, though the number is the one that they have
/// acknowledged.
fn generation_that_comes_round_again_is_a_change(subject: &Subject) {
    wind_to_zero(subject);
    let watcher = subject.watcher();
    assert_eq!(number(watcher.generation()), 0);
    wind_to_zero(subject);
    assert_eq!(watcher.try_changed().unwrap(), Some(Generation::new(0)));
    subject.expect_unsettled("it has missed two changes");
    catch_up(&watcher);
    assert!(!is_outdated(&watcher));
    subject.expect_settled("it has acknowledged");
}

fn wind_to_zero(subject: &Subject) {
    if number(subject.probe().generation()) != u32::MAX {
        subject.change_to(u32::MAX);
    }
    assert_eq!(number(subject.change()), 0);
}
