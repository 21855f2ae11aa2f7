// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What every kernel driver has: capabilities, and descriptors of its own.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, open};
use rustix::thread::CapabilitySet;
use sysgenid::Watcher;

use super::Subject;
use crate::capability::keep;
use crate::cases;
use crate::forked::Forked;

cases! { Subject;
    trigger_without_capability_is_a_permission_error,
    watcher_made_of_an_outdated_descriptor_is_woken_again,
    descriptor_that_blocks_makes_no_watcher,
    watcher_made_of_a_descriptor_is_reopened_without_a_path,
}

/// And it changes nothing.
fn trigger_without_capability_is_a_permission_error(subject: &Subject) {
    let watcher = subject.watcher();
    let orchestrator = subject.orchestrator();
    keep(CapabilitySet::empty());
    let error = orchestrator.trigger().unwrap_err();
    assert!(error.is_permission(), "{error}");
    assert_eq!(watcher.try_changed().unwrap(), None);
}

/// On the shipped drivers epoll never hears again of a descriptor that was outdated when it was
/// added. A watcher adds it anew once it has acknowledged.
fn watcher_made_of_an_outdated_descriptor_is_woken_again(subject: &Subject) {
    let file = open_node(subject, OFlags::RDWR | OFlags::NONBLOCK);
    subject.change();
    let watcher = Watcher::from_fd(file).unwrap();
    for _ in 0..3 {
        assert!(is_readable(&watcher, 20), "it is outdated");
        let changed = watcher.try_changed().unwrap().expect("it is outdated");
        watcher.acknowledge(changed).unwrap();
        assert!(!is_readable(&watcher, 0), "it has acknowledged");
        subject.change();
    }
}

/// A watcher never sleeps in `read`, and does not change the flags of a descriptor that others may
/// share.
fn descriptor_that_blocks_makes_no_watcher(subject: &Subject) {
    for flags in [OFlags::RDWR, OFlags::RDONLY | OFlags::NONBLOCK] {
        let error = Watcher::from_fd(open_node(subject, flags)).unwrap_err();
        assert!(error.is_unsupported(), "{error}");
    }
}

/// Through `/proc`: nobody said where the node is.
fn watcher_made_of_a_descriptor_is_reopened_without_a_path(subject: &Subject) {
    let file = open_node(subject, OFlags::RDWR | OFlags::NONBLOCK);
    let mut watcher = Watcher::from_fd(file).unwrap();
    let child = Forked::start(|_| {
        assert!(watcher.try_changed().unwrap_err().is_forked());
        watcher.reopen().unwrap();
        subject.change();
        let changed = watcher.try_changed().unwrap().expect("it is outdated");
        watcher.acknowledge(changed).unwrap();
    });
    child.finish();
    assert!(is_readable(&watcher, 20), "the parent's is outdated still");
}

pub(crate) fn open_node(subject: &Subject, flags: OFlags) -> OwnedFd {
    open(subject.path(), flags | OFlags::CLOEXEC, Mode::empty()).expect("the node can be opened")
}

fn is_readable(watcher: &Watcher, seconds: i64) -> bool {
    let timeout = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(watcher, PollFlags::IN)];
    poll(&mut fds, Some(&timeout)).expect("poll") > 0
}
