// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sockets that never block: listening, accepting, one packet in, one packet out.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType,
};
use sysgenid_sys::internal::socket::{self, Peer};
use sysgenid_sys::wire::{Reason, Refusal, Rejected, Request, VERSION, header};

use crate::Error;
use crate::directory::Directory;

/// Enough for a burst of clients; those beyond wait in `connect`.
const BACKLOG: i32 = 4096;
/// What a client may leave unread, in the kernel's own way of counting, and before it doubles the
/// number: a dozen notices.
const UNREAD_BYTES: usize = 4608;
/// Packets that are taken from a client that is sent away: more than one asks at once.
const LAST_PACKETS: usize = 16;

/// A listening socket of the directory with these permissions, and whether the kernel refuses
/// descriptors that clients send.
pub(crate) fn listen(
    directory: &mut Directory,
    name: &'static str,
    mode: u32,
) -> Result<(OwnedFd, bool), Error> {
    let path = directory.path().join(name);
    let failed = |error| Error::path(&path, "listen on the socket", error);
    let socket = net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )
    .map_err(failed)?;
    // Before listening: until then no client can connect, whatever the umask made of the mode.
    directory.bind_socket(&socket, name, mode)?;
    // And before that, because the connections take it from the listening socket. A packet that is
    // sent before the connection is prepared would otherwise not say which process sent it.
    socket::pass_credentials(&socket).map_err(failed)?;
    let refused = socket::refuse_descriptors(&socket).is_ok();
    net::listen(&socket, BACKLOG).map_err(failed)?;
    Ok((socket, refused))
}

pub(crate) fn accept(listener: impl AsFd) -> Result<OwnedFd, Errno> {
    net::accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
}

/// Prepares a connection: the kernel says who sends each packet. Returns who is at its other end.
pub(crate) fn prepare(socket: impl AsFd) -> Result<Peer, Errno> {
    let socket = socket.as_fd();
    socket::pass_credentials(socket)?;
    socket::peer(socket)
}

/// Has the kernel keep little of what the client does not read.
pub(crate) fn limit_unread(socket: impl AsFd) -> Result<(), Errno> {
    net::sockopt::set_socket_send_buffer_size(socket, UNREAD_BYTES)
}

/// What [`receive`] found.
pub(crate) enum Received {
    /// A request, and the process that sent it: 0 if it cannot be seen from here.
    Request(Request, u32),
    /// Nothing for now.
    Empty,
    /// The client has gone.
    End,
    /// The client does not speak this protocol, and is to be told so.
    Refused(Reason),
}

/// Takes one packet. Where descriptors may come along, it is looked at first, and left where it is if
/// there are any: whoever takes it closes them.
pub(crate) fn receive(socket: impl AsFd, descriptors_are_refused: bool) -> Received {
    let socket = socket.as_fd();
    // One byte more than the longest request, so that a longer packet is seen to be one.
    let mut packet = [0; Request::MAX_LEN + 1];
    if !descriptors_are_refused {
        match socket::peek(socket, &mut []) {
            Ok(packet) if packet.has_descriptors => return Received::Refused(Reason::Descriptors),
            Ok(_) => {}
            Err(errno) => return nothing(errno),
        }
    }
    let received = match socket::receive(socket, &mut packet) {
        Ok(received) => received,
        Err(errno) => return nothing(errno),
    };
    match packet.get(..received.length) {
        Some([]) => Received::End,
        Some(packet) => match Request::decode(packet) {
            Ok(request) => Received::Request(request, received.sender.unwrap_or(0)),
            Err(Rejected::Version(_)) => Received::Refused(Reason::Version),
            Err(Rejected::Malformed) => Received::Refused(Reason::Malformed),
        },
        // Longer than a request of this version.
        None => Received::Refused(match header(&packet) {
            Some((VERSION, _)) | None => Reason::Malformed,
            Some(_) => Reason::Version,
        }),
    }
}

fn nothing(errno: Errno) -> Received {
    match errno {
        Errno::WOULDBLOCK | Errno::INTR => Received::Empty,
        _ => Received::End,
    }
}

/// Sends one packet, or fails at once.
pub(crate) fn send(socket: impl AsFd, packet: &[u8]) -> Result<(), Errno> {
    net::send(socket, packet, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).map(drop)
}

/// Sends the last packet of a connection, which the client can read whatever it has left unread and
/// however much it has asked.
pub(crate) fn send_last(socket: impl AsFd, refusal: &Refusal, descriptors_are_refused: bool) {
    let socket = socket.as_fd();
    let packet = refusal.encode();
    if let Err(Errno::AGAIN | Errno::NOBUFS) = send(socket, &packet) {
        let _ = net::sockopt::set_socket_send_buffer_size(socket, 4 * UNREAD_BYTES);
        let _ = send(socket, &packet);
    }
    // Of a connection that is closed with requests in it, the kernel tells the client ECONNRESET
    // before it lets it read the last packet. So no more come, and those that are there are taken,
    // unless descriptors are with them.
    let _ = net::shutdown(socket, net::Shutdown::Read);
    for _ in 0..LAST_PACKETS {
        let is_harmless = descriptors_are_refused
            || socket::peek(socket, &mut []).is_ok_and(|packet| !packet.has_descriptors);
        if !is_harmless || socket::receive(socket, &mut []).map_or(0, |it| it.length) == 0 {
            return;
        }
    }
}

/// Takes what is left in a connection to which nothing more can come. Whether all of it could be taken,
/// and there were no descriptors.
pub(crate) fn empty(socket: impl AsFd) -> bool {
    let socket = socket.as_fd();
    for _ in 0..=LAST_PACKETS {
        match socket::peek(socket, &mut []) {
            // Every packet has a sender, even one without bytes; the end has none.
            Ok(packet) if packet.length == 0 && packet.sender.is_none() => {
                return !packet.has_descriptors;
            }
            Ok(packet) if packet.has_descriptors => return false,
            // The client has closed its end without reading everything. That is said once, and
            // what it has sent stays.
            Ok(_) if socket::receive(socket, &mut []).is_ok() => {}
            Err(Errno::CONNRESET) => {}
            _ => return false,
        }
    }
    false
}

/// Sends one packet with descriptors, or fails at once.
pub(crate) fn send_with(
    socket: impl AsFd,
    packet: &[u8],
    descriptors: &[BorrowedFd<'_>; 2],
) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_with_descriptors_is_refused_and_left_where_it_is() {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let packet = Request::new(sysgenid_sys::wire::Op::Status, 7).encode();
        send(&theirs, &packet).unwrap();
        send_with(&theirs, &packet, &[ours.as_fd(), ours.as_fd()]).unwrap();
        let Received::Request(request, _) = receive(&ours, false) else {
            panic!("not a request");
        };
        assert_eq!(request.sequence, 7);
        for _ in 0..2 {
            let received = receive(&ours, false);
            assert!(matches!(received, Received::Refused(Reason::Descriptors)));
        }
        assert!(socket::peek(&ours, &mut []).unwrap().has_descriptors);
        send_last(&ours, &Refusal::new(Reason::Descriptors, 0), false);
        assert!(socket::peek(&ours, &mut []).unwrap().has_descriptors);
    }
}
