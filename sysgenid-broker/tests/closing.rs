// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Watchers that are closed. In a process that starts no others: a child between fork and exec
//! holds what its parent has closed.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that fails panics, also in a helper"
)]
#![allow(dead_code, reason = "the helpers are those of the other tests")]

#[path = "broker/client.rs"]
mod client;

use sysgenid_broker::spawn;

use client::{Client, Watcher};

#[test]
fn a_status_counts_every_close_that_came_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut control = Client::control(broker.dir());
    for _ in 0..50 {
        let watchers: Vec<_> = (0..10).map(|_| Watcher::tracked(broker.dir())).collect();
        drop(watchers);
        assert_eq!(control.status().watchers, 0);
    }
}
