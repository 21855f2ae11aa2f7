// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel driver's node, by system calls.

use std::time::Duration;

use rustix::io::Errno;
use sysgenid_sys::abi::Dialect;

use super::device::{Counts, Device, Waited, Watcher};
use crate::raw::{Node, OpenFile};

impl Device for Node {
    fn can_untrack(&self) -> bool {
        self.dialect() != Dialect::V5
    }

    fn open(&self, tracked: bool) -> Box<dyn Watcher> {
        let file = Node::open(self);
        if tracked {
            file.ensure_tracked();
        }
        Box::new(file)
    }

    fn trigger(&self, min: u32) -> u32 {
        self.bump_to(min)
    }

    fn page(&self) -> u32 {
        self.generation()
    }

    fn counts(&self) -> Option<Counts> {
        if !self.sysfs().join("watchers").exists() {
            return None;
        }
        let count = |name| usize::try_from(self.number(name)).expect("it is small");
        Some(Counts {
            total: count("watchers"),
            tracked: count("tracked_watchers"),
            outdated: count("outdated_watchers"),
        })
    }
}

impl Watcher for OpenFile {
    fn read(&self) -> Option<u32> {
        match OpenFile::read(self) {
            Ok(generation) => Some(generation),
            Err(Errno::AGAIN) => None,
            Err(errno) => panic!("read: {errno}"),
        }
    }

    fn is_ready(&self) -> bool {
        self.is_outdated()
    }

    fn acknowledge(&self, generation: u32) -> bool {
        match OpenFile::acknowledge(self, generation) {
            Ok(()) => true,
            Err(Errno::INVAL) => false,
            Err(errno) => panic!("write: {errno}"),
        }
    }

    fn set_tracking(&self, tracked: bool) {
        if tracked {
            self.ensure_tracked();
        } else {
            self.track(false);
        }
    }

    fn wait(&mut self, timeout: Duration) -> Waited {
        let ms = u32::try_from(timeout.as_millis()).expect("it is short");
        match OpenFile::wait(self, ms) {
            Ok(()) => Waited::Done,
            Err(Errno::INTR) => Waited::Outdated,
            Err(Errno::TIME) => Waited::TimedOut,
            Err(errno) => panic!("SYSGENID_WAIT_WATCHERS: {errno}"),
        }
    }
}
