// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs the hostile suite. As root, or where a user namespace can have several users, nothing is
//! skipped.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod common;

use sysgenid_conformance::hostile;

#[test]
fn the_hostile_suite_passes() {
    let can_run = hostile::Subject::new().has_users();
    common::expect_all_passed(&["hostile", "--broker"], can_run);
}
