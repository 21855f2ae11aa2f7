// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The source that the process stands on. These cases move it.

use std::fs;

use sysgenid::{ProcessWide, Refreshed, Witness, uniqueness};

use super::Subject;
use crate::cases;
use crate::forked::Forked;

cases! { Subject;
    process_stands_on_the_named_source,
    refresh_of_the_same_source_changes_nothing,
    replaced_source_is_reported_and_a_refresh_is_a_change,
    removed_source_is_reported_and_stays,
    child_refreshes_for_itself,
}

fn process_stands_on_the_named_source(subject: &Subject) {
    ProcessWide.verify().expect("it is there");
    let source = sysgenid::protection()
        .sources()
        .next()
        .expect("there is one");
    assert_eq!(source.path(), subject.page);
    assert_eq!(sysgenid::protection().sources().count(), 1);
}

fn refresh_of_the_same_source_changes_nothing(_: &Subject) {
    let before = uniqueness();
    for _ in 0..3 {
        assert_eq!(
            ProcessWide.refresh().expect("it is there"),
            Refreshed::Unchanged
        );
    }
    assert_eq!(uniqueness(), before);
}

/// Also if the new one shows the same number: what happened in between is not known.
fn replaced_source_is_reported_and_a_refresh_is_a_change(subject: &Subject) {
    let before = uniqueness();
    replace(subject);
    let error = ProcessWide.verify().expect_err("it was replaced");
    assert!(error.is_broken(), "{error}");
    assert_eq!(uniqueness(), before, "a look does not notice");
    assert_eq!(
        ProcessWide.refresh().expect("it is there"),
        Refreshed::Moved
    );
    assert_ne!(ProcessWide.glance(), before);
    assert_ne!(uniqueness(), before);
    assert_eq!(uniqueness().generation(), before.generation());
    ProcessWide.verify().expect("it is the new one");
    let moved = uniqueness();
    subject.restore();
    assert_ne!(uniqueness(), moved, "the new one is looked at");
}

fn removed_source_is_reported_and_stays(subject: &Subject) {
    let before = uniqueness();
    let aside = subject.page.with_extension("aside");
    fs::rename(&subject.page, &aside).expect("it can be moved");
    assert!(ProcessWide.verify().expect_err("it is gone").is_absent());
    assert!(ProcessWide.refresh().expect_err("it is gone").is_absent());
    assert_eq!(uniqueness(), before);
    fs::rename(&aside, &subject.page).expect("it can be moved");
    ProcessWide.verify().expect("it is back");
    assert_eq!(
        ProcessWide.refresh().expect("it is back"),
        Refreshed::Unchanged
    );
}

fn child_refreshes_for_itself(subject: &Subject) {
    let before = uniqueness();
    replace(subject);
    let child = Forked::start(|_| {
        assert_eq!(
            ProcessWide.refresh().expect("it is there"),
            Refreshed::Moved
        );
        ProcessWide.verify().expect("it is the new one");
    });
    child.finish();
    assert_eq!(uniqueness(), before, "the parent was not asked");
    assert_eq!(
        ProcessWide.refresh().expect("it is there"),
        Refreshed::Moved
    );
}

/// Puts another file with the same number in the place of the page.
fn replace(subject: &Subject) {
    let new = subject.page.with_extension("new");
    fs::copy(&subject.page, &new).expect("it can be copied");
    fs::rename(&new, &subject.page).expect("it can be replaced");
}
