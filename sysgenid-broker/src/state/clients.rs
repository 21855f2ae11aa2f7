// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Taking clients, and letting go of those that do nothing or leave something behind.

use std::cmp::Reverse;
use std::os::fd::OwnedFd;
use std::time::Instant;

use sysgenid_sys::internal::socket::Peer;
use sysgenid_sys::wire::{IDLE_SECONDS, Reason, Refusal};

use super::connection::{Connection, Use, is_unread};
use super::{ConnectionId, IDLE, LeftUnread, Role, State};
use crate::socket;

/// Memory that must be there before a client is taken, far more than what one takes. Allocations that
/// fail later would end the process.
const SPARE_MEMORY: usize = 64 << 10;
/// And so much for each that is there already: the lists that are made of all of them, such as that of
/// the stragglers and that of the requests that are held.
const SPARE_MEMORY_EACH: usize = 2 << 10;
/// Rounded up to a multiple of this. The allocator writes behind what it gives, and to a page that is new
/// each time, which then stays resident, if the size always differs.
const SPARE_MEMORY_STEP: usize = 256 << 10;

impl State {
    /// Takes a client. One that is turned away is told why.
    pub(crate) fn admit(
        &mut self,
        socket: OwnedFd,
        peer: Peer,
        role: Role,
    ) -> Option<ConnectionId> {
        let is_privileged = peer.uid == self.owner || peer.uid == 0;
        // The socket's file mode keeps the others out, which its owner can change. Those are clients
        // as others are, and are told that they may not.
        let role = if is_privileged { role } else { Role::Watch };
        let closing = self.retirement.left_of(peer.uid);
        let taken = self.reserve_memory().and_then(|()| {
            self.limits
                .take(peer.uid, role, is_privileged, closing as u64)
        });
        if let Err((reason, limit)) = taken {
            self.turn_away(socket, peer.uid, reason, limit);
            return None;
        }
        // The owner's requests may come in a row, before any answer is read.
        if role == Role::Watch {
            // Else it is bounded by what the kernel allows, which is more.
            let _ = socket::limit_unread(&socket);
        }
        let idle_at = Instant::now() + IDLE;
        let connection = Connection::new(socket, role, peer, is_privileged, idle_at);
        let id = self.connections.insert(connection);
        match id {
            Some(id) if role == Role::Watch => self.time(id),
            Some(_) => {}
            None => self.limits.give_back(peer.uid, role),
        }
        id
    }

    /// Closes a connection that was never taken, and tells the client why.
    pub(crate) fn turn_away(&mut self, socket: OwnedFd, uid: u32, reason: Reason, limit: u64) {
        let refusal = Refusal::new(reason, 0).with_limit(limit);
        socket::send_last(&socket, &refusal, self.retirement.closes_at_once());
        self.retirement.retire(socket, uid);
    }

    /// Closes every connection, without a refusal.
    pub(crate) fn discard_all(&mut self) {
        let connections = std::mem::take(&mut self.connections);
        for connection in connections.into_all() {
            let uid = connection.peer.uid;
            self.retirement.retire(connection.socket, uid);
        }
    }

    /// Makes sure that what a client takes can be had, because the allocations themselves cannot
    /// fail without ending the process.
    pub(super) fn reserve_memory(&mut self) -> Result<(), (Reason, u64)> {
        let mut spare = Vec::<u8>::new();
        let bytes = SPARE_MEMORY + SPARE_MEMORY_EACH * self.connections.len();
        let reserved = spare.try_reserve_exact(bytes.next_multiple_of(SPARE_MEMORY_STEP));
        // A compiler may leave out memory that is not used.
        std::hint::black_box(&spare);
        drop(spare);
        let tables = self
            .by_watcher
            .try_reserve(1)
            .and_then(|()| self.by_wait.try_reserve(1));
        match (reserved, tables, self.idle.try_reserve(1)) {
            (Ok(()), Ok(()), Ok(())) => Ok(()),
            _ => Err((Reason::Exhausted, 0)),
        }
    }

    /// When the next connection may be idle.
    pub(crate) fn next_idle(&self) -> Option<Instant> {
        let idle = self.idle.peek().map(|&Reverse((at, _))| at);
        [idle, self.left_unread_at].into_iter().flatten().min()
    }

    /// Closes the connections that are not watchers and did nothing for long.
    pub(crate) fn close_idle(&mut self, now: Instant) {
        if self.left_unread_at.is_some_and(|at| at <= now) {
            self.release_read();
            self.left_unread_at = (!self.left_unread.is_empty()).then_some(now + IDLE);
        }
        while let Some(&Reverse((at, id))) = self.idle.peek().filter(|it| it.0.0 <= now) {
            self.idle.pop();
            let Some(connection) = self.connections.get_mut(id) else {
                continue;
            };
            connection.is_timed = false;
            match connection.use_of {
                // Whoever waits or watches has nothing to do. After a wait it is timed again.
                Use::Wait(..) | Use::Watcher(_) => {}
                Use::Questions if connection.is_held => {
                    connection.idle_at = now + IDLE;
                    self.time(id);
                }
                Use::Questions if connection.idle_at > at => self.time(id),
                Use::Questions => self.refuse(id, Reason::Idle, 0, u64::from(IDLE_SECONDS)),
            }
        }
    }

    /// From now on the connection is closed when it is idle. Those of the control socket are not: they
    /// take up only their owner's room.
    pub(super) fn time(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if !std::mem::replace(&mut connection.is_timed, true) {
            self.idle.push(Reverse((connection.idle_at, id)));
        }
    }

    /// Whether a user may have more watchers whose descriptors are unread.
    pub(super) fn has_read_descriptors(&mut self, uid: u32) -> bool {
        let limit = self.limits.unread;
        if self.unread_of(uid) >= limit {
            self.release_read();
            let connections = &mut self.connections;
            self.limits.unread_of(uid).retain(|&id| {
                let connection = connections.get_mut(id);
                connection.is_some_and(|it| it.unread_opening().is_some())
            });
        }
        self.unread_of(uid) < limit
    }

    pub(super) fn unread_of(&mut self, uid: u32) -> usize {
        let closed = self.left_unread.iter().filter(|left| left.uid == uid);
        closed.count() + self.limits.unread_of(uid).len()
    }

    /// Closes the connections that had ended before their descriptors were read, as far as they were
    /// read by now.
    pub(super) fn release_read(&mut self) {
        let all = std::mem::take(&mut self.left_unread);
        let (left, read): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|it| is_unread(&it.socket, it.opening));
        self.left_unread = left;
        for LeftUnread { socket, uid, .. } in read {
            self.limits.give_back(uid, Role::Watch);
            self.retirement.retire(socket, uid);
        }
    }
}
