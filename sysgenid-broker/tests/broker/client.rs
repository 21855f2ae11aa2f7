// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A client that shares no code with the SDK.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, recvmsg, sendmsg,
    socket_with,
};
use sysgenid_sys::page::CounterPage;
use sysgenid_sys::slot::Slot;
use sysgenid_sys::wire::{
    Answer, Awaited, CONTROL_SOCKET, Notice, OPEN_RESUME, OPEN_TRACKED, Op, Payload, Phase, Reason,
    Refusal, Reply, Request, StragglerPage, WATCH_SOCKET, header,
};

/// Longer than anything takes; a broker that does not answer fails the test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// A connection that is older than this is replaced before it is idle for too long.
const FRESH: Duration = Duration::from_secs(2);

pub(crate) struct Client {
    pub(crate) socket: OwnedFd,
    sequence: u32,
    /// Where it is connected to.
    dir: PathBuf,
    name: &'static str,
    used: Instant,
}

/// What a packet was, or that the broker has closed the connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    Reply(Box<Reply>),
    Stragglers(Box<StragglerPage>),
    Notice(Notice),
    Refusal(Refusal),
    Closed,
}

impl Client {
    pub(crate) fn watch(dir: &Path) -> Self {
        Self::connect(dir, WATCH_SOCKET).expect("connect to the watch socket")
    }

    pub(crate) fn control(dir: &Path) -> Self {
        Self::connect(dir, CONTROL_SOCKET).expect("connect to the control socket")
    }

