// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One of the threads.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::Shared;
use crate::random::Random;
use crate::raw::Mapping;

pub(super) struct Worker<'a> {
    pub(super) shared: &'a Shared,
    pub(super) random: Random,
    pub(super) epoll: OwnedFd,
    /// The last generation that this thread saw, anywhere.
    last: Option<u32>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(shared: &'a Shared, random: Random) -> Self {
        Self {
            shared,
            random,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll can be had"),
            last: None,
        }
    }

    pub(super) fn run(&mut self, deadline: Instant) {
        let operations = &self.shared.operations;
        let total = operations.iter().map(|operation| operation.weight).sum();
        while Instant::now() < deadline {
            let mut number = self.random.below(total);
            for (operation, count) in operations.iter().zip(&self.shared.counts) {
                if number < operation.weight {
                    if (operation.run)(self) {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    break;
                }
                number -= operation.weight;
            }
        }
    }

    /// An open file, whatever others do with it.
    pub(super) fn file(&mut self) -> Option<Arc<OwnedFd>> {
        self.file_slot().clone()
    }

    pub(super) fn file_slot(&mut self) -> MutexGuard<'a, Option<Arc<OwnedFd>>> {
        lock(self.random.pick(&self.shared.files))
    }

    /// A mapping, which nobody else uses meanwhile. The page behind it is everybody's.
    pub(super) fn mapping_slot(&mut self) -> MutexGuard<'a, Option<Mapping>> {
        lock(self.random.pick(&self.shared.mappings))
    }

    /// Notes that a call returned what it must not: neither success nor one of these errors.
    pub(super) fn check<T>(
        &self,
        call: &str,
        result: Result<T, Errno>,
        allowed: &[Errno],
    ) -> Option<T> {
        match result {
            Ok(value) => return Some(value),
            Err(errno) if allowed.contains(&errno) => {}
            Err(errno) => self.shared.fault(format!("{call}: {errno:?}")),
        }
        None
    }

    /// Notes a generation that goes back. Nothing here lets it wrap.
    pub(super) fn saw(&mut self, generation: u32) {
        match self.last {
            Some(last) if generation < last => {
                self.shared
                    .fault(format!("{generation} was seen after {last}"));
            }
            _ => self.last = Some(generation),
        }
    }

    pub(super) fn last_seen(&self) -> u32 {
        self.last.unwrap_or(0)
    }
}

fn lock<T>(slot: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in a slot is whole at any time.
    slot.lock().unwrap_or_else(|held| held.into_inner())
}
