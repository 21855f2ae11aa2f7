// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The client's end of a connection to the userspace driver.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::{Mutex, TryLockError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, recvmsg, send, socket_with,
};
use sysgenid_sys::Errno;
use sysgenid_sys::wire::{Op, Reply, Request, Status, StragglerPage};

use crate::error::{Error, Kind, Result};
use crate::{Deadline, interrupt};

const NOT_RUNNING: &str =
    "no broker is running there; start it with `sysgenid serve`, then reconnect";
const GONE: &str = "the broker has ended; start it with `sysgenid serve`, then reconnect";
const NOT_READING: &str =
    "the broker does not take requests: it hangs, or is stopped; restart it, then reconnect";
const NONSENSE: &str = "the broker answered what this version does not understand; use a broker \
                        and a client of the same release";
pub(crate) const BUSY: &str = "this connection waits for the broker's answer already; wait with an \
                               orchestrator or a watcher of its own";
const NO_ANSWER: &str = "the broker did not answer before the deadline: it hangs, or is \
                         stopped; look at its process, or start it again and reconnect";

/// A connected socket. At most one request that is answered is under way at a time.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    /// The sequence number of the last request, locked while its answer is awaited.
    sequence: Mutex<u32>,
}

impl Connection {
    pub(crate) fn connect(path: &Path) -> Result<Self> {
        let connect = || {
            let address = SocketAddrUnix::new(path)
                .map_err(|errno| Error::call("naming the socket", errno))?;
            // Non-blocking from the start: a broker that does not accept must not hang us.
            let socket = socket_with(
                AddressFamily::UNIX,
                SocketType::SEQPACKET,
                SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
                None,
            )
            .map_err(|errno| Error::call("socket", errno))?;
            connect(&socket, &address).map_err(|errno| match errno {
                Errno::NOENT | Errno::CONNREFUSED => {
                    Error::new(Kind::Lost(NOT_RUNNING)).errno(errno)
                }
                // Its queue of connections is full.
                Errno::AGAIN => Error::new(Kind::Lost(NOT_READING)).errno(errno),
                errno => Error::call("connect", errno),
            })?;
            Ok(Self {
                socket,
                sequence: Mutex::new(0),
            })
        };
        connect().map_err(|error: Error| error.at(path))
    }

