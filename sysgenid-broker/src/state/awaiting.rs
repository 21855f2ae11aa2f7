// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who may be a straggler, and which of them is asked to tell.
//!
//! A client leaves its acknowledgement in its slot, which tells the broker nothing. While a client
//! waits, only one straggler is asked to tell as well, since no wait is over without it; when it is
//! none any more, the next one is asked. So of many that acknowledge at once few wake the broker, and
//! a slot is looked at once for each change, however many requests come meanwhile.

use sysgenid_sys::slot::Left;

use super::{ConnectionId, State};
use crate::model::Awaited;

/// Suspects that are kept although they may be none any more.
const SLACK: usize = 64;

/// Every tracked watcher that is outdated, and some that were.
#[derive(Debug, Default)]
pub(super) struct Suspects(Vec<ConnectionId>);

impl State {
    /// A watcher may be a straggler from now on.
    pub(super) fn suspect(&mut self, id: ConnectionId) {
        if !self.is_straggler(id) {
            return;
        }
        let Some(watcher) = self.watcher_mut(id) else {
            return;
        };
        if std::mem::replace(&mut watcher.is_suspect, true) {
            return;
        }
        self.suspects.0.push(id);
        // Closed watchers are left in the list; at most every second entry is such a one.
        if self.suspects.0.len() > 2 * self.model.outdated() + SLACK {
            self.catch_up();
        }
    }

    /// Every tracked watcher is a straggler from now on.
    pub(super) fn suspect_all(&mut self) {
        self.suspects.0.clear();
        for (id, connection) in self.connections.iter_mut() {
            let Some(watcher) = connection.watcher_mut() else {
                continue;
            };
            watcher.is_suspect = self.model.is_tracked(watcher.id);
            if watcher.is_suspect {
                self.suspects.0.push(id);
            }
        }
    }

    /// Reads the slots of all that would be taken for stragglers.
    pub(super) fn catch_up(&mut self) {
        let mut suspects = std::mem::take(&mut self.suspects.0);
        suspects.retain(|&id| {
            self.read_slot(id);
            let is_straggler = self.is_straggler(id);
            if let Some(watcher) = self.watcher_mut(id) {
                watcher.is_suspect = is_straggler;
            }
            is_straggler
        });
        self.suspects.0 = suspects;
    }

    /// If a client waits, has one of the stragglers tell when it acknowledges.
    pub(super) fn await_straggler(&mut self) {
        if self.model.waits_for(Awaited::Generation) > 0 {
            self.find_straggler(true);
        }
    }

    /// Finds out whether there is a straggler: forgets the suspects that are none, up to the first
    /// that is one.
    pub(super) fn find_straggler(&mut self, is_awaited: bool) {
        while let Some(&id) = self.suspects.0.last() {
            // Most have acknowledged by the time that it is their turn.
            self.read_slot(id);
            if is_awaited && self.is_straggler(id) {
                if let Some(watcher) = self.watcher(id) {
                    watcher.slot.set_awaited(true);
                }
                // Left before the client could see that.
                self.read_slot(id);
            }
            if self.is_straggler(id) {
                return;
            }
            self.suspects.0.pop();
            if let Some(watcher) = self.watcher_mut(id) {
                watcher.is_suspect = false;
            }
        }
    }

    /// Reads the acknowledgement that a client has left in its slot.
    pub(super) fn read_slot(&mut self, id: ConnectionId) {
        let Some(watcher) = self.watcher(id) else {
            return;
        };
        let (number, left) = (watcher.id, watcher.slot.acknowledged());
        let current = self.model.generation();
        // What is not of the current generation was left before it came.
        if !self.model.is_outdated(number) || left != Left::of(current) {
            return;
        }
        if let Some(watcher) = self.watcher_mut(id) {
            watcher.is_told = false;
        }
        let ended = self.model.acknowledge(number, current);
        self.tell(ended.unwrap_or_default());
    }

    fn is_straggler(&self, id: ConnectionId) -> bool {
        self.watcher(id).is_some_and(|watcher| {
            self.model.is_tracked(watcher.id) && self.model.is_outdated(watcher.id)
        })
    }
}
