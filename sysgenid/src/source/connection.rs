// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The client's end of a connection to the userspace driver.
//!
//! A connection is a watcher's, which sends notices, or carries one question and its answers. See
//! `sysgenid_sys::wire`.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::ioctl_fionread;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, recvmsg, sendmsg,
    socket_with,
};
use sysgenid_sys::Errno;
use sysgenid_sys::wire::{
    self, Answer, Awaited, Notice, Op, Refusal, Reply, Request, StragglerPage, VERSION,
};

use crate::base::error::{Error, Kind, Result};
use crate::base::{Deadline, interrupt};
use crate::source::Source;

const NOT_RUNNING: &str =
    "no broker is running there; start it with `sysgenid serve`, then reconnect";
const GONE: &str = "the broker has ended; start it with `sysgenid serve`, then reconnect";
const NOT_READING: &str =
    "the broker does not take requests: it hangs, or is stopped; restart it, then reconnect";
const NONSENSE: &str = "the broker answered what this version does not understand; use a broker \
                        and a client of the same release";
const NO_ANSWER: &str = "the broker did not answer before the deadline: it hangs, or is \
                         stopped; look at its process, or start it again and reconnect";
const NOT_STORED: &str = "the broker has told its watchers of the change, but cannot write its page, so \
                          that programs which only map it do not see the change: look at the messages \
                          of `sysgenid serve` and at what room the file system has";
const DENIED: &str = "permission denied: only the user that runs the broker may do this, and root in \
                      the broker's user namespace; run this as that user";

const TOO_LONG: &str = "the path is longer than the 107 bytes that the address of a socket has; \
                        have the broker serve a directory with a shorter path, or name it by a \
                        shorter one, such as a symbolic link";

/// How long an answer may take where a deadline has passed already, or is about to: a call that is
/// given no time still takes one look.
pub(crate) const LOOK_TIME: Duration = Duration::from_millis(100);

/// A connected socket.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
}

impl Connection {
    /// Connects to a socket of the broker of `source`. It waits if the broker has many connections
    /// to accept yet.
    pub(crate) fn connect(source: &Source, name: &str, deadline: Deadline) -> Result<Self> {
        let path = source.path().join(name);
        let connect = || {
            let socket = connect_to(&path, deadline)?;
            source.check_broker(&socket)?;
            Ok(Self { socket })
        };
        connect().map_err(|error: Error| error.at(&path))
    }

    /// The socket, to wait with for notices.
    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Sends a request that has no answer. Never waits.
    pub(crate) fn tell(&self, op: Op, argument: u32) -> Result<()> {
        let mut request = Request::new(op, 0);
        request.arguments = [argument, 0];
        self.send(&request)
    }

    /// Sends a request and waits for its first answer.
    pub(crate) fn ask(&self, request: &Request, deadline: Deadline) -> Result<Reply> {
        self.send(request)?;
        self.reply(deadline)
    }

    /// Waits for the next answer.
    pub(crate) fn reply(&self, deadline: Deadline) -> Result<Reply> {
        self.receive(deadline, Reply::decode)
    }

    /// Asks to become a watcher. Never waits.
    pub(crate) fn ask_to_open(&self, flags: u32, acknowledged: u32) -> Result<()> {
        let mut request = Request::new(Op::Open, 0);
        request.arguments = [flags, acknowledged];
        self.send(&request)
    }

