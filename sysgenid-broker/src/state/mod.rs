// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The model with its connections: what each request does, and who is told.

mod awaiting;
mod changing;
mod clients;
mod connection;
mod connections;
mod limits;
mod listing;
mod watching;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant, SystemTime};

use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use sysgenid_sys::wire::{
    Answer, Awaited, Followers, IDLE_SECONDS, Notice, Op, Reason, Refusal, Reply, Request,
};

use self::awaiting::Suspects;
use self::connection::{Connection, Use, Watcher};
pub(crate) use self::connection::{ConnectionId, Role};
use self::connections::Connections;
pub(crate) use self::limits::CONTROL_ROOM;
use self::limits::Limits;
use crate::directory::Page;
use crate::model::{Ended, Model, Outcome, Wait, WaitId, WatcherId};
use crate::retire::Retirement;
use crate::socket;

/// How long a connection that is not a watcher may do nothing.
const IDLE: Duration = Duration::from_secs(IDLE_SECONDS as u64);

/// How a request was dealt with.
pub(crate) enum Handled {
    Yes,
    /// It asks for the state of others, so it is answered once everything sent before it is read.
    Hold,
    /// The connection is to be closed.
    Close,
    /// The same, and the client is told why.
    Refuse(Reason, u64),
}

/// What a broker keeps for itself, and what it may use.
#[derive(Debug)]
pub(crate) struct Room {
    /// How many connections there may be beside those of the control socket.
    pub(crate) capacity: u64,
    /// The limit of open files.
    pub(crate) descriptors: u64,
    /// Clients cannot send descriptors.
    pub(crate) descriptors_are_refused: bool,
}

#[derive(Debug)]
pub(crate) struct State {
    model: Model,
    page: Page,
    /// Its owner, who may do everything, as root may.
    owner: u32,
    /// What announces restores, and what has failed.
    followers: Followers,
    failed: Followers,
    connections: Connections,
    by_watcher: HashMap<WatcherId, ConnectionId>,
    by_wait: HashMap<WaitId, ConnectionId>,
    suspects: Suspects,
    limits: Limits,
    /// Connections that are not watchers, by when they are idle.
    idle: BinaryHeap<Reverse<(Instant, ConnectionId)>>,
    /// Connections that have ended before the client had read the descriptors of its opening, and when
    /// to look whether it has.
    left_unread: Vec<LeftUnread>,
    left_unread_at: Option<Instant>,
    retirement: Retirement,
}

#[derive(Debug)]
struct LeftUnread {
    socket: OwnedFd,
    uid: u32,
    opening: u32,
}

impl State {
    pub(crate) fn new(page: Page, owner: u32, room: &Room) -> Self {
        Self {
            model: Model::new(page.generation()),
            page,
            owner,
            followers: Followers::NONE,
            failed: Followers::NONE,
            connections: Connections::default(),
            by_watcher: HashMap::new(),
            by_wait: HashMap::new(),
            suspects: Suspects::default(),
            limits: Limits::new(room.capacity, room.descriptors),
            idle: BinaryHeap::new(),
            left_unread: Vec::new(),
            left_unread_at: None,
            retirement: Retirement::new(room.descriptors_are_refused),
        }
    }

    pub(crate) fn page_mut(&mut self) -> &mut Page {
        &mut self.page
    }

    /// From now on these announce restores.
    pub(crate) fn set_followers(&mut self, followers: Followers) {
        (self.followers, self.failed) = (followers, Followers::NONE);
    }

    /// One of them does so no more. Returns those that are left.
    pub(crate) fn follower_failed(&mut self, follower: Followers) -> Followers {
        self.followers = self.followers.without(follower);
        self.failed = self.failed.with(follower);
        self.followers
    }

    /// As on a kernel that cannot refuse descriptors.
    #[cfg(test)]
    pub(crate) fn expect_descriptors(&mut self) {
        self.retirement = Retirement::new(false);
    }

    /// The connection's socket, if it is to be read.
    pub(crate) fn readable(&self, id: ConnectionId) -> Option<&OwnedFd> {
        let connection = self.connections.get(id)?;
        (!connection.is_held).then_some(&connection.socket)
    }

    /// From now on several requests of a connection are read at once, so that what was sent before a
    /// question is.
    pub(crate) fn begin_sweep(&mut self) {
        self.limits.begin_sweep();
    }

    pub(crate) fn end_sweep(&mut self) {
        self.limits.end_sweep();
    }

    /// Whether one more request of a connection may be read before the next has its turn.
    pub(crate) fn may_take_another(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.get(id) else {
            return false;
        };
        connection.is_privileged || *self.limits.others_of(connection.peer.uid) > 0
    }

    /// One more was read.
    pub(crate) fn took_another(&mut self, id: ConnectionId) {
        let connection = self.connections.get(id);
        if let Some(connection) = connection.filter(|it| !it.is_privileged) {
            let others = self.limits.others_of(connection.peer.uid);
            *others = others.saturating_sub(1);
        }
    }