    pub(crate) fn connect(dir: &Path, name: &'static str) -> Result<Self, Errno> {
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
            dir: dir.into(),
            name,
            used: Instant::now(),
        })
    }

    /// Connects again if the connection may be idle for too long soon. For questions only.
    fn refresh(&mut self) {
        if self.used.elapsed() > FRESH {
            let sequence = self.sequence;
            *self = Self::connect(&self.dir, self.name).expect("connect again");
            self.sequence = sequence;
        }
    }

    /// Sends a request and returns its sequence number.
    pub(crate) fn send(&mut self, op: Op, arguments: [u32; 2]) -> u32 {
        self.try_send(op, arguments).expect("send")
    }

    pub(crate) fn try_send(&mut self, op: Op, arguments: [u32; 2]) -> Result<u32, Errno> {
        self.send_request(Request {
            arguments,
            ..Request::new(op, 0)
        })
    }

    /// Sends a request with the next sequence number, which it returns.
    pub(crate) fn send_request(&mut self, request: Request) -> Result<u32, Errno> {
        self.sequence += 1;
        let request = Request {
            sequence: self.sequence,
            ..request
        };
        self.send_bytes(&[&request.encode(), request.payload.as_bytes()].concat())?;
        self.used = Instant::now();
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
        self.try_receive().expect("receive")
    }

    pub(crate) fn try_receive(&self) -> Result<(Packet, Vec<OwnedFd>), Errno> {
        assert!(
            readable(&self.socket, PATIENCE),
            "the broker does not answer"
        );
        let mut packet = [0; StragglerPage::LEN];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let length = recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut packet)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )?
        .bytes;
        let descriptors = ancillary
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .collect();
        Ok((decode(&packet[..length]), descriptors))
    }

    pub(crate) fn reply(&self) -> Reply {
        match self.receive().0 {
            Packet::Reply(reply) => *reply,
            other => panic!("not a reply: {other:?}"),
        }
    }

    /// The refusal that the broker ends the connection with.
    pub(crate) fn refusal(&self) -> Refusal {
        loop {
            match self.try_receive() {
                Ok((Packet::Refusal(refusal), _)) => {
                    assert_eq!(self.receive().0, Packet::Closed, "it is the last packet");
                    return refusal;
                }
                // What it has sent before, or that it closes without having read everything.
                Ok((Packet::Reply(_) | Packet::Notice(_), _)) | Err(Errno::CONNRESET) => {}
                other => panic!("not a refusal: {other:?}"),
            }
        }
    }

    /// As [`refusal`](Self::refusal), and checks that it tells the versions.
    pub(crate) fn reason(&self) -> Reason {
        let refusal = self.refusal();
        assert_eq!((refusal.oldest, refusal.newest), (2, 2));
        refusal.reason
    }

    pub(crate) fn ask(&mut self, request: Request) -> Reply {
        let op = request.op;
        let sequence = self.send_request(request).expect("send");
        let reply = self.reply();
        assert_eq!((reply.op, reply.sequence), (op, sequence));
        reply
    }

    pub(crate) fn call(&mut self, op: Op, arguments: [u32; 2]) -> Reply {
        self.ask(Request {
            arguments,
            ..Request::new(op, 0)
        })
    }

    pub(crate) fn status(&mut self) -> Reply {
        self.refresh();
        self.call(Op::Status, [0, 0])
    }

    pub(crate) fn trigger(&mut self, min: u32) -> Reply {
        self.refresh();
        self.call(Op::Trigger, [min, 0])
    }

    pub(crate) fn trigger_with(&mut self, cause: u32, payload: &[u8]) -> Reply {
        self.refresh();
        self.ask(Request {
            arguments: [0, cause],
            payload: Payload::new(payload).expect("a payload"),
            ..Request::new(Op::Trigger, 0)
        })
    }

    pub(crate) fn set_phase(&mut self, phase: Phase) -> Reply {
        self.refresh();
        self.call(Op::SetPhase, [phase as u32, 0])
    }

    /// The first reply to a wait.
    pub(crate) fn wait(&mut self, own: u64, awaited: Awaited) -> Reply {
        self.refresh();
        self.ask(Request {
            watcher: own,
            arguments: [awaited as u32, 0],
            ..Request::new(Op::Wait, 0)
        })
    }

    pub(crate) fn stragglers(&mut self, after: u64) -> StragglerPage {
        self.stragglers_for(Awaited::Generation, after)
    }

    pub(crate) fn stragglers_for(&mut self, awaited: Awaited, after: u64) -> StragglerPage {
        self.refresh();
        let request = Request {
            watcher: after,
            arguments: [awaited as u32, 0],
            ..Request::new(Op::Stragglers, 0)
        };
        let sequence = self.send_request(request).expect("send");
        match self.receive().0 {
            Packet::Stragglers(page) if page.sequence == sequence => *page,
            other => panic!("not this page of stragglers: {other:?}"),
        }
    }

    /// Whether nothing has come for a moment.
    pub(crate) fn is_quiet(&self) -> bool {
        !readable(&self.socket, Duration::from_millis(50))
    }

    pub(crate) fn is_closed_by_broker(&self) -> bool {
        self.receive().0 == Packet::Closed
    }

    pub(crate) fn into_watcher(self, flags: u32, acknowledged: u32) -> Result<Watcher, Packet> {
        self.try_into_watcher(flags, acknowledged)
            .expect("send and receive")
    }

    pub(crate) fn try_into_watcher(
        mut self,
        flags: u32,
        acknowledged: u32,
    ) -> Result<Result<Watcher, Packet>, Errno> {
        match self.try_send(Op::Open, [flags, acknowledged]) {
            // A refusal may be there to be read.
            Ok(_) | Err(Errno::PIPE) => {}
            Err(error) => return Err(error),
        }
        let (packet, descriptors) = self.try_receive()?;
        let reply = match packet {
            Packet::Reply(reply) if reply.answer == Answer::Ok => *reply,
            other => {
                assert!(descriptors.is_empty(), "descriptors without a watcher");
                return Ok(Err(other));
            }
        };
        let [page, slot] = descriptors.try_into().expect("two descriptors");
        Ok(Ok(Watcher {
            client: self,
            map: Page(CounterPage::map(&page).expect("map the page")),
            slot: Slot::map(&slot).expect("map the slot"),
            page,
            opened: reply,
        }))
    }
}

