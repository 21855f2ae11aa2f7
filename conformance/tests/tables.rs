// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A name stands for one behaviour.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;

use sysgenid::SourceKind;
use sysgenid_conformance::{model, raw, typed};

fn expect_unique<'a>(names: impl Iterator<Item = &'a str>, at_least: usize) {
    let names: Vec<_> = names.collect();
    let unique: BTreeSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len());
    assert!(names.len() >= at_least, "{} cases", names.len());
}

#[test]
fn names_are_unique_in_each_suite() {
    expect_unique(raw::cases().map(|case| case.name), 80);
    for kind in [SourceKind::Device, SourceKind::Broker] {
        expect_unique(typed::cases(kind).map(|case| case.name), 60);
        expect_unique(model::cases(kind).map(|case| case.name), 1);
    }
}

#[test]
fn kernel_and_broker_have_the_same_cases_but_for_their_own() {
    let names = |kind| {
        typed::cases(kind)
            .map(|case| case.name)
            .collect::<BTreeSet<_>>()
    };
    let (device, broker) = (names(SourceKind::Device), names(SourceKind::Broker));
    assert!(device.intersection(&broker).count() >= 60);
    assert!(device.difference(&broker).count() <= 5);
}
