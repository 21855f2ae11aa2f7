// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The model with its connections: what each request does, and who is told.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use sysgenid_sys::page::CounterPageMut;
use sysgenid_sys::slot::Slot;
use sysgenid_sys::wire::{
    OPEN_RESUME, OPEN_TRACKED, Op, Reply, Request, Status, Straggler, StragglerPage,
};

use crate::model::{Ended, Model, Outcome, Wait, WatcherId};
use crate::process;
use crate::signal::Signal;
use crate::socket::{self, Peer};

/// A connection's number. Never used twice, so that a late event is not taken for another's.
pub(crate) type ConnectionId = u64;

/// Which socket a client connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Watch,
    Control,
}

#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    role: Role,
    pid: u32,
    watcher: Option<Watcher>,
    /// Sequence number of the wait that is pending.
    wait: u32,
    /// A request of it is held. Those after it keep their order by not being read.
    held: bool,
    /// Came when descriptors had run out: it can be answered, but not become a watcher.
    guest: bool,
}

#[derive(Debug)]
struct Watcher {
    id: WatcherId,
    signal: Signal,
    slot: Slot,
}

impl Connection {
    pub(crate) fn new(socket: OwnedFd, role: Role, peer: Peer, guest: bool) -> Self {
        Self {
            socket,
            role,
            pid: peer.pid,
            watcher: None,
            wait: 0,
            held: false,
            guest,
        }
    }
}

/// How a request was dealt with.
pub(crate) enum Handled {
    Yes,
    /// It asks for the whole state, so it is answered once everything sent before it is read.
    Hold,
    /// The connection is to be closed.
    Close,
}

#[derive(Debug)]
pub(crate) struct State {
    model: Model,
    page: CounterPageMut,
    page_reader: OwnedFd,
    /// In the order in which they came, which is that of their signals.
    connections: BTreeMap<ConnectionId, Connection>,
    by_watcher: HashMap<WatcherId, ConnectionId>,
    /// While somebody waits: those who may be stragglers. Only the last of them is asked to tell,
    /// since no wait is over without it, and when it is none any more, the one before it. So of
    /// many who acknowledge at once few wake the broker.
    awaited: Vec<ConnectionId>,
    last: ConnectionId,
}

impl State {
    pub(crate) fn new(page: CounterPageMut, page_reader: OwnedFd, first: ConnectionId) -> Self {
        Self {
            model: Model::new(page.load()),
            page,
            page_reader,
            connections: BTreeMap::new(),
            by_watcher: HashMap::new(),
            awaited: Vec::new(),
            last: first,
        }
    }

    pub(crate) fn next_id(&mut self) -> ConnectionId {
        self.last = self.last.saturating_add(1);
        self.last
    }

    pub(crate) fn insert(&mut self, id: ConnectionId, connection: Connection) {
        self.connections.insert(id, connection);
    }

    /// The connection's socket, if it is to be read.
    pub(crate) fn readable(&self, id: ConnectionId) -> Option<&OwnedFd> {
        let connection = self.connections.get(&id)?;
        (!connection.held).then_some(&connection.socket)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Closes a connection: its watcher is gone, and those who waited for it are told.
    pub(crate) fn close(&mut self, id: ConnectionId) {
        let ended = self.remove(id);
        self.tell(ended);
        self.await_last();
    }

    /// Does what a request asks for, except for one that must be held.
    pub(crate) fn handle(&mut self, id: ConnectionId, request: Request) -> Handled {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Handled::Yes;
        };
        let watcher = connection.watcher.as_ref().map(|watcher| watcher.id);
        let control = connection.role == Role::Control;
        match (request.op, watcher) {
            (Op::Open, None) => self.open(id, request),
            (Op::Acknowledge, Some(watcher)) => self.acknowledge(id, watcher, request),
            (Op::SetTracking, Some(watcher)) => self.set_tracking(id, watcher, request),
            (Op::Wait, Some(watcher)) => self.wait(id, watcher, request),
            (Op::CancelWait, Some(watcher)) => {
                self.model.cancel_wait(watcher);
                Handled::Yes
            }
            (Op::Status, _) => hold(connection),
            (Op::Trigger | Op::Stragglers, _) if control => hold(connection),
            (Op::Trigger, _) => self.reply(id, request, Status::Denied),
            (Op::Stragglers, _) => self.send(id, &self.no_stragglers(request).encode()),
            (Op::Open, Some(_)) | (Op::SetTracking | Op::Wait, None) => {
                self.reply(id, request, Status::Invalid)
            }
            // There is no reply in which to say so.
            (Op::Acknowledge | Op::CancelWait, None) => Handled::Close,
        }
    }

    /// Answers a request that was held.
    pub(crate) fn answer(&mut self, id: ConnectionId, request: Request) {
        match self.connections.get_mut(&id) {
            Some(connection) => connection.held = false,
            None => return,
        }
        self.catch_up();
        let handled = match request.op {
            Op::Trigger => self.trigger(id, request),
            Op::Stragglers => {
                let page = self.stragglers(request);
                self.send(id, &page.encode())
            }
            _ => self.reply(id, request, Status::Ok),
        };
        if matches!(handled, Handled::Close) {
            self.close(id);
        }
    }

