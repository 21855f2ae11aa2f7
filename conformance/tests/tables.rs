// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A name stands for one behaviour.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;

use sysgenid::SourceKind;
use sysgenid_conformance::suite::Case;
use sysgenid_conformance::{asynchronous, hostile, model, raw, typed};
use sysgenid_sys::abi::Dialect;

const DIALECTS: [Dialect; 2] = [Dialect::V5, Dialect::V6];

fn expect_unique<'a>(names: impl Iterator<Item = &'a str>, at_least: usize) {
    let names: Vec<_> = names.collect();
    let unique: BTreeSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len());
    assert!(names.len() >= at_least, "{} cases", names.len());
}

#[test]
fn names_are_unique_in_each_suite() {
    for dialect in DIALECTS {
        expect_unique(raw::cases(dialect).map(|case| case.name), 100);
        for kind in [SourceKind::Device, SourceKind::Broker] {
            expect_unique(typed::cases(kind, dialect, false).map(|case| case.name), 60);
            expect_unique(asynchronous::cases(kind, dialect).map(|case| case.name), 30);
            expect_unique(model::cases(kind).map(|case| case.name), 1);
        }
    }
    expect_unique(hostile::cases().map(|case| case.name), 26);
    let names = names(hostile::cases());
    assert!(
        hostile::OF_SEVERAL_USERS
            .iter()
            .all(|name| names.contains(name))
    );
}

#[test]
fn kernel_and_broker_have_the_same_cases_but_for_their_own() {
    let [device, broker] = [SourceKind::Device, SourceKind::Broker]
        .map(|kind| names(typed::cases(kind, Dialect::V6, false)));
    assert!(device.intersection(&broker).count() >= 60);
    assert!(device.difference(&broker).count() <= 12);
}

#[test]
fn dialects_have_the_same_cases_but_for_their_own() {
    let raw = DIALECTS.map(|dialect| names(raw::cases(dialect)));
    let typed = DIALECTS.map(|dialect| names(typed::cases(SourceKind::Device, dialect, false)));
    for ([v5, v6], in_common) in [(&raw, 100), (&typed, 70)] {
        assert!(v5.intersection(v6).count() >= in_common);
        assert!((1..=10).contains(&v5.difference(v6).count()));
        assert!((1..=20).contains(&v6.difference(v5).count()));
    }
}

fn names<S: 'static>(cases: impl Iterator<Item = &'static Case<S>>) -> BTreeSet<&'static str> {
    cases.map(|case| case.name).collect()
}
