// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any source that has watchers, by the SDK.

use std::cell::RefCell;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sysgenid::{Orchestrator, Probe, Source, SourceKind};
use sysgenid_sys::abi::Dialect;

use super::device::{Counts, Device, Waited, Watcher};
use crate::background::PATIENCE;
use crate::typed::{Subject, number};

pub(super) struct Sdk {
    subject: Subject,
    /// For triggers; its own watcher is untracked where that can be, else it acknowledges.
    orchestrator: RefCell<Orchestrator>,
    probe: Probe,
}

impl Sdk {
    pub(super) fn new(subject: &Subject) -> Self {
        let orchestrator = subject.orchestrator();
        let probe = orchestrator.watcher().probe();
        Self {
            subject: subject.clone(),
            orchestrator: RefCell::new(orchestrator),
            probe: probe.expect("a probe can be opened"),
        }
    }

    /// How many watchers are its own, and how many of them are tracked.
    fn own(&self) -> (usize, usize) {
        match (
            self.probe.source().map(Source::kind),
            self.subject.dialect(),
        ) {
            // The probe is of the orchestrator's own file.
            (_, Dialect::V5) => (1, 1),
            // The probe's mapping is an open file.
            (Some(SourceKind::Device), _) => (2, 0),
            _ => (1, 0),
        }
    }
}

impl Device for Sdk {
    fn can_untrack(&self) -> bool {
        self.subject.dialect() != Dialect::V5
    }

    fn open(&self, tracked: bool) -> Box<dyn Watcher> {
        // An orchestrator, because only that can wait for the others.
        let orchestrator = self.subject.orchestrator();
        if tracked {
            orchestrator
                .watcher()
                .set_tracking(true)
                .expect("tracking can be set");
        }
        Box::new(orchestrator)
    }

    fn trigger(&self, min: u32) -> u32 {
        let orchestrator = self.orchestrator.borrow_mut();
        let triggered = orchestrator.trigger_at_least(min);
        if !self.can_untrack() {
            orchestrator.acknowledge().expect("it can acknowledge");
        }
        number(triggered.expect("its owner may trigger"))
    }

    fn page(&self) -> u32 {
        number(self.probe.generation())
    }

    fn counts(&self) -> Option<Counts> {
        let source = Source::at(self.subject.path()).expect("it is there");
        let status = source.status(PATIENCE).expect("it answers");
        let count = |number: u32| usize::try_from(number).expect("it is small");
        let (total, tracked) = self.own();
        status.watchers.map(|watchers| Counts {
            total: count(watchers.total) - total,
            tracked: count(watchers.tracked) - tracked,
            outdated: count(watchers.outdated),
        })
    }
}

impl Watcher for Orchestrator {
    fn read(&self) -> Option<u32> {
        let changed = self.watcher().try_changed().expect("it can be asked");
        changed.map(number)
    }

    fn is_ready(&self) -> bool {
        let mut fds = [PollFd::new(self.watcher(), PollFlags::IN)];
        poll(
            &mut fds,
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            }),
        )
        .expect("poll");
        fds[0].revents().contains(PollFlags::IN)
    }

    fn acknowledge(&self, generation: u32) -> bool {
        match self.watcher().acknowledge(generation.into()) {
            Ok(()) => true,
            Err(error) if error.is_stale() => false,
            Err(error) => panic!("acknowledge: {error}"),
        }
    }

    fn set_tracking(&self, tracked: bool) {
        self.watcher()
            .set_tracking(tracked)
            .expect("tracking can be set");
    }

    fn wait(&mut self, timeout: Duration) -> Waited {
        match self.wait_for_watchers(timeout) {
            Ok(_) => Waited::Done,
            Err(error) if error.is_outdated() => Waited::Outdated,
            Err(error) if error.is_timeout() => Waited::TimedOut,
            Err(error) => panic!("wait_for_watchers: {error}"),
        }
    }
}
