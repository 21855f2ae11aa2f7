// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is kept of a client.

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::io::Errno;
use sysgenid_sys::internal::socket::{Peer, unread};
use sysgenid_sys::slot::Slot;
use sysgenid_sys::wire::Notice;

use crate::model::{WaitId, WatcherId};
use crate::process::Process;
use crate::socket;

/// A connection's number. Never used twice, so that a late event is not taken for another's.
pub(crate) type ConnectionId = u64;

/// What a client may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Watch,
    /// It came over the control socket, and is the owner's or root's.
    Control,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) socket: OwnedFd,
    pub(super) role: Role,
    pub(super) peer: Peer,
    /// The owner and root: not limited beside what fits.
    pub(super) is_privileged: bool,
    pub(super) use_of: Use,
    /// A request of it is held. Those after it keep their order by not being read.
    pub(super) is_held: bool,
    /// When it is closed if it does nothing until then.
    pub(super) idle_at: Instant,
    /// It is among those that are looked at for that.
    pub(super) is_timed: bool,
}

/// What a connection is used for.
#[derive(Debug)]
pub(super) enum Use {
    Questions,
    /// It waits: which wait, and the sequence number of the request.
    Wait(WaitId, u32),
    Watcher(Watcher),
}

#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) id: WatcherId,
    pub(super) slot: Slot,
    /// The process that opened it, from which alone acknowledgements are taken.
    pub(super) owner: Process,
    /// A notice may be unread: sent, and no acknowledgement seen since.
    pub(super) is_told: bool,
    /// The next notice is to be sent although one may be unread.
    pub(super) tell_again: bool,
    /// It has two things to acknowledge, so that what it has read says little.
    pub(super) parks: bool,
    /// It is among those that may be stragglers.
    pub(super) is_suspect: bool,
    /// The bytes that were unread right after the opening, while the client may have the descriptors of
    /// that to read. Packets are read in their order, so less than this means that it has read them.
    pub(super) unread_opening: Option<u32>,
}

impl Connection {
    pub(crate) fn new(
        socket: OwnedFd,
        role: Role,
        peer: Peer,
        is_privileged: bool,
        idle_at: Instant,
    ) -> Self {
        Self {
            socket,
            role,
            peer,
            is_privileged,
            use_of: Use::Questions,
            is_held: false,
            idle_at,
            is_timed: false,
        }
    }

    pub(super) fn watcher(&self) -> Option<&Watcher> {
        match &self.use_of {
            Use::Watcher(watcher) => Some(watcher),
            Use::Questions | Use::Wait(..) => None,
        }
    }

    pub(super) fn watcher_mut(&mut self) -> Option<&mut Watcher> {
        match &mut self.use_of {
            Use::Watcher(watcher) => Some(watcher),
            Use::Questions | Use::Wait(..) => None,
        }
    }

    /// Notes that the client has an opening to read: after its reply, and once more after a notice
    /// that comes with it. A notice is no longer than the reply, so if no more is unread with the
    /// notice than without, the client has read the reply.
    pub(super) fn note_opening(&mut self, before: u32) -> Option<u32> {
        let bytes = unread(&self.socket).ok().filter(|bytes| *bytes > before);
        if let Some(watcher) = self.watcher_mut() {
            watcher.unread_opening = bytes;
        }
        bytes
    }

    /// How much is unread while the client may still have the descriptors of its opening to read.
    pub(super) fn unread_opening(&mut self) -> Option<u32> {
        let opening = self.watcher()?.unread_opening?;
        if is_unread(&self.socket, opening) {
            return Some(opening);
        }
        if let Some(watcher) = self.watcher_mut() {
            watcher.unread_opening = None;
        }
        None
    }

    /// Makes the connection of a watcher readable. Whether that can be said: if not, the connection is
    /// to be closed, so that the client sees its end and is told when it comes back.
    #[must_use = "a watcher that was not told would sleep on"]
    pub(super) fn notify(&mut self, notice: &Notice) -> bool {
        // Before a notice takes the place of what was read.
        let _ = self.unread_opening();
        let sent = socket::send(&self.socket, &notice.encode());
        let Some(watcher) = self.watcher_mut() else {
            return true;
        };
        watcher.tell_again = false;
        watcher.is_told = match sent {
            Ok(()) => true,
            // A queue that is full is readable already, and the page shows the generation. Of the
            // phase nothing but a notice tells.
            Err(Errno::AGAIN) => !watcher.parks,
            Err(_) => false,
        };
        watcher.is_told
    }
}

/// Whether the client has yet to read an opening with which so much was unread.
pub(super) fn is_unread(socket: &OwnedFd, opening: u32) -> bool {
    unread(socket).map_or(true, |bytes| bytes >= opening)
}
