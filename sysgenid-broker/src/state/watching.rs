// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a watcher asks for on its own connection.

use std::os::fd::AsFd;

use rustix::io::Errno;
use sysgenid_sys::slot::Slot;
use sysgenid_sys::wire::{Answer, Awaited, OPEN_PARKS, OPEN_RESUME, OPEN_TRACKED, Reason, Request};

use super::connection::{ConnectionId, Use, Watcher};
use super::{Handled, State};
use crate::model::WatcherId;
use crate::process::Process;
use crate::socket;

impl State {
    pub(super) fn open(&mut self, id: ConnectionId, request: &Request, sender: u32) -> Handled {
        let [flags, acknowledged] = request.arguments;
        if flags & !(OPEN_TRACKED | OPEN_RESUME | OPEN_PARKS) != 0 {
            return self.reply(id, request, Answer::Invalid);
        }
        let Some(connection) = self.connections.get(id) else {
            return Handled::Close;
        };
        // One that waits is not to lose its wait, nor the wait its connection.
        if matches!(connection.use_of, Use::Wait(..)) {
            return self.reply(id, request, Answer::Invalid);
        }
        let (uid, is_privileged) = (connection.peer.uid, connection.is_privileged);
        if !is_privileged && !self.has_read_descriptors(uid) {
            return Handled::Refuse(Reason::Unread, self.limits.unread as u64);
        }
        let (Ok(()), Ok((slot, slot_file))) = (self.reserve_memory(), Slot::create()) else {
            return Handled::Refuse(Reason::Exhausted, 0);
        };
        let _ = slot.reset(self.model.generation());
        let resume = (flags & OPEN_RESUME != 0).then_some(acknowledged);
        let number = self.model.open(flags & OPEN_TRACKED != 0, resume);
        if flags & OPEN_PARKS != 0 {
            let _ = self.model.set_parking(number);
        }
        self.by_watcher.insert(number, id);

        let mut reply = self.reply_to(request, Answer::Ok);
        reply.watcher = number.number();
        let must_look = self.model.is_outdated(number) || self.model.is_unparked(number);
        let notice = self.notice();
        let Some(connection) = self.connections.get_mut(id) else {
            return Handled::Close;
        };
        let descriptors = [self.page.reader(), slot_file.as_fd()];
        let sent = socket::send_with(&connection.socket, &reply.encode(), &descriptors);
        connection.use_of = Use::Watcher(Watcher {
            id: number,
            slot,
            owner: Process::with_pid(sender),
            is_told: false,
            tell_again: false,
            parks: flags & OPEN_PARKS != 0,
            is_suspect: false,
            unread_opening: None,
        });
        match sent {
            Ok(()) => {}
            // Clients have not read their descriptors yet, and these would be too many.
            Err(Errno::TOOMANYREFS) => return Handled::Refuse(Reason::Unread, 0),
            Err(_) => return Handled::Close,
        }
        let opening = connection.note_opening(0);
        if must_look {
            if !connection.notify(&notice) {
                return Handled::Refuse(Reason::NotReading, 0);
            }
            if let Some(before) = opening {
                connection.note_opening(before);
            }
        }
        if !is_privileged {
            self.limits.unread_of(uid).push_back(id);
        }
        self.suspect(id);
        self.await_straggler();
        Handled::Yes
    }

    /// An acknowledgement that a client waits for, or one that is known to be stale: its client has
    /// read a notice, and must get it again.
    pub(super) fn acknowledge(
        &mut self,
        id: ConnectionId,
        watcher: WatcherId,
        request: &Request,
    ) -> Handled {
        let [generation, _] = request.arguments;
        let acknowledged = self.model.acknowledge(watcher, generation);
        let nobody_waits = self.model.waits_for(Awaited::Generation) == 0;
        let notice = self.notice();
        if let Some(connection) = self.connections.get_mut(id) {
            match &acknowledged {
                Ok(_) => {
                    if let Some(watcher) = connection.watcher_mut() {
                        watcher.is_told = false;
                    }
                }
                Err(_) if connection.notify(&notice) => {}
                Err(_) => return Handled::Refuse(Reason::NotReading, 0),
            }
            if nobody_waits || acknowledged.is_ok() {
                if let Some(watcher) = connection.watcher() {
                    watcher.slot.set_awaited(false);
                }
            }
        }
        self.tell(acknowledged.unwrap_or_default());
        self.await_straggler();
        Handled::Yes
    }

    pub(super) fn set_tracking(
        &mut self,
        id: ConnectionId,
        watcher: WatcherId,
        request: &Request,
    ) -> Handled {
        let tracked = match request.arguments {
            [0, _] => false,
            [1, _] => true,
            _ => return Handled::Refuse(Reason::Malformed, 0),
        };
        self.read_slot(id);
        let ended = self.model.set_tracking(watcher, tracked);
        self.tell(ended.unwrap_or_default());
        self.suspect(id);
        self.await_straggler();
        Handled::Yes
    }

    pub(super) fn notify_again(&mut self, id: ConnectionId, request: &Request) -> Handled {
        let [seen, _] = request.arguments;
        let notice = self.notice();
        if let Some(connection) = self.connections.get_mut(id) {
            if seen != notice.generation {
                if !connection.notify(&notice) {
                    return Handled::Refuse(Reason::NotReading, 0);
                }
            } else if let Some(watcher) = connection.watcher_mut() {
                watcher.tell_again = true;
            }
        }
        Handled::Yes
    }

    pub(super) fn acknowledge_phase(
        &mut self,
        id: ConnectionId,
        watcher: WatcherId,
        request: &Request,
    ) -> Handled {
        let [number, _] = request.arguments;
        match self.model.acknowledge_phase(watcher, number) {
            Ok(ended) => self.tell(ended),
            // Of a phase that was. Whatever the client has read, it is told of this one again.
            Err(_) => {
                let notice = self.notice();
                let connection = self.connections.get_mut(id);
                if connection.is_some_and(|connection| !connection.notify(&notice)) {
                    return Handled::Refuse(Reason::NotReading, 0);
                }
            }
        }
        Handled::Yes
    }
}
