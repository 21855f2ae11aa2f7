// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What an orchestrator changes for all watchers: the generation, and the phase.

use std::sync::atomic::{Ordering, fence};

use sysgenid_sys::slot::Left;
use sysgenid_sys::wire::{Answer, Cause, Payload, Reason, Request};

use super::connection::ConnectionId;
use super::{Handled, State, now};
use crate::Error;
use crate::model::{Ended, Occasion};

/// Who has been told of a change.
#[must_use]
struct Told {
    /// Those who map the page, unless this is an error.
    stored: Result<(), Error>,
    /// Waits that are over by it.
    ended: Vec<Ended>,
    /// Watchers that could not be told.
    not_told: Vec<ConnectionId>,
}

impl State {
    /// Changes the generation because a client asks for it.
    pub(super) fn trigger(&mut self, id: ConnectionId, request: &Request) -> Handled {
        let [min, cause] = request.arguments;
        let occasion = Occasion {
            cause: match Cause(cause) {
                Cause::NONE => Cause::TRIGGER,
                cause => cause,
            },
            time: now(),
            payload: request.payload,
        };
        let told = self.change(min, occasion);
        // If it is not stored the client must not take the trigger for done. `Watch::look` reports
        // why.
        let status = told.stored.map_or(Answer::NotStored, |()| Answer::Ok);
        let handled = self.reply(id, request, status);
        self.settle(told.ended, told.not_told);
        handled
    }

    /// Changes the generation because a follower has announced a restore.
    pub(crate) fn restored(&mut self, cause: Cause) {
        // What was acknowledged before counts, as before a trigger.
        self.catch_up();
        let occasion = Occasion {
            cause,
            time: now(),
            payload: Payload::EMPTY,
        };
        // `Watch::look` reports what was not stored, and the next change stores it.
        let told = self.change(0, occasion);
        self.settle(told.ended, told.not_told);
    }

    /// Changes the generation, for the page, the watchers and those who wait.
    fn change(&mut self, min: u32, occasion: Occasion) -> Told {
        let before = Left::of(self.model.generation());
        let ended = self.model.trigger(min, occasion);
        let generation = self.model.generation();
        // In this order: a client that finds the generation in the page finds its slot emptied,
        // and one that is notified finds the generation in the page.
        for (_, connection) in self.connections.iter_mut() {
            if let Some(watcher) = connection.watcher_mut() {
                // Who has acknowledged has read the notice.
                watcher.is_told &= watcher.slot.reset(generation) != before;
            }
        }
        let stored = self.page.store(generation);
        // Its partner is the fence in `Slot::acknowledge`: a client that acknowledges the generation
        // of before now sees the new one in the page, or is seen here.
        fence(Ordering::SeqCst);
        let notice = self.notice();
        let mut not_told = Vec::new();
        for (id, connection) in self.connections.iter_mut() {
            let Some(watcher) = connection.watcher_mut() else {
                continue;
            };
            let has_read = !watcher.is_told || watcher.slot.acknowledged() == before;
            let is_to_be_told = has_read || watcher.tell_again || watcher.parks;
            if is_to_be_told && !connection.notify(&notice) {
                not_told.push(id);
            }
        }
        self.suspect_all();
        Told {
            stored,
            ended,
            not_told,
        }
    }

    /// What is left to do once the client that asked for the change has its reply.
    fn settle(&mut self, ended: Vec<Ended>, not_told: Vec<ConnectionId>) {
        self.tell(ended);
        self.refuse_all(not_told);
        self.await_straggler();
    }

    /// Closes the connections of watchers that could not be told.
    fn refuse_all(&mut self, ids: Vec<ConnectionId>) {
        for id in ids {
            self.refuse(id, Reason::NotReading, 0, 0);
        }
    }

    pub(super) fn set_phase(&mut self, id: ConnectionId, request: &Request) -> Handled {
        let Some(phase) = request.phase() else {
            return self.reply(id, request, Answer::Invalid);
        };
        let number = self.model.phase_number();
        let ended = self.model.set_phase(phase);
        let mut not_told = Vec::new();
        if self.model.phase_number() != number {
            let notice = self.notice();
            for (id, connection) in self.connections.iter_mut() {
                let watcher = connection.watcher();
                // Also where a notice is unread: it may be read by an acknowledgement of the
                // generation, which says nothing of the phase.
                let is_to_be_told =
                    watcher.is_some_and(|watcher| self.model.is_unparked(watcher.id));
                if is_to_be_told && !connection.notify(&notice) {
                    not_told.push(id);
                }
            }
        }
        let handled = self.reply(id, request, Answer::Ok);
        self.tell(ended);
        self.refuse_all(not_told);
        handled
    }
}
