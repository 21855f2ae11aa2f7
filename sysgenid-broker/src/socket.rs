// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sockets that never block: listening, accepting, one packet in, one packet out.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    SocketAddrUnix, SocketFlags, SocketType,
};
use sysgenid_sys::wire::Request;

use crate::Error;
use crate::folder::Folder;

/// Enough for a burst of clients; those beyond wait in `connect`.
const BACKLOG: i32 = 1024;

/// A listening socket of the folder with these permissions.
pub(crate) fn listen(folder: &Folder, name: &str, mode: u32) -> Result<OwnedFd, Error> {
    let path = folder.path().join(name);
    let address = SocketAddrUnix::new(&path).map_err(|_| {
        Error::unfit(
            &path,
            "too long for a socket address (107 bytes); choose a shorter path",
        )
    })?;
    folder.remove(name)?;
    let failed = |error| Error::path(&path, "listen on the socket", error);
    let socket = net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )
    .map_err(failed)?;
    net::bind(&socket, &address).map_err(failed)?;
    // Before listening: until then nobody can connect, whatever the umask made of the mode.
    folder.set_mode(name, mode)?;
    net::listen(&socket, BACKLOG).map_err(failed)?;
    Ok(socket)
}

/// Who is at the other end, as the kernel knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) pid: u32,
    pub(crate) uid: u32,
}

impl Peer {
    pub(crate) fn of(socket: impl AsFd) -> Result<Self, Errno> {
        let credentials = net::sockopt::socket_peercred(socket)?;
        Ok(Self {
            pid: u32::try_from(credentials.pid.as_raw_pid()).unwrap_or(0),
            uid: credentials.uid.as_raw(),
        })
    }
}

/// What [`receive`] found.
pub(crate) enum Received {
    Request(Request),
    /// Nothing for now.
    Empty,
    /// The client has gone, or does not speak this protocol: close the connection.
    Close,
}

pub(crate) fn accept(listener: impl AsFd) -> Result<OwnedFd, Errno> {
    net::accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
}

/// Takes one packet.
pub(crate) fn receive(socket: impl AsFd) -> Received {
    // One byte more than a request, so that a longer packet is seen to be one.
    let mut packet = [0; Request::LEN + 1];
    match net::recv(socket, &mut packet, RecvFlags::DONTWAIT) {
        Ok((length, _)) => packet
            .get(..length)
            .and_then(Request::decode)
            .map_or(Received::Close, Received::Request),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Received::Empty,
        Err(_) => Received::Close,
    }
}

/// Sends one packet, or fails at once.
pub(crate) fn send(socket: impl AsFd, packet: &[u8]) -> Result<(), Errno> {
    net::send(socket, packet, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).map(drop)
}

/// Sends one packet with descriptors, or fails at once.
pub(crate) fn send_with(
    socket: impl AsFd,
    packet: &[u8],
    descriptors: &[BorrowedFd<'_>; 3],
) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    net::sendmsg(
        socket,
        &[IoSlice::new(packet)],
        &mut ancillary,
        SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
    )
    .map(drop)
}
