// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The broker that tests of others start.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::thread;

use sysgenid_broker::testing::Broker;
use sysgenid_sys::page::CounterPage;

fn generation(broker: &Broker) -> u32 {
    let page = File::open(broker.path().join("page")).unwrap();
    CounterPage::map(&page).unwrap().load().try_into().unwrap()
}

#[test]
fn it_serves_a_directory_of_its_own_until_it_is_dropped() {
    let broker = Broker::start().unwrap();
    let path = broker.path().to_owned();
    assert!(path.is_absolute());
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "nobody else gets in");
    assert_eq!(generation(&broker), 0);
    for number in 1..=3 {
        assert_eq!(broker.trigger().unwrap(), number);
        assert_eq!(generation(&broker), number);
    }
    drop(broker);
    assert!(!path.exists());
}

#[test]
fn brokers_that_run_at_once_do_not_meet() {
    let threads: Vec<_> = (0..8)
        .map(|number| {
            thread::spawn(move || {
                let broker = Broker::start().unwrap();
                for _ in 0..number {
                    broker.trigger().unwrap();
                }
                assert_eq!(generation(&broker), number);
                (broker.path().to_owned(), broker)
            })
        })
        .collect();
    let brokers: Vec<_> = threads.into_iter().map(|it| it.join().unwrap()).collect();
    let paths: BTreeSet<_> = brokers.iter().map(|(path, _)| path).collect();
    assert_eq!(paths.len(), 8);
}

#[test]
fn another_one_goes_on_in_the_same_directory() {
    let broker = Broker::start().unwrap();
    broker.trigger().unwrap();
    broker.stop();
    let error = broker.trigger().unwrap_err();
    assert!(error.to_string().contains("control.sock"), "{error}");
    assert_eq!(generation(&broker), 1, "the page stays");
    broker.restart().unwrap();
    assert_eq!(broker.trigger().unwrap(), 2);
    broker.restart().unwrap();
    assert_eq!(broker.trigger().unwrap(), 3);
}
