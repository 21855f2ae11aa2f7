// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A process whose memory the kernel no longer empties in a child, although it was asked to: CRIU
//! before 4.2 restores a mapping without that advice.

use std::fs;

use sysgenid::{Guarded, Orchestrator, ProcessWide, Watcher, Witness, adapter, uniqueness};
use sysgenid_sys::internal::fork;

use super::Subject;
use super::clones::bare_clone;
use super::forks::expect_new;
use super::shared::{VFORK, in_a_clone};
use crate::cases;
use crate::forked::Forked;

cases! { Subject;
    uniqueness_changes_in_a_forked_child_although_the_advice_is_lost,
    guarded_value_is_rebuilt_in_a_forked_child_although_the_advice_is_lost,
    mark_changes_in_a_bare_clone_although_the_advice_is_lost,
    advice_is_given_again_when_a_change_is_seen,
    advice_is_given_again_before_a_fork,
    watcher_of_a_forked_child_is_refused_although_the_advice_is_lost,
    watcher_of_a_bare_clone_is_refused_although_the_advice_is_lost,
    child_that_shares_memory_is_told_so_when_it_asks,
}

/// Does what CRIU does to this process: no memory is emptied in its children from now on.
fn lose_the_advice() {
    let maps = fs::read_to_string("/proc/self/smaps").expect("there is /proc");
    let mut lost = 0;
    let mut range = None;
    for line in maps.lines() {
        let first = line.split_whitespace().next().unwrap_or_default();
        if let Some((start, end)) = first.split_once('-') {
            let address = |text| usize::from_str_radix(text, 16).ok();
            range = address(start).zip(address(end));
        }
        let is_wiped = line.starts_with("VmFlags:") && line.split_whitespace().any(|it| it == "wf");
        if let Some((start, end)) = range.filter(|_| is_wiped) {
            let start = std::ptr::with_exposed_provenance_mut(start);
            let length = end - start as usize;
            // SAFETY: It is a mapping of this process, and the advice changes nothing in its memory.
            let done = unsafe { libc::madvise(start, length, libc::MADV_KEEPONFORK) };
            assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
            lost += 1;
        }
    }
    assert!(lost > 0, "there is a page that the kernel empties");
}

/// In a child, so that this process keeps what it has. Its own children are what is looked at.
fn in_a_restored_process(work: impl FnOnce()) {
    Forked::start(|_| {
        // Its page is its own, and filled.
        let _ = uniqueness();
        let _ = fork::process();
        lose_the_advice();
        work();
    })
    .finish();
}

fn uniqueness_changes_in_a_forked_child_although_the_advice_is_lost(_: &Subject) {
    in_a_restored_process(|| {
        let parent = uniqueness();
        let number = fork::process();
        let child = Forked::start(|_| {
            expect_new(parent);
            assert_ne!(fork::process(), number);
        });
        child.finish();
        assert_eq!(uniqueness(), parent);
        assert_eq!(fork::process(), number);
    });
}

fn guarded_value_is_rebuilt_in_a_forked_child_although_the_advice_is_lost(_: &Subject) {
    in_a_restored_process(|| {
        let mut built = 0;
        let mut guarded = Guarded::unwiped(move |_| {
            built += 1;
            Ok(built)
        });
        assert_eq!(*guarded.get().expect("it is built"), 1);
        let child = Forked::start(|_| {
            assert_eq!(*guarded.get().expect("it is rebuilt"), 2);
        });
        child.finish();
        assert_eq!(*guarded.get().expect("it is there"), 1);
    });
}

/// No handler hears of it. A glance still shows the parent's number, until the child asks.
fn mark_changes_in_a_bare_clone_although_the_advice_is_lost(_: &Subject) {
    in_a_restored_process(|| {
        let parent = uniqueness();
        let number = fork::process();
        let child = Forked::start_with(bare_clone, |_| {
            assert_ne!(ProcessWide.mark(), parent);
            assert_ne!(fork::process(), number);
            expect_new(parent);
        });
        child.finish();
        assert_eq!(ProcessWide.mark(), parent);
        assert_eq!(fork::process(), number);
    });
}

fn advice_is_given_again_when_a_change_is_seen(subject: &Subject) {
    in_a_restored_process(|| {
        subject.restore();
        let parent = ProcessWide.mark();
        Forked::start_with(bare_clone, |_| expect_new(parent)).finish();
        // And by a probe, in a process that looks at nothing else.
        let probe = sysgenid::Probe::open_at(&subject.page).expect("it can be opened");
        lose_the_advice();
        subject.restore();
        let parent = probe.mark();
        let child = Forked::start_with(bare_clone, |_| assert_ne!(probe.glance(), parent));
        child.finish();
    });
}

/// So that the kernel does it before any handler of another library comes.
fn advice_is_given_again_before_a_fork(_: &Subject) {
    in_a_restored_process(|| {
        let parent = uniqueness();
        Forked::start(|_| {}).finish();
        Forked::start_with(bare_clone, |_| expect_new(parent)).finish();
    });
}

fn watcher_of_a_forked_child_is_refused_although_the_advice_is_lost(_: &Subject) {
    // SAFETY: The child ends, and runs nothing of the parent's.
    in_a_restored_process(|| expect_refused(|| unsafe { libc::fork() }));
}

fn watcher_of_a_bare_clone_is_refused_although_the_advice_is_lost(_: &Subject) {
    in_a_restored_process(|| expect_refused(bare_clone));
}

/// A child neither acknowledges for its parent nor takes what its parent is told.
fn expect_refused(fork: impl FnOnce() -> libc::pid_t) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let _broker = sysgenid_broker::spawn(folder.path()).expect("it serves");
    let watcher = Watcher::open_at(folder.path()).expect("it can be opened");
    let orchestrator = Orchestrator::open_at(folder.path()).expect("it can be opened");
    let generation = orchestrator.trigger().expect("it is the owner's");
    let child = Forked::start_with(fork, |_| {
        let results = [
            watcher.try_changed().map(drop),
            watcher.acknowledge(generation),
            watcher.set_tracking(false),
            watcher.probe().map(drop),
            adapter::reconnector(&watcher).map(drop),
            orchestrator.trigger().map(drop),
            orchestrator.acknowledge().map(drop),
            orchestrator.stragglers().map(drop),
        ];
        for (call, result) in results.into_iter().enumerate() {
            assert!(result.is_err_and(|error| error.is_forked()), "{call}");
        }
    });
    child.finish();
    assert_eq!(watcher.try_changed().expect("it serves"), Some(generation));
    let stragglers = orchestrator.stragglers().expect("it is the owner's");
    assert_eq!(stragglers.len(), 1, "{stragglers:?}");
}

/// Neither takes the other for a copy.
fn child_that_shares_memory_is_told_so_when_it_asks(_: &Subject) {
    let parent = ProcessWide.mark();
    let number = fork::process();
    for flags in [VFORK, libc::CLONE_VM] {
        assert_eq!(
            in_a_clone(flags, || ProcessWide.mark()),
            parent,
            "{flags:#x}"
        );
        assert_eq!(in_a_clone(flags, fork::process), number, "{flags:#x}");
        assert_eq!(ProcessWide.mark(), parent, "{flags:#x}");
        assert_eq!(fork::process(), number, "{flags:#x}");
    }
}
