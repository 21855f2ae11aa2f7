// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A client that shares no code with the SDK.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, sendmsg, socket_with,
};
use sysgenid_sys::page::CounterPage;
use sysgenid_sys::slot::Slot;
use sysgenid_sys::wire::{
    CONTROL_SOCKET, OPEN_RESUME, OPEN_TRACKED, Op, Reply, Request, Status, StragglerPage,
    WATCH_SOCKET,
};

/// Longer than anything takes; a broker that does not answer fails the test.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Client {
    pub(crate) socket: OwnedFd,
    sequence: u32,
}

/// What a packet was, or that the broker has closed the connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    Reply(Reply),
    Stragglers(Box<StragglerPage>),
    Closed,
}

impl Client {
    pub(crate) fn watch(dir: &Path) -> Self {
        Self::connect(dir, WATCH_SOCKET).expect("connect to the watch socket")
    }

    pub(crate) fn control(dir: &Path) -> Self {
        Self::connect(dir, CONTROL_SOCKET).expect("connect to the control socket")
    }

    pub(crate) fn connect(dir: &Path, name: &str) -> Result<Self, Errno> {
        let socket = socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        connect(&socket, &SocketAddrUnix::new(dir.join(name))?)?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Sends a request and returns its sequence number.
    pub(crate) fn send(&mut self, op: Op, arguments: [u32; 2]) -> u32 {
        self.try_send(op, arguments).expect("send")
    }

    pub(crate) fn try_send(&mut self, op: Op, arguments: [u32; 2]) -> Result<u32, Errno> {
        self.sequence += 1;
        let request = Request {
            op,
            sequence: self.sequence,
            arguments,
        };
        self.send_bytes(&request.encode())?;
        Ok(self.sequence)
    }

    pub(crate) fn send_bytes(&self, packet: &[u8]) -> Result<(), Errno> {
        sendmsg(
            &self.socket,
            &[IoSlice::new(packet)],
            &mut SendAncillaryBuffer::default(),
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        )
        .map(drop)
    }

    /// The next packet, with the descriptors that came along.
    pub(crate) fn receive(&self) -> (Packet, Vec<OwnedFd>) {
        assert!(
            readable(&self.socket, PATIENCE),
            "the broker does not answer"
        );
        let mut packet = [0; StragglerPage::LEN];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut packet)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        );
        let length = match received {
            Ok(message) => message.bytes,
            Err(Errno::CONNRESET) => 0,
            Err(error) => panic!("receive: {error}"),
        };
        let descriptors = ancillary
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .collect();
        let packet = match length {
            0 => Packet::Closed,
            Reply::LEN => Packet::Reply(Reply::decode(&packet[..length]).expect("a reply")),
            _ => Packet::Stragglers(Box::new(
                StragglerPage::decode(&packet[..length]).expect("a page of stragglers"),
            )),
        };
        (packet, descriptors)
    }

    pub(crate) fn reply(&self) -> Reply {
        match self.receive().0 {
            Packet::Reply(reply) => reply,
            other => panic!("not a reply: {other:?}"),
        }
    }

    pub(crate) fn call(&mut self, op: Op, arguments: [u32; 2]) -> Reply {
        let sequence = self.send(op, arguments);
        let reply = self.reply();
        assert_eq!((reply.op, reply.sequence), (op, sequence));
        reply
    }

    pub(crate) fn status(&mut self) -> Reply {
        self.call(Op::Status, [0, 0])
    }

    pub(crate) fn trigger(&mut self, min: u32) -> Reply {
        self.call(Op::Trigger, [min, 0])
    }

    pub(crate) fn stragglers(&mut self, after: u64) -> StragglerPage {
        let [low, high] = [after & 0xffff_ffff, after >> 32].map(|half| half as u32);
        self.send(Op::Stragglers, [low, high]);
        match self.receive().0 {
            Packet::Stragglers(page) => *page,
            other => panic!("not a page of stragglers: {other:?}"),
        }
    }

    /// Whether nothing has come for a moment.
    pub(crate) fn is_quiet(&self) -> bool {
        !readable(&self.socket, Duration::from_millis(50))
    }

    pub(crate) fn is_closed_by_broker(&self) -> bool {
        self.receive().0 == Packet::Closed
    }

    pub(crate) fn into_watcher(mut self, flags: u32, acknowledged: u32) -> Result<Watcher, Reply> {
        self.send(Op::Open, [flags, acknowledged]);
        let (Packet::Reply(reply), descriptors) = self.receive() else {
            panic!("not a reply to the opening");
        };
        if reply.status != Status::Ok {
            assert!(
                descriptors.is_empty(),
                "descriptors of a watcher that is none"
            );
            return Err(reply);
        }
        let [signal, page, slot] = descriptors.try_into().expect("three descriptors");
        Ok(Watcher {
            client: self,
            signal,
            map: Page(CounterPage::map(&page).expect("map the page")),
            slot: Slot::map(&slot).expect("map the slot"),
            page,
            opened: reply,
        })
    }
}

/// A connection that is a watcher.
pub(crate) struct Watcher {
    pub(crate) client: Client,
    pub(crate) signal: OwnedFd,
    pub(crate) page: OwnedFd,
    pub(crate) map: Page,
    pub(crate) slot: Slot,
    pub(crate) opened: Reply,
}

/// The broker's page, whose counter has 32 bits.
pub(crate) struct Page(CounterPage);

impl Page {
    pub(crate) fn load(&self) -> u32 {
        self.0.load().try_into().expect("a counter of 32 bits")
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stale;

impl Watcher {
    pub(crate) fn tracked(dir: &Path) -> Self {
        Client::watch(dir)
            .into_watcher(OPEN_TRACKED, 0)
            .expect("open")
    }

    pub(crate) fn untracked(dir: &Path) -> Self {
        Client::watch(dir).into_watcher(0, 0).expect("open")
    }

    pub(crate) fn resumed(dir: &Path, acknowledged: u32) -> Self {
        Client::watch(dir)
            .into_watcher(OPEN_TRACKED | OPEN_RESUME, acknowledged)
            .expect("open")
    }

    pub(crate) fn is_readable(&self) -> bool {
        readable(&self.signal, Duration::ZERO)
    }

    pub(crate) fn wait_readable(&self) {
        assert!(
            readable(&self.signal, PATIENCE),
            "the watcher is not woken at generation {}",
            self.map.load()
        );
    }

    /// As the protocol says: compare, empty the signal, leave it, compare, tell.
    pub(crate) fn acknowledge(&mut self, generation: u32) -> Result<(), Stale> {
        if self.map.load() != generation {
            return Err(Stale);
        }
        while read(&self.signal, &mut [0; 256]) == Ok(256) {}
        let awaited = self.slot.acknowledge(generation);
        let current = self.map.load() == generation;
        if awaited || !current {
            self.client.send(Op::Acknowledge, [generation, 0]);
        }
        if current { Ok(()) } else { Err(Stale) }
    }
}

pub(crate) fn readable(fd: &OwnedFd, timeout: Duration) -> bool {
    let end = Instant::now() + timeout;
    loop {
        let mut fds = [PollFd::new(fd, PollFlags::IN)];
        let left = end.saturating_duration_since(Instant::now());
        match poll(
            &mut fds,
            Some(&Timespec::try_from(left).expect("a duration")),
        ) {
            Ok(ready) => return ready > 0,
            Err(Errno::INTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
    }
}