    pub(crate) fn socket(&self, id: ConnectionId) -> Option<&OwnedFd> {
        Some(&self.connections.get(id)?.socket)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Whether the connection is the owner's or root's.
    pub(crate) fn is_privileged(&self, id: ConnectionId) -> bool {
        self.connections.get(id).is_some_and(|it| it.is_privileged)
    }

    /// Closes a connection: its watcher is gone, and those who waited for it are told.
    pub(crate) fn close(&mut self, id: ConnectionId) {
        let ended = self.remove(id);
        self.tell(ended);
        self.await_straggler();
    }

    /// Closes a connection and tells the client why.
    pub(crate) fn refuse(&mut self, id: ConnectionId, reason: Reason, sequence: u32, limit: u64) {
        if let Some(connection) = self.connections.get(id) {
            let refusal = Refusal::new(reason, sequence).with_limit(limit);
            let closes_at_once = self.retirement.closes_at_once();
            socket::send_last(&connection.socket, &refusal, closes_at_once);
        }
        self.close(id);
    }

    /// Does what a request asks for, except for one that must be held.
    pub(crate) fn handle(&mut self, id: ConnectionId, request: &Request, sender: u32) -> Handled {
        let Some(connection) = self.connections.get_mut(id) else {
            return Handled::Yes;
        };
        let control = connection.role == Role::Control;
        if let Use::Watcher(watcher) = &connection.use_of {
            // A forked child has the connection as well, and has handled nothing.
            let is_owner = watcher.owner.pid() == sender;
            let watcher = watcher.id;
            return match request.op {
                Op::Notify => self.notify_again(id, request),
                Op::Acknowledge if is_owner => self.acknowledge(id, watcher, request),
                Op::SetTracking if is_owner => self.set_tracking(id, watcher, request),
                Op::AcknowledgePhase if is_owner => self.acknowledge_phase(id, watcher, request),
                Op::Acknowledge | Op::SetTracking | Op::AcknowledgePhase => Handled::Yes,
                _ => Handled::Refuse(Reason::Malformed, 0),
            };
        }
        connection.idle_at = Instant::now() + IDLE;
        match request.op {
            Op::Open if control => self.reply(id, request, Answer::Invalid),
            Op::Open => self.open(id, request, sender),
            Op::Status | Op::Wait => hold(connection),
            Op::Trigger | Op::Stragglers | Op::SetPhase if control => hold(connection),
            Op::Trigger | Op::SetPhase => self.reply(id, request, Answer::Denied),
            Op::Stragglers => self.send(id, &self.no_stragglers(request).encode()),
            // There is no reply in which to say so.
            Op::Acknowledge | Op::SetTracking | Op::Notify | Op::AcknowledgePhase => {
                Handled::Refuse(Reason::Malformed, 0)
            }
        }
    }

    /// Answers requests that were held.
    pub(crate) fn answer(&mut self, due: Vec<(ConnectionId, Request)>) {
        // Once for all of them: it takes a look at each straggler. A wait looks up to the first.
        if due.iter().any(|(_, request)| request.op != Op::Wait) {
            self.catch_up();
        }
        for (id, request) in due {
            match self.connections.get_mut(id) {
                Some(connection) => connection.is_held = false,
                None => continue,
            }
            let handled = match request.op {
                Op::Trigger => self.trigger(id, &request),
                Op::SetPhase => self.set_phase(id, &request),
                Op::Wait => self.wait(id, &request),
                Op::Stragglers => {
                    let page = self.stragglers(&request);
                    self.send(id, &page.encode())
                }
                _ => self.reply(id, &request, Answer::Ok),
            };
            match handled {
                Handled::Close => self.close(id),
                Handled::Refuse(reason, limit) => self.refuse(id, reason, request.sequence, limit),
                Handled::Yes | Handled::Hold => {}
            }
        }
    }

    fn wait(&mut self, id: ConnectionId, request: &Request) -> Handled {
        let (Some(awaited), Some(connection)) = (request.awaited(), self.connections.get(id))
        else {
            return self.reply(id, request, Answer::Invalid);
        };
        if matches!(connection.use_of, Use::Wait(..)) {
            return self.reply(id, request, Answer::Invalid);
        }
        let own = match request.watcher {
            0 => None,
            number => {
                let number = WatcherId::from_number(number);
                let own = self.by_watcher.get(&number).copied();
                // Whether a watcher is outdated is told to its own user only.
                let is_own = own
                    .and_then(|own| self.connections.get(own))
                    .is_some_and(|own| own.peer.uid == connection.peer.uid);
                let Some(own) = own.filter(|_| is_own) else {
                    return self.reply(id, request, Answer::Invalid);
                };
                self.read_slot(own);
                Some(number)
            }
        };
        if awaited == Awaited::Generation {
            self.find_straggler(false);
        }
        if self.reserve_memory().is_err() {
            return Handled::Refuse(Reason::Exhausted, 0);
        }
        let answer = match self.model.wait(own, awaited) {
            Ok(Wait::Ended(outcome)) => answer_of(outcome),
            Ok(Wait::Pending(wait)) => {
                if let Some(connection) = self.connections.get_mut(id) {
                    connection.use_of = Use::Wait(wait, request.sequence);
                    self.by_wait.insert(wait, id);
                }
                self.await_straggler();
                // It may have ended by that, and the client has its reply.
                if !self.by_wait.contains_key(&wait) {
                    return Handled::Yes;
                }
                Answer::Pending
            }
            Err(_) => Answer::Invalid,
        };
        self.reply(id, request, answer)
    }

    fn notice(&self) -> Notice {
        let occasion = self.model.occasion();
        Notice {
            generation: self.model.generation(),
            cause: occasion.cause,
            time: occasion.time,
            phase: self.model.phase(),
            phase_number: self.model.phase_number(),
        }
    }

    fn watcher(&self, id: ConnectionId) -> Option<&Watcher> {
        self.connections.get(id)?.watcher()
    }

    fn watcher_mut(&mut self, id: ConnectionId) -> Option<&mut Watcher> {
        self.connections.get_mut(id)?.watcher_mut()
    }

    fn reply(&self, id: ConnectionId, request: &Request, answer: Answer) -> Handled {
        self.send(id, &self.reply_to(request, answer).encode())
    }

    fn reply_to(&self, request: &Request, answer: Answer) -> Reply {
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        let model = &self.model;
        let occasion = model.occasion();
        Reply {
            op: request.op,
            sequence: request.sequence,
            answer,
            generation: model.generation(),
            watcher: 0,
            watchers: count(model.watchers()),
            tracked: count(model.tracked()),
            outdated: count(model.outdated()),
            parking: count(model.parking()),
            unparked: count(model.unparked()),
            phase: model.phase(),
            phase_number: model.phase_number(),
            cause: occasion.cause,
            time: occasion.time,
            followers: self.followers,
            failed: self.failed,
            payload: occasion.payload,
        }
    }

    /// A client that has not read so much that this does not fit is closed: nobody waits for it.
    fn send(&self, id: ConnectionId, packet: &[u8]) -> Handled {
        match self.connections.get(id) {
            Some(connection) => match socket::send(&connection.socket, packet) {
                Ok(()) => Handled::Yes,
                Err(Errno::AGAIN | Errno::NOBUFS) => Handled::Refuse(Reason::NotReading, 0),
                Err(_) => Handled::Close,
            },
            None => Handled::Yes,
        }
    }

    fn remove(&mut self, id: ConnectionId) -> Vec<Ended> {
        let Some(mut connection) = self.connections.remove(id) else {
            return Vec::new();
        };
        let uid = connection.peer.uid;
        let opening = connection.unread_opening();
        let opening = opening.filter(|_| !connection.is_privileged);
        let ended = match &connection.use_of {
            Use::Questions => Vec::new(),
            Use::Wait(wait, _) => {
                self.by_wait.remove(wait);
                self.model.cancel_wait(*wait);
                Vec::new()
            }
            Use::Watcher(watcher) => {
                self.by_watcher.remove(&watcher.id);
                self.model.close(watcher.id)
            }
        };
        match opening {
            // The kernel goes on counting the descriptors as the broker's until the client reads them
            // or closes its end. So the connection counts until then.
            Some(opening) => {
                let socket = connection.socket;
                let _ = shutdown(&socket, Shutdown::Both);
                self.left_unread.push(LeftUnread {
                    socket,
                    uid,
                    opening,
                });
                let at = Instant::now() + IDLE;
                self.left_unread_at.get_or_insert(at);
            }
            None => {
                self.limits.give_back(uid, connection.role);
                self.retirement.retire(connection.socket, uid);
            }
        }
        ended
    }

    /// Tells those whose wait has ended. One who cannot be told is closed, which may end more.
    fn tell(&mut self, mut ended: Vec<Ended>) {
        while let Some(Ended { wait, outcome }) = ended.pop() {
            let Some(id) = self.by_wait.remove(&wait) else {
                continue;
            };
            let Some(connection) = self.connections.get_mut(id) else {
                continue;
            };
            let Use::Wait(_, sequence) = connection.use_of else {
                continue;
            };
            let role = connection.role;
            connection.use_of = Use::Questions;
            connection.idle_at = Instant::now() + IDLE;
            let request = Request::new(Op::Wait, sequence);
            match self.reply(id, &request, answer_of(outcome)) {
                Handled::Yes | Handled::Hold if role == Role::Watch => self.time(id),
                Handled::Yes | Handled::Hold => {}
                Handled::Close | Handled::Refuse(..) => ended.extend(self.remove(id)),
            }
        }
    }
}

fn answer_of(outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Done => Answer::Ok,
        Outcome::Outdated => Answer::Outdated,
    }
}

fn hold(connection: &mut Connection) -> Handled {
    connection.is_held = true;
    Handled::Hold
}

/// Nanoseconds since the Unix epoch; 0 if the clock is before it or beyond what fits.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since
        .ok()
        .and_then(|since| u64::try_from(since.as_nanos()).ok())
        .unwrap_or(0)
}
