// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What every kernel driver has: capabilities, and descriptors of its own.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, fcntl_getfl, open};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::thread::CapabilitySet;
use sysgenid::{Source, Watcher};

use super::Subject;
use crate::capability::keep;
use crate::cases;
use crate::forked::Forked;

cases! { Subject;
    trigger_without_capability_is_a_permission_error,
    watcher_made_of_an_outdated_descriptor_is_woken_again,
    descriptor_that_blocks_makes_no_watcher,
    watcher_made_of_a_descriptor_has_a_probe_without_the_path,
    node_is_proven_by_proc_where_sysfs_is_not_mounted,
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
        let file = open_node(subject, flags);
        let number = file.as_raw_fd();
        let (file, error) = Watcher::from_fd(file).unwrap_err().into_parts();
        assert!(error.is_unsupported(), "{error}");
        assert_eq!(file.as_raw_fd(), number, "the descriptor comes back");
        assert_eq!(fcntl_getfl(&file).unwrap() & flags, flags, "as it was");
    }
}

/// A container that was given the descriptor has no node of that name.
fn watcher_made_of_a_descriptor_has_a_probe_without_the_path(subject: &Subject) {
    let file = open_node(subject, OFlags::RDWR | OFlags::NONBLOCK);
    let hidden = hide("/dev");
    assert!(Source::at(subject.path()).unwrap_err().is_absent());
    let watcher = Watcher::from_fd(file).unwrap();
    let probe = watcher.probe().unwrap();
    drop(hidden);
    assert_eq!(probe.source(), None);
    assert_eq!(probe.generation(), watcher.generation());
    let changed = subject.change();
    assert_eq!(probe.generation(), changed);
    assert!(probe.verify().unwrap_err().is_unsupported());
}

/// `/proc/misc` says what the node is. Without either, nothing is opened.
fn node_is_proven_by_proc_where_sysfs_is_not_mounted(subject: &Subject) {
    let sysfs = hide("/sys");
    let watcher = Watcher::open_at(subject.path());
    drop(sysfs);
    assert!(watcher.is_ok(), "{watcher:?}");

    let hidden = (hide("/sys"), hide("/proc"));
    let refused = Watcher::open_at(subject.path());
    drop(hidden);
    assert!(refused.unwrap_err().is_wrong_kind());
}

/// Nothing is in this directory until it is dropped. The cases run one after another, as root.
fn hide(directory: &'static str) -> Hidden {
    mount("none", directory, "ramfs", MountFlags::empty(), None).expect("root may mount");
    Hidden(directory)
}

struct Hidden(&'static str);

impl Drop for Hidden {
    fn drop(&mut self) {
        unmount(self.0, UnmountFlags::DETACH).expect("what was mounted can be unmounted");
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
