// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What tests of others are given, and a real fork in such a test.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

#[path = "common/child.rs"]
mod child;

use sysgenid::testing::Restores;
use sysgenid::{ProcessWide, RestoreOnly, Witness, uniqueness};
use sysgenid_broker::testing::Broker;

use child::in_child;

#[test]
fn a_real_fork_is_seen_in_a_world_and_the_two_go_apart() {
    let restores = Restores::new();
    let _scope = restores.scope();
    let before = uniqueness();
    let restores_before = RestoreOnly(ProcessWide).mark();
    assert!(in_child(|| {
        assert_ne!(uniqueness(), before);
        assert_eq!(uniqueness(), uniqueness());
        assert_eq!(RestoreOnly(ProcessWide).mark(), restores_before);
        restores.restore();
        assert_ne!(RestoreOnly(ProcessWide).mark(), restores_before);
    }));
    assert_eq!(uniqueness(), before);
}

#[test]
fn a_child_that_drops_its_copy_of_a_broker_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut brokers = Some((
        Broker::start().unwrap(),
        sysgenid_broker::spawn(folder.path()).unwrap(),
    ));
    assert!(in_child(|| drop(brokers.take())));
    let (broker, spawned) = brokers.as_ref().unwrap();
    assert_eq!(broker.trigger().unwrap(), 1);
    let orchestrator = sysgenid::Orchestrator::open_at(spawned.dir()).unwrap();
    assert_eq!(orchestrator.trigger().unwrap().get(), 1);
}
