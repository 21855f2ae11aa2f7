// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Connections that do nothing.

use std::time::{Duration, Instant};

use sysgenid_broker::spawn;
use sysgenid_sys::wire::{Answer, Awaited, IDLE_SECONDS, Op, Reason};

use crate::client::{Client, Watcher};

#[test]
fn an_idle_connection_is_closed_and_one_that_waits_or_watches_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let broker = spawn(directory.path()).unwrap();
    let mut slow = Watcher::resumed(broker.dir(), 9);
    let watcher = Watcher::tracked(broker.dir());
    let mut waiter = Client::watch(broker.dir());
    assert_eq!(waiter.wait(0, Awaited::Generation).answer, Answer::Pending);
    let mut asks = Client::watch(broker.dir());

    let start = Instant::now();
    let never_asked = Client::watch(broker.dir());
    let mut asked = Client::watch(broker.dir());
    asked.status();
    let mut owner = Client::control(broker.dir());
    std::thread::sleep(Duration::from_secs(3));
    asks.call(Op::Status, [0, 0]);
    for idle in [never_asked, asked] {
        let refusal = idle.refusal();
        assert_eq!(refusal.reason, Reason::Idle);
        assert_eq!(refusal.limit, u64::from(IDLE_SECONDS));
        let after = start.elapsed();
        assert!(after >= Duration::from_secs(5), "{after:?}");
        assert!(after < Duration::from_secs(20), "{after:?}");
    }
    assert!(asks.is_quiet(), "it did something meanwhile");
    assert!(waiter.is_quiet());
    assert_eq!(
        owner.status().answer,
        Answer::Ok,
        "the owner may take its time"
    );
    assert!(!watcher.is_readable());

    let acknowledged = Instant::now();
    slow.acknowledge(0).unwrap();
    assert_eq!(waiter.reply().answer, Answer::Ok);
    assert_eq!(waiter.reason(), Reason::Idle, "after a wait it may be idle");
    assert!(acknowledged.elapsed() >= Duration::from_secs(5));
}
