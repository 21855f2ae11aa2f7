// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What this project's driver tells, and the shipped ones do not: a few lines in `/proc` of each
//! descriptor, and attributes.

use std::fs;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, stat};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::CapabilitySet;
use sysgenid::{Orchestrator, Probe, Source, Watcher};
use sysgenid_sys::abi::Dialect;

use super::Subject;
use super::device_only::open_node;
use crate::background::PATIENCE;
use crate::capability::keep;
use crate::cases;
use crate::child::{Child, Role};
use crate::raw::{Mapping, Request, ioctls};

cases! { Subject;
    straggler_of_several_descriptors_is_named_once_for_each_process,
    stragglers_that_may_not_be_seen_are_counted,
    straggler_that_is_only_mapped_is_counted,
    status_names_the_dialect_and_the_backend,
    status_needs_no_access_to_the_node,
    reader_of_the_node_may_probe_unless_it_would_be_waited_for,
}

/// Whoever has the open file could acknowledge; how many descriptors of it they have says nothing.
fn straggler_of_several_descriptors_is_named_once_for_each_process(subject: &Subject) {
    let file = open_node(subject, OFlags::RDWR | OFlags::NONBLOCK);
    let inherited = file.try_clone().expect("it can be duplicated");
    let _duplicate = file.try_clone().expect("it can be duplicated");
    let watcher = Watcher::from_fd(file).unwrap();
    watcher.set_tracking(true).unwrap();
    let child = Child::start(Role::Hold, inherited);
    assert_eq!(child.said(), "ok");
    let orchestrator = change_and_acknowledge(subject);

    let mut pids: Vec<_> = orchestrator
        .stragglers()
        .unwrap()
        .into_iter()
        .map(|straggler| straggler.pid)
        .collect();
    pids.sort_unstable();
    let mut expected = [Some(std::process::id()), Some(child.pid())];
    expected.sort_unstable();
    assert_eq!(pids, expected);
    watcher.acknowledge(watcher.generation()).unwrap();
    assert_eq!(orchestrator.stragglers().unwrap(), []);
}

/// The processes of others are closed to who has no rights: a list that is too short is no error,
/// and the number says that it is too short.
fn stragglers_that_may_not_be_seen_are_counted(subject: &Subject) {
    let child = Child::start_on(Role::HoldWatcher, subject.path());
    assert_eq!(child.said(), "ok");
    let orchestrator = change_and_acknowledge(subject);
    assert_eq!(orchestrator.stragglers().unwrap().len(), 1);
    std::thread::scope(|scope| {
        let other_user = scope.spawn(|| {
            let nobody = rustix::fs::Uid::from_raw(65_534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).expect("root may do so");
            // Who changes the user is closed to all but root then, on 5.10 even to itself.
            set_dumpable_behavior(DumpableBehavior::Dumpable).expect("it may be open again");
            (orchestrator.stragglers(), outdated(subject))
        });
        let (stragglers, outdated) = other_user.join().expect("it does not panic");
        assert_eq!(stragglers.unwrap(), []);
        assert_eq!(outdated, 1);
    });
}

/// No descriptor leads to it any more.
fn straggler_that_is_only_mapped_is_counted(subject: &Subject) {
    let file = open_node(subject, OFlags::RDWR | OFlags::NONBLOCK);
    if subject.dialect() != Dialect::V5 {
        ioctls::set_watcher_tracking(&file, subject.dialect(), true).unwrap();
    }
    let page = Mapping::new(&file, Request::default()).expect("it can be mapped");
    drop(file);
    let orchestrator = change_and_acknowledge(subject);
    assert_eq!(orchestrator.stragglers().unwrap(), []);
    assert_eq!(outdated(subject), 1);
    drop(page);
    assert_eq!(outdated(subject), 0);
}

/// As the driver says them.
fn status_names_the_dialect_and_the_backend(subject: &Subject) {
    let status = status(subject);
    assert_eq!(status.dialect, Some(subject.dialect()));
    let node = stat(subject.path()).expect("the node is there").st_rdev;
    let (major, minor) = (rustix::fs::major(node), rustix::fs::minor(node));
    let said = fs::read_to_string(format!("/sys/dev/char/{major}:{minor}/backend"));
    let backend = status.backend.expect("this driver tells").to_string();
    assert_eq!(said.expect("it can be read"), backend + "\n");
}

/// A monitor reads what everybody may.
fn status_needs_no_access_to_the_node(subject: &Subject) {
    let node = Node::with_mode(subject, Mode::empty());
    let generation = subject.change();
    keep(CapabilitySet::empty());
    let error = Watcher::open_at(node.path()).unwrap_err();
    assert!(error.is_permission(), "{error}");
    let status = Source::at(node.path()).unwrap().status(PATIENCE).unwrap();
    assert_eq!(status.generation, generation);
    assert!(status.watchers.is_some());
}

/// A descriptor for reading does not tell the dialect; the driver says it elsewhere.
fn reader_of_the_node_may_probe_unless_it_would_be_waited_for(subject: &Subject) {
    let node = Node::with_mode(subject, Mode::RUSR);
    let orchestrator = subject.orchestrator();
    let opened = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            keep(CapabilitySet::empty());
            assert!(Watcher::open_at(node.path()).unwrap_err().is_permission());
            Probe::open_at(node.path())
        });
        reader.join().expect("the reader does not panic")
    });
    let generation = orchestrator.trigger().unwrap();
    orchestrator.acknowledge().unwrap();
    match subject.dialect() {
        Dialect::V5 => assert!(opened.unwrap_err().is_unsupported()),
        _ => assert_eq!(opened.unwrap().generation(), generation),
    }
    orchestrator.wait_for_watchers(PATIENCE).unwrap();
}

/// Another node of the same device, with a mode of its own.
struct Node(tempfile::TempDir);

impl Node {
    fn with_mode(subject: &Subject, mode: Mode) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let device = stat(subject.path()).expect("the node is there").st_rdev;
        let node = Self(folder);
        mknodat(CWD, node.path(), FileType::CharacterDevice, mode, device)
            .expect("root may make a node");
        node
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("node")
    }
}

/// An orchestrator that is up to date after a change.
fn change_and_acknowledge(subject: &Subject) -> Orchestrator {
    let orchestrator = subject.orchestrator();
    orchestrator.trigger().expect("its owner may trigger");
    orchestrator.acknowledge().expect("it can acknowledge");
    orchestrator
}

fn status(subject: &Subject) -> sysgenid::Status {
    let source = Source::at(subject.path()).expect("it is there");
    source.status(PATIENCE).expect("it answers")
}

fn outdated(subject: &Subject) -> u32 {
    status(subject)
        .watchers
        .expect("this driver tells")
        .outdated
}
