// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ten thousand watchers, in a process that has the limit of open files for itself.
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

#[path = "broker/child.rs"]
mod child;
#[path = "broker/client.rs"]
mod client;
#[path = "../../conformance/tests/common/skipped.rs"]
mod skipped;

use child::{Process, raise_files_to};
use client::{Client, Packet, Watcher};

#[test]
fn ten_thousand_watchers() {
    let files = raise_files_to(11_000);
    let directory = tempfile::tempdir().unwrap();
    let broker = Process::serve(directory.path());
    let room = broker.capacity().min(files.saturating_sub(50) / 2);
    let count = room.min(10_000);
    if count < 10_000 {
        eprintln!("only {count} watchers: the limit of open files is {files}");
    }
    let mut control = Client::control(directory.path());
    let mut watchers = Vec::new();
    for _ in 0..count {
        let watcher = Watcher::tracked(directory.path());
        watchers.push((watcher.client, watcher.map, watcher.slot));
    }
    let reply = control.trigger(0);
    assert_eq!(u64::from(reply.outdated), count);
    for (client, page, slot) in &watchers {
        assert_eq!(page.load(), 1);
        let Packet::Notice(notice) = client.receive().0 else {
            panic!("each is woken");
        };
        assert_eq!(notice.generation, 1);
        assert!(!slot.acknowledge(1), "nobody waits");
    }
    let status = control.status();
    assert_eq!((u64::from(status.watchers), status.outdated), (count, 0));
    drop(watchers);
    assert_eq!(control.status().watchers, 0);
}