    /// Waits for the answer to that: a reply, and the page and the slot.
    pub(crate) fn opened(&self, deadline: Deadline) -> Result<(Reply, [OwnedFd; 2])> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut packet = [0; Reply::LEN];
        let received = self.receive_into(&mut packet, &mut ancillary, deadline)?;
        let reply = decoded(received, Reply::decode)?;
        if reply.answer != Answer::Ok {
            return Err(Error::new(Kind::Broken(NONSENSE)));
        }
        let mut descriptors = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let mut descriptors = descriptors.by_ref().flatten();
        match (descriptors.next(), descriptors.next()) {
            (Some(page), Some(slot)) => Ok((reply, [page, slot])),
            // Fewer arrive if this process has no descriptor left for them.
            _ => Err(Error::call(
                "receiving the watcher's descriptors",
                Errno::MFILE,
            )),
        }
    }

    /// One page of the list of stragglers that follow watcher `after`.
    pub(crate) fn stragglers(
        &self,
        awaited: Awaited,
        after: u64,
        deadline: Deadline,
    ) -> Result<StragglerPage> {
        let mut request = Request::new(Op::Stragglers, 0);
        request.arguments = [awaited as u32, 0];
        request.watcher = after;
        self.send(&request)?;
        self.receive(deadline, StragglerPage::decode)
    }

    /// Waits until there is something to read, and says whether there is: a notice, and not only the
    /// end of the connection.
    ///
    /// `Ok(false)` if the time is over, or a Unix signal interrupted.
    pub(crate) fn await_notice(&self, deadline: Option<Deadline>) -> Result<bool> {
        let timeout = match deadline {
            None => Some(Deadline::after(Duration::ZERO)),
            Some(deadline) => Some(deadline),
        }
        .and_then(Deadline::timespec);
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) => return Ok(false),
            Err(Errno::INTR) => {
                interrupt::signalled()?;
                return Ok(false);
            }
            Ok(_) => {}
            Err(errno) => return Err(Error::call("poll", errno)),
        }
        let [socket] = fds;
        if !socket.revents().contains(PollFlags::HUP) {
            return Ok(true);
        }
        // A change that was notified is worth handling also if the broker ended after it.
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        match recv(&self.socket, &mut [0_u8; 4], flags) {
            Ok((0, _)) => Err(gone()),
            Ok(_) => Ok(true),
            Err(Errno::INTR) => Ok(false),
            Err(errno) => Err(lost_or("recv", errno)),
        }
    }

    /// Reads one notice, if there is one. Never waits.
    pub(crate) fn read_notice(&self) -> Result<Option<Notice>> {
        let mut packet = [0; Notice::LEN];
        loop {
            return match recv(&self.socket, &mut packet, RecvFlags::DONTWAIT) {
                Ok((0, _)) => Err(gone()),
                Ok((length, _)) => match packet.get(..length).and_then(Refusal::decode) {
                    Some(refusal) => Err(Error::refused(refusal)),
                    // Whatever else it is, it has made the connection readable and says no more.
                    None => Ok(packet.get(..length).and_then(Notice::decode)),
                },
                Err(Errno::AGAIN) => Ok(None),
                Err(Errno::INTR) => continue,
                Err(errno) => Err(lost_or("recv", errno)),
            };
        }
    }

    /// The first notice that is unread. It stays so.
    pub(crate) fn peek_notice(&self) -> Option<Notice> {
        let mut packet = [0; Notice::LEN];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let (length, _) = recv(&self.socket, &mut packet, flags).ok()?;
        packet.get(..length).and_then(Notice::decode)
    }

    /// Whether more than one notice is unread.
    pub(crate) fn has_notices_to_spare(&self) -> bool {
        ioctl_fionread(&self.socket).is_ok_and(|bytes| bytes > Notice::LEN as u64)
    }

    /// Whether the broker is there, also while a change that it has notified waits to be handled.
    pub(crate) fn check(&self) -> Result<()> {
        let now = Deadline::after(Duration::ZERO).timespec();
        let mut fds = [PollFd::new(&self.socket, PollFlags::empty())];
        match poll(&mut fds, now.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::call("poll", errno)),
        }
        let [socket] = fds;
        if socket.revents().contains(PollFlags::HUP) {
            return Err(gone());
        }
        Ok(())
    }

    fn receive<T>(&self, deadline: Deadline, decode: impl Fn(&[u8]) -> Option<T>) -> Result<T> {
        let mut packet = [0; StragglerPage::LEN];
        let nothing = &mut RecvAncillaryBuffer::default();
        decoded(self.receive_into(&mut packet, nothing, deadline)?, decode)
    }

    /// The next packet, as far as it fits.
    fn receive_into<'a>(
        &self,
        packet: &'a mut [u8],
        ancillary: &mut RecvAncillaryBuffer<'_>,
        deadline: Deadline,
    ) -> Result<&'a [u8]> {
        let mut was_reset = false;
        loop {
            wait_readable(self.socket.as_fd(), deadline)?;
            let received = recvmsg(
                &self.socket,
                &mut [IoSliceMut::new(packet)],
                ancillary,
                RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT | RecvFlags::TRUNC,
            );
            match received.map(|message| message.bytes) {
                Ok(0) => return Err(gone()),
                // The length is the packet's own, which may be more than what fitted.
                Ok(length) => return Ok(packet.get(..length).unwrap_or_default()),
                Err(Errno::AGAIN | Errno::INTR) => {}
                // The broker has closed the connection before it read all that was sent. What it
                // said before is behind that.
                Err(Errno::CONNRESET) if !was_reset => was_reset = true,
                Err(errno) => return Err(lost_or("recvmsg", errno)),
            }
        }
    }

    /// Sends a request. Never waits.
    pub(crate) fn send(&self, request: &Request) -> Result<()> {
        let packet = request.encode();
        let parts = [&packet[..], request.payload.as_bytes()].map(IoSlice::new);
        loop {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            let nothing = &mut SendAncillaryBuffer::default();
            match sendmsg(&self.socket, &parts, nothing, flags) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.why_closed().unwrap_or(lost_or("send", errno))),
            }
        }
    }

    /// What the broker has said before it closed the connection, if it said so.
    fn why_closed(&self) -> Option<Error> {
        let mut packet = [0; Refusal::LEN];
        // A reset is reported once, and what was sent is behind it.
        for _ in 0..2 {
            if let Ok((length, _)) = recv(&self.socket, &mut packet, RecvFlags::DONTWAIT) {
                let refusal = packet.get(..length).and_then(Refusal::decode)?;
                return Some(Error::refused(refusal));
            }
        }
        None
    }
}