    fn open(&mut self, id: ConnectionId, request: Request) -> Handled {
        let [flags, acknowledged] = request.arguments;
        if flags & !(OPEN_TRACKED | OPEN_RESUME) != 0 {
            return self.reply(id, request, Status::Invalid);
        }
        let Some(connection) = self.connections.get_mut(&id) else {
            return Handled::Close;
        };
        let (Ok((signal, clients_end)), Ok((slot, slot_file)), false) =
            (Signal::new(), Slot::create(), connection.guest)
        else {
            return self.reply(id, request, Status::Full);
        };
        slot.reset(self.model.generation());
        let resume = (flags & OPEN_RESUME != 0).then_some(acknowledged);
        let watcher = self.model.open(flags & OPEN_TRACKED != 0, resume);
        if self.model.is_outdated(watcher) {
            signal.raise();
        }
        self.by_watcher.insert(watcher, id);

        let reply = reply(&self.model, request.op, request.sequence, Status::Ok);
        let descriptors = [
            clients_end.as_fd(),
            self.page_reader.as_fd(),
            slot_file.as_fd(),
        ];
        let sent = socket::send_with(&connection.socket, &reply.encode(), &descriptors);
        connection.watcher = Some(Watcher {
            id: watcher,
            signal,
            slot,
        });
        if sent == Err(Errno::TOOMANYREFS) {
            // Clients have not read their descriptors yet, and these would be too many.
            let ended = self.forget_watcher(id);
            self.tell(ended);
            return self.reply(id, request, Status::Full);
        }
        self.await_stragglers();
        handled(sent)
    }

    /// An acknowledgement that somebody waits for, or one that the client knows to be stale: it has
    /// emptied the signal that it must get again.
    fn acknowledge(&mut self, id: ConnectionId, watcher: WatcherId, request: Request) -> Handled {
        let [generation, _] = request.arguments;
        let acknowledged = self.model.acknowledge(watcher, generation);
        let nobody_waits = self.model.waiters() == 0;
        if let Some(watcher) = self.watcher(id) {
            if acknowledged.is_err() {
                watcher.signal.raise();
            }
            if nobody_waits || acknowledged.is_ok() {
                watcher.slot.set_awaited(false);
            }
        }
        self.tell(acknowledged.unwrap_or_default());
        self.await_last();
        Handled::Yes
    }

    fn set_tracking(&mut self, id: ConnectionId, watcher: WatcherId, request: Request) -> Handled {
        let tracked = match request.arguments {
            [0, _] => false,
            [1, _] => true,
            _ => return self.reply(id, request, Status::Invalid),
        };
        self.read_slot(id);
        let ended = self.model.set_tracking(watcher, tracked);
        let handled = self.reply(id, request, Status::Ok);
        self.tell(ended.unwrap_or_default());
        self.await_stragglers();
        handled
    }