    /// Sends a request that has no answer. Never waits.
    pub(crate) fn tell(&self, op: Op, arguments: [u32; 2]) -> Result<()> {
        self.send(&Request {
            op,
            sequence: 0,
            arguments,
        })
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn call(&self, op: Op, arguments: [u32; 2], deadline: Deadline) -> Result<Reply> {
        let mut packet = [0; Reply::LEN];
        self.exchange(
            op,
            arguments,
            deadline,
            &mut packet,
            &mut no_descriptors(),
            |packet| Reply::decode(packet).map(|reply| (reply.sequence, reply)),
        )
    }

    /// Becomes a watcher: the answer, and the signal, the page and the slot.
    pub(crate) fn open(
        &self,
        flags: u32,
        acknowledged: u32,
        deadline: Deadline,
    ) -> Result<(Reply, [OwnedFd; 3])> {
        let mut packet = [0; Reply::LEN];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let decode = |packet: &[u8]| Reply::decode(packet).map(|reply| (reply.sequence, reply));
        let arguments = [flags, acknowledged];
        let reply = self.exchange(
            Op::Open,
            arguments,
            deadline,
            &mut packet,
            &mut ancillary,
            decode,
        )?;
        match reply.status {
            Status::Ok => {}
            Status::Full => {
                return Err(Error::new(Kind::Lost(
                    "the broker has no file descriptor left for another watcher; raise its limit \
                     (`ulimit -n`) and start it again",
                ))
                .errno(Errno::MFILE));
            }
            _ => return Err(Error::new(Kind::Broken(NONSENSE))),
        }
        let mut descriptors = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let mut descriptors = descriptors.by_ref().flatten();
        match (descriptors.next(), descriptors.next(), descriptors.next()) {
            (Some(signal), Some(page), Some(slot)) => Ok((reply, [signal, page, slot])),
            // Fewer arrive if this process has no descriptor left for them.
            _ => Err(Error::call(
                "receiving the watcher's descriptors",
                Errno::MFILE,
            )),
        }
    }

    /// One page of the list of stragglers that follow watcher `after`.
    pub(crate) fn stragglers(&self, after: u64, deadline: Deadline) -> Result<StragglerPage> {
        let mut packet = [0; StragglerPage::LEN];
        let halves = [low_half(after), low_half(after >> 32)];
        self.exchange(
            Op::Stragglers,
            halves,
            deadline,
            &mut packet,
            &mut no_descriptors(),
            |packet| StragglerPage::decode(packet).map(|page| (page.sequence, page)),
        )
    }

    fn exchange<T>(
        &self,
        op: Op,
        arguments: [u32; 2],
        deadline: Deadline,
        packet: &mut [u8],
        ancillary: &mut RecvAncillaryBuffer<'_>,
        decode: impl Fn(&[u8]) -> Option<(u32, T)>,
    ) -> Result<T> {
        // Waiting for another thread's answer would be a wait without a deadline.
        let mut last = match self.sequence.try_lock() {
            Ok(last) => last,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(Error::new(Kind::Unsupported(BUSY))),
        };
        *last = last.wrapping_add(1);
        let sequence = *last;
        self.send(&Request {
            op,
            sequence,
            arguments,
        })?;
        loop {
            wait_ready(self.socket.as_fd(), PollFlags::IN, deadline)?;
            let length = match recvmsg(
                &self.socket,
                &mut [IoSliceMut::new(packet)],
                ancillary,
                RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT | RecvFlags::TRUNC,
            ) {
                Ok(message) => message.bytes,
                Err(Errno::AGAIN | Errno::INTR) => continue,
                Err(errno) => return Err(lost_or("recvmsg", errno)),
            };
            if length == 0 {
                return Err(Error::new(Kind::Lost(GONE)));
            }
            // The length is the packet's own, which may be more than what fitted.
            let received = packet.get(..length).unwrap_or_default();
            match decode(received) {
                Some((answered, reply)) if answered == sequence => return Ok(reply),
                // The answer to a call that gave up before.
                Some(_) => {}
                // The late answer may be of the other format; both are told apart by length.
                None if length == Reply::LEN || length == StragglerPage::LEN => {}
                None => return Err(Error::new(Kind::Broken(NONSENSE))),
            }
        }
    }

    fn send(&self, request: &Request) -> Result<()> {
        loop {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match send(&self.socket, &request.encode(), flags) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(lost_or("send", errno)),
            }
        }
    }
}

pub(crate) fn gone() -> Error {
    Error::new(Kind::Lost(GONE))
}

fn wait_ready(fd: BorrowedFd<'_>, events: PollFlags, deadline: Deadline) -> Result<()> {
    loop {
        let mut fds = [PollFd::from_borrowed_fd(fd, events)];
        match poll(&mut fds, deadline.timespec().as_ref()) {
            Ok(0) if deadline.has_passed() => return Err(Error::new(Kind::TimedOut(NO_ANSWER))),
            Ok(0) => {}
            Err(Errno::INTR) => interrupt::signalled()?,
            // A hang-up included: reading tells.
            Ok(_) => return Ok(()),
            Err(errno) => return Err(Error::call("poll", errno)),
        }
    }
}

fn lost_or(call: &'static str, errno: Errno) -> Error {
    match errno {
        Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => gone().errno(errno),
        Errno::AGAIN | Errno::NOBUFS => Error::new(Kind::Lost(NOT_READING)).errno(errno),
        errno => Error::call(call, errno),
    }
}

fn no_descriptors() -> RecvAncillaryBuffer<'static> {
    RecvAncillaryBuffer::default()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half is what is wanted"
)]
fn low_half(number: u64) -> u32 {
    number as u32
}