/// Connects, and waits until the broker has room for one more connection to accept. The kernel lets
/// those in that have waited longest.
fn connect_to(path: &Path, deadline: Deadline) -> Result<OwnedFd> {
    let address = SocketAddrUnix::new(path).map_err(|errno| match errno {
        Errno::NAMETOOLONG => Error::new(Kind::Unsupported(TOO_LONG)).errno(errno),
        errno => Error::call("naming the socket", errno),
    })?;
    // A caller without time does not wait until the broker has accepted others.
    let mut flags = SocketFlags::CLOEXEC;
    if deadline.has_passed() {
        flags |= SocketFlags::NONBLOCK;
    }
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(|errno| Error::call("socket", errno))?;
    loop {
        // Zero is for ever here, as `None` is.
        let left = deadline
            .remaining()
            .map(|left| left.max(Duration::from_millis(1)));
        set_socket_timeout(&socket, Timeout::Send, left)
            .map_err(|errno| Error::call("setsockopt", errno))?;
        match connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            Err(Errno::INTR) => interrupt::signalled()?,
            Err(Errno::NOENT | Errno::CONNREFUSED) => {
                return Err(Error::new(Kind::Lost(NOT_RUNNING)).errno(Errno::CONNREFUSED));
            }
            Err(Errno::AGAIN) if deadline.has_passed() => {
                return Err(Error::new(Kind::TimedOut(NO_ANSWER)).errno(Errno::AGAIN));
            }
            Err(Errno::AGAIN) => {}
            Err(errno) => return Err(Error::call("connect", errno)),
        }
    }
}

fn decoded<T>(packet: &[u8], decode: impl Fn(&[u8]) -> Option<T>) -> Result<T> {
    if let Some(refusal) = Refusal::decode(packet) {
        return Err(Error::refused(refusal));
    }
    decode(packet).ok_or_else(|| match wire::header(packet) {
        Some((version, _)) if version != VERSION => Error::new(Kind::OtherVersion {
            oldest: version,
            newest: version,
        }),
        _ => Error::new(Kind::Broken(NONSENSE)),
    })
}

/// Turns a refusal to do what was asked for into an error.
pub(crate) fn accepted(reply: &Reply) -> Result<()> {
    match reply.answer {
        Answer::Ok => Ok(()),
        Answer::Denied => Err(denied()),
        Answer::NotStored => Err(Error::new(Kind::Broken(NOT_STORED)).errno(Errno::NOSPC)),
        Answer::Outdated | Answer::Invalid | Answer::Pending => {
            Err(Error::new(Kind::Broken(NONSENSE)))
        }
    }
}

pub(crate) fn denied() -> Error {
    Error::new(Kind::Denied(DENIED))
}

pub(crate) fn gone() -> Error {
    Error::new(Kind::Lost(GONE))
}

fn wait_readable(fd: BorrowedFd<'_>, deadline: Deadline) -> Result<()> {
    loop {
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
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