    fn wait(&mut self, id: ConnectionId, watcher: WatcherId, request: Request) -> Handled {
        self.read_slot(id);
        self.catch_up();
        match self.model.wait(watcher) {
            Ok(Wait::Ended(outcome)) => self.reply(id, request, status(outcome)),
            Ok(Wait::Busy) => self.reply(id, request, Status::Busy),
            Ok(Wait::Pending) => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.wait = request.sequence;
                }
                self.await_stragglers();
                Handled::Yes
            }
            Err(_) => self.reply(id, request, Status::Invalid),
        }
    }

    fn trigger(&mut self, id: ConnectionId, request: Request) -> Handled {
        let [min, _] = request.arguments;
        let ended = self.model.trigger(min);
        let generation = self.model.generation();
        // In this order: a client that finds the generation in the page finds its slot emptied,
        // and one that is signalled finds the generation in the page.
        for watcher in self.watchers() {
            watcher.slot.reset(generation);
        }
        self.page.store(generation);
        for watcher in self.watchers() {
            watcher.signal.raise();
        }
        let handled = self.reply(id, request, Status::Ok);
        self.tell(ended);
        handled
    }

    fn stragglers(&self, request: Request) -> StragglerPage {
        let [low, high] = request.arguments;
        let after = u64::from(high) << 32 | u64::from(low);
        let mut page = self.no_stragglers(request);
        page.status = Status::Ok;
        let stragglers = self.model.stragglers(WatcherId::from_number(after));
        for (entry, straggler) in page.entries.iter_mut().zip(stragglers) {
            let pid = self
                .by_watcher
                .get(&straggler.watcher)
                .and_then(|id| self.connections.get(id))
                .map_or(0, |connection| connection.pid);
            *entry = Straggler {
                watcher: straggler.watcher.number(),
                pid,
                acknowledged: straggler.acknowledged,
                command: process::command(pid),
            };
            page.count += 1;
        }
        page
    }

    fn no_stragglers(&self, request: Request) -> StragglerPage {
        StragglerPage {
            sequence: request.sequence,
            status: Status::Denied,
            generation: self.model.generation(),
            count: 0,
            entries: [Straggler::default(); StragglerPage::CAPACITY],
        }
    }

    fn watchers(&self) -> impl Iterator<Item = &Watcher> {
        self.connections
            .values()
            .filter_map(|it| it.watcher.as_ref())
    }

    fn watcher(&self, id: ConnectionId) -> Option<&Watcher> {
        self.connections.get(&id)?.watcher.as_ref()
    }

    /// Reads the acknowledgement that a client has left in its slot.
    fn read_slot(&mut self, id: ConnectionId) {
        let Some(watcher) = self.watcher(id) else {
            return;
        };
        let (watcher, left) = (watcher.id, watcher.slot.acknowledged());
        if self.model.is_outdated(watcher) {
            // What is not of the current generation was left before it came.
            let ended = self.model.acknowledge(watcher, left);
            self.tell(ended.unwrap_or_default());
        }
    }

    /// Reads the slots of all who would be taken for stragglers: a client that acknowledges tells
    /// nobody unless somebody waits.
    fn catch_up(&mut self) {
        for id in self.stragglers_connections() {
            self.read_slot(id);
        }
    }

    /// If somebody waits, has one of the stragglers tell when it acknowledges.
    fn await_stragglers(&mut self) {
        if self.model.waiters() > 0 {
            self.awaited = self.stragglers_connections();
            self.await_last();
        }
    }

    fn await_last(&mut self) {
        if self.model.waiters() == 0 {
            self.awaited.clear();
        }
        while let Some(&id) = self.awaited.last() {
            // Most have acknowledged by the time that it is their turn.
            self.read_slot(id);
            if self.is_straggler(id) {
                if let Some(watcher) = self.watcher(id) {
                    watcher.slot.set_awaited(true);
                }
                // Left before the client could see that.
                self.read_slot(id);
            }
            if self.is_straggler(id) {
                return;
            }
            self.awaited.pop();
        }
    }

    fn is_straggler(&self, id: ConnectionId) -> bool {
        self.watcher(id).is_some_and(|watcher| {
            self.model.is_tracked(watcher.id) && self.model.is_outdated(watcher.id)
        })
    }

    fn stragglers_connections(&self) -> Vec<ConnectionId> {
        let stragglers = self.model.stragglers(WatcherId::from_number(0));
        stragglers
            .filter_map(|it| self.by_watcher.get(&it.watcher).copied())
            .collect()
    }

    fn reply(&self, id: ConnectionId, request: Request, status: Status) -> Handled {
        let reply = reply(&self.model, request.op, request.sequence, status);
        self.send(id, &reply.encode())
    }

    /// A client that has not read so much that this does not fit is closed: nobody waits for it.
    fn send(&self, id: ConnectionId, packet: &[u8]) -> Handled {
        match self.connections.get(&id) {
            Some(connection) => handled(socket::send(&connection.socket, packet)),
            None => Handled::Yes,
        }
    }

    fn remove(&mut self, id: ConnectionId) -> Vec<Ended> {
        let ended = self.forget_watcher(id);
        self.connections.remove(&id);
        ended
    }

    fn forget_watcher(&mut self, id: ConnectionId) -> Vec<Ended> {
        let connection = self.connections.get_mut(&id);
        let Some(watcher) = connection.and_then(|connection| connection.watcher.take()) else {
            return Vec::new();
        };
        self.by_watcher.remove(&watcher.id);
        self.model.close(watcher.id)
    }

    /// Tells those whose wait has ended. One who cannot be told is closed, which may end more.
    fn tell(&mut self, mut ended: Vec<Ended>) {
        while let Some(Ended { watcher, outcome }) = ended.pop() {
            let Some((&id, connection)) = self
                .by_watcher
                .get(&watcher)
                .and_then(|id| self.connections.get_key_value(id))
            else {
                continue;
            };
            let reply = reply(&self.model, Op::Wait, connection.wait, status(outcome));
            if socket::send(&connection.socket, &reply.encode()).is_err() {
                ended.extend(self.remove(id));
            }
        }
    }
}

fn reply(model: &Model, op: Op, sequence: u32, status: Status) -> Reply {
    let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
    Reply {
        op,
        sequence,
        status,
        generation: model.generation(),
        watchers: count(model.watchers()),
        tracked: count(model.tracked()),
        outdated: count(model.outdated()),
    }
}

fn status(outcome: Outcome) -> Status {
    match outcome {
        Outcome::Done => Status::Ok,
        Outcome::Outdated => Status::Outdated,
    }
}

fn hold(connection: &mut Connection) -> Handled {
    connection.held = true;
    Handled::Hold
}

fn handled(sent: Result<(), Errno>) -> Handled {
    match sent {
        Ok(()) => Handled::Yes,
        Err(_) => Handled::Close,
    }
}
