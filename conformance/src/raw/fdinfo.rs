// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `/proc/PID/fdinfo/N`: what a watcher's state is, for whoever may look.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use sysgenid_sys::abi::Dialect;

use super::Node;
use super::node::OpenFile;
use crate::cases;
use crate::child::{Child, Role};

cases! { Node;
    fdinfo_of_an_opened_watcher_is_up_to_date,
    fdinfo_follows_changes_and_acknowledgements,
    fdinfo_of_a_duplicate_is_the_same,
    fdinfo_of_another_process_can_be_read,
    fdinfo_is_not_changed_by_a_read,
}

/// The three lines, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Info {
    pub(super) acked: u32,
    pub(super) tracked: u32,
    pub(super) outdated: u32,
}

impl Info {
    pub(super) fn of(file: &OpenFile) -> Self {
        Self::read(&format!("/proc/self/fdinfo/{}", file.as_fd().as_raw_fd()))
    }

    fn read(path: &str) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        // Exactly one of each, with the tab that every other line of the file has.
        let number = |name: &str| {
            let mut lines = text
                .lines()
                .filter_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
            match (lines.next(), lines.next()) {
                (Some(value), None) => value.parse().expect("a number"),
                _ => panic!("no single line of {name}: {text}"),
            }
        };
        Self {
            acked: number("sysgenid-acked"),
            tracked: number("sysgenid-tracked"),
            outdated: number("sysgenid-outdated"),
        }
    }
}

/// And tracked from the start in v5 only.
fn fdinfo_of_an_opened_watcher_is_up_to_date(node: &Node) {
    let generation = node.bump();
    for watcher in [node.open(), node.open_read_only()] {
        assert_eq!(
            Info::of(&watcher),
            Info {
                acked: generation,
                tracked: u32::from(node.dialect() == Dialect::V5),
                outdated: 0,
            }
        );
    }
}

/// A watcher that is outdated shows what it has acknowledged, not what is current.
fn fdinfo_follows_changes_and_acknowledgements(node: &Node) {
    let watcher = node.open();
    watcher.ensure_tracked();
    let acked = node.generation();
    let up_to_date = Info {
        acked,
        tracked: 1,
        outdated: 0,
    };
    assert_eq!(Info::of(&watcher), up_to_date);
    for change in 1..3 {
        node.bump();
        let outdated = Info {
            outdated: 1,
            ..up_to_date
        };
        assert_eq!(Info::of(&watcher), outdated, "change {change}");
    }
    watcher.catch_up();
    assert_eq!(
        Info::of(&watcher),
        Info {
            acked: acked + 2,
            ..up_to_date
        }
    );
}

/// It is the state of the open file.
fn fdinfo_of_a_duplicate_is_the_same(node: &Node) {
    let original = node.open();
    let duplicate = original.duplicate();
    duplicate.ensure_tracked();
    node.bump();
    assert_eq!(Info::of(&original), Info::of(&duplicate));
    assert_eq!(Info::of(&original).tracked, 1);
    duplicate.catch_up();
    assert_eq!(Info::of(&original), Info::of(&duplicate));
    assert_eq!(Info::of(&original).outdated, 0);
}

/// That is what it is for: an orchestrator looks for those who hold it up.
fn fdinfo_of_another_process_can_be_read(node: &Node) {
    let watcher = node.open_straggler();
    let child = Child::start(Role::Hold, watcher.duplicate().into());
    assert_eq!(child.said(), "ok");
    let theirs = || Info::read(&format!("/proc/{}/fdinfo/0", child.pid()));
    assert_eq!(theirs().outdated, 1);
    assert_eq!(theirs(), Info::of(&watcher));
    watcher.catch_up();
    assert_eq!(theirs().outdated, 0);
}

/// Nor does looking at it acknowledge.
fn fdinfo_is_not_changed_by_a_read(node: &Node) {
    let watcher = node.open_straggler();
    let before = Info::of(&watcher);
    watcher.read().expect("it is outdated");
    assert_eq!(Info::of(&watcher), before);
    assert!(watcher.is_outdated());
}