fn decode(packet: &[u8]) -> Packet {
    let Some((_, kind)) = header(packet) else {
        assert!(packet.is_empty(), "a packet without a header");
        return Packet::Closed;
    };
    match kind {
        Refusal::KIND => Packet::Refusal(Refusal::decode(packet).expect("a refusal")),
        Notice::KIND => Packet::Notice(Notice::decode(packet).expect("a notice")),
        kind if kind == Op::Stragglers as u16 => {
            let page = StragglerPage::decode(packet).expect("a page of stragglers");
            Packet::Stragglers(Box::new(page))
        }
        _ => Packet::Reply(Box::new(Reply::decode(packet).expect("a reply"))),
    }
}

/// A connection that is a watcher.
pub(crate) struct Watcher {
    pub(crate) client: Client,
    pub(crate) page: OwnedFd,
    pub(crate) map: Page,
    pub(crate) slot: Slot,
    pub(crate) opened: Reply,
}

/// The broker's page, whose counter has 32 bits.
pub(crate) struct Page(pub(crate) CounterPage);

impl Page {
    pub(crate) fn load(&self) -> u32 {
        self.0.load().try_into().expect("a counter of 32 bits")
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stale;

impl Watcher {
    pub(crate) fn open(dir: &Path, flags: u32, acknowledged: u32) -> Self {
        Client::watch(dir)
            .into_watcher(flags, acknowledged)
            .unwrap_or_else(|packet| panic!("open: {packet:?}"))
    }

    pub(crate) fn tracked(dir: &Path) -> Self {
        Self::open(dir, OPEN_TRACKED, 0)
    }

    pub(crate) fn untracked(dir: &Path) -> Self {
        Self::open(dir, 0, 0)
    }

    pub(crate) fn resumed(dir: &Path, acknowledged: u32) -> Self {
        Self::open(dir, OPEN_TRACKED | OPEN_RESUME, acknowledged)
    }

    /// Its number, to wait with.
    pub(crate) fn number(&self) -> u64 {
        self.opened.watcher
    }

    pub(crate) fn is_readable(&self) -> bool {
        readable(&self.client.socket, Duration::ZERO)
    }

    pub(crate) fn wait_readable(&self) {
        assert!(
            readable(&self.client.socket, PATIENCE),
            "the watcher is not woken at generation {}",
            self.map.load()
        );
    }

    /// The notice that comes first, if there is one.
    pub(crate) fn read_notice(&self) -> Option<Notice> {
        match self.try_read_notice() {
            Ok(notice) => notice,
            Err(error) => panic!("read a notice: {error}"),
        }
    }

    /// As [`read_notice`](Self::read_notice); `PIPE` at the end.
    pub(crate) fn try_read_notice(&self) -> Result<Option<Notice>, Errno> {
        let mut packet = [0; 256];
        match recv(&self.client.socket, &mut packet, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Err(Errno::PIPE),
            Ok((_, length)) => match decode(&packet[..length]) {
                Packet::Notice(notice) => Ok(Some(notice)),
                other => panic!("not a notice: {other:?}"),
            },
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads all notices that are there.
    pub(crate) fn notices(&self) -> Vec<Notice> {
        std::iter::from_fn(|| self.read_notice()).collect()
    }

    /// As the protocol says: compare, read one notice, leave it, compare, tell.
    pub(crate) fn acknowledge(&mut self, generation: u32) -> Result<(), Stale> {
        self.try_acknowledge(generation)
            .expect("read a notice and tell")
    }

    /// As [`acknowledge`](Self::acknowledge), also if the broker may have gone.
    pub(crate) fn try_acknowledge(&mut self, generation: u32) -> Result<Result<(), Stale>, Errno> {
        if self.map.load() != generation {
            return Ok(Err(Stale));
        }
        self.try_read_notice()?;
        let awaited = self.slot.acknowledge(generation);
        let current = self.map.load() == generation;
        if awaited || !current {
            self.client.try_send(Op::Acknowledge, [generation, 0])?;
        }
        Ok(if current { Ok(()) } else { Err(Stale) })
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
