// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A client that keeps to no rule. This file has everything that the suite knows of the protocol,
//! and shares no code with the SDK.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg,
    sendmsg, socket_with,
};
use sysgenid_sys::wire::{
    Answer, CONTROL_SOCKET, OPEN_TRACKED, Op, Reply, Request, StragglerPage, WATCH_SOCKET,
};

/// The length of a request that the broker takes.
pub(super) const LENGTH: usize = Request::LEN;
pub(super) use sysgenid_sys::wire::VERSION;

/// How often to try again where the kernel has no readiness to wait for.
const AGAIN: Duration = Duration::from_millis(5);

/// A socket of the broker.
#[derive(Clone, Copy, Debug)]
pub(super) enum Door {
    Watch,
    Control,
}

/// A connection that never blocks.
pub(super) struct Client(OwnedFd);

/// What came on a connection.
#[derive(Debug)]
pub(super) enum Heard {
    Reply(Box<Reply>, Vec<OwnedFd>),
    /// A packet of another kind.
    Other,
    /// The broker has closed the connection.
    Closed,
    /// Nothing until the deadline.
    Nothing,
}

impl Heard {
    /// Whether the broker did not take the packet for a request.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Closed | Self::Other => true,
            Self::Reply(reply, _) => reply.answer != Answer::Ok,
            Self::Nothing => false,
        }
    }
}

impl Client {
    pub(super) fn connect(directory: &Path, door: Door) -> Result<Self, Errno> {
        let name = match door {
            Door::Watch => WATCH_SOCKET,
            Door::Control => CONTROL_SOCKET,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(directory.join(name))?)?;
        Ok(Self(socket))
    }

    /// Goes on while the queue of connections is full.
    pub(super) fn connect_within(
        patience: Duration,
        directory: &Path,
        door: Door,
    ) -> Result<Self, Errno> {
        let end = Instant::now() + patience;
        loop {
            match Self::connect(directory, door) {
                Err(Errno::AGAIN) if Instant::now() < end => thread::sleep(AGAIN),
                result => return result,
            }
        }
    }

    pub(super) fn send(&self, packet: &[u8]) -> Result<(), Errno> {
        self.send_with(packet, &[])
    }

    pub(super) fn send_with(
        &self,
        packet: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&self.0, &[IoSlice::new(packet)], &mut ancillary, flags).map(drop)
    }

    pub(super) fn receive(&self, patience: Duration) -> Heard {
        if !is_readable(self.0.as_fd(), patience) {
            return Heard::Nothing;
        }
        let mut packet = [0; StragglerPage::LEN];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &self.0,
            &mut [IoSliceMut::new(&mut packet)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
        );
        let length = match received {
            Ok(message) => message.bytes,
            Err(Errno::AGAIN) => return Heard::Nothing,
            Err(_) => 0,
        };
        let descriptors = ancillary
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .collect();
        match (length, Reply::decode(&packet[..length])) {
            (0, _) => Heard::Closed,
            (_, Some(reply)) => Heard::Reply(Box::new(reply), descriptors),
            (_, None) => Heard::Other,
        }
    }

    /// Reads all that is there. Whether the connection is open still.
    pub(super) fn drain(&self) -> bool {
        loop {
            match self.receive(Duration::ZERO) {
                Heard::Nothing => return true,
                Heard::Closed => return false,
                Heard::Reply(..) | Heard::Other => {}
            }
        }
    }

    /// Sends a request, and returns the answer to it; skips packets that signal a change.
    fn call(
        &self,
        op: Op,
        argument: u32,
        patience: Duration,
    ) -> Result<(Reply, Vec<OwnedFd>), String> {
        let end = Instant::now() + patience;
        self.send(&packet(op, argument))
            .map_err(|errno| format!("sending {op:?}: {errno}"))?;
        loop {
            match self.receive(end.saturating_duration_since(Instant::now())) {
                Heard::Reply(reply, descriptors) if reply.op == op => {
                    return Ok((*reply, descriptors));
                }
                Heard::Reply(..) | Heard::Other => {}
                Heard::Closed => return Err(format!("the broker closes instead of {op:?}")),
                Heard::Nothing => return Err(format!("no answer to {op:?} in {patience:?}")),
            }
        }
    }

    /// Has the broker answer, so that it has accepted the connection.
    pub(super) fn greet(&self, patience: Duration) -> Result<(), String> {
        self.call(Op::Status, 0, patience).map(drop)
    }
}

/// A connection that is a watcher.
pub(super) struct Watcher {
    pub(super) client: Client,
    _descriptors: Vec<OwnedFd>,
}

impl Watcher {
    pub(super) fn open(
        directory: &Path,
        tracked: bool,
        patience: Duration,
    ) -> Result<Self, String> {
        let client = Client::connect_within(patience, directory, Door::Watch)
            .map_err(|errno| format!("connecting: {errno}"))?;
        let flags = if tracked { OPEN_TRACKED } else { 0 };
        let (reply, descriptors) = client.call(Op::Open, flags, patience)?;
        match reply.answer {
            Answer::Ok => Ok(Self {
                client,
                _descriptors: descriptors,
            }),
            status => Err(format!("the broker answers {status:?}")),
        }
    }

    /// The descriptor that becomes readable when the generation changes: the connection.
    pub(super) fn polled(&self) -> BorrowedFd<'_> {
        self.client.0.as_fd()
    }
}

/// Changes the generation as the owner does, and returns the new one.
pub(super) fn trigger(directory: &Path, patience: Duration) -> Result<u32, String> {
    let end = Instant::now() + patience;
    let control = Client::connect_within(patience, directory, Door::Control)
        .map_err(|errno| format!("connecting: {errno}"))?;
    let left = end.saturating_duration_since(Instant::now());
    let (reply, _) = control.call(Op::Trigger, 0, left)?;
    match reply.answer {
        Answer::Ok => Ok(reply.generation),
        status => Err(format!("the broker answers {status:?}")),
    }
}

fn packet(op: Op, argument: u32) -> Vec<u8> {
    let mut request = Request::new(op, 1);
    request.arguments = [argument, 0];
    request.encode().to_vec()
}

pub(super) fn open_packet() -> Vec<u8> {
    packet(Op::Open, OPEN_TRACKED)
}

pub(super) fn status_packet() -> Vec<u8> {
    packet(Op::Status, 0)
}

pub(super) fn wait_packet() -> Vec<u8> {
    packet(Op::Wait, 0)
}

pub(super) fn tracking_packet(tracked: bool) -> Vec<u8> {
    packet(Op::SetTracking, tracked.into())
}

/// One that asks for a notice of the change after `seen`.
pub(super) fn notify_packet(seen: u32) -> Vec<u8> {
    packet(Op::Notify, seen)
}

pub(super) fn acknowledge_packet(generation: u32) -> Vec<u8> {
    packet(Op::Acknowledge, generation)
}

/// One that closes the connection.
pub(super) fn invalid_packet() -> Vec<u8> {
    vec![0; LENGTH]
}

/// A valid one, but for its version, the first two bytes.
pub(super) fn packet_of_version(version: u16) -> Vec<u8> {
    let mut packet = status_packet();
    packet[..2].copy_from_slice(&version.to_le_bytes());
    packet
}

pub(super) fn is_readable(fd: BorrowedFd<'_>, patience: Duration) -> bool {
    let end = Instant::now() + patience;
    loop {
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        let left = end.saturating_duration_since(Instant::now());
        match poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
            Ok(ready) => return ready > 0,
            Err(Errno::INTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
    }
}
