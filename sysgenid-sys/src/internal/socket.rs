// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Unix sockets, as the userspace driver needs them: who is at the other end, and who sent a packet,
//! also where that is in another pid namespace; and packets that carry descriptors.
//!
//! rustix takes a process id for a number that is not zero. The kernel gives zero for a process that
//! the caller's pid namespace does not show.

use core::ffi::{c_int, c_void};
use core::mem::{MaybeUninit, size_of};

use rustix::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use rustix::io::Errno;

/// From Linux's `asm-generic/socket.h`, as all machines have it that this crate is used on but for
/// SPARC and PA-RISC, whose kernels know another option by this number or none.
const SO_PASSRIGHTS: c_int = 83;

/// A process at the other end of a socket, as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Its id in the caller's pid namespace; 0 if it cannot be seen from there.
    pub pid: u32,
    /// Its user in the caller's user namespace; the overflow id if it has none there.
    pub uid: u32,
}

impl Peer {
    fn of(credentials: libc::ucred) -> Self {
        Self {
            pid: u32::try_from(credentials.pid).unwrap_or(0),
            uid: credentials.uid,
        }
    }
}

/// Which process connected a unix socket.
///
/// # Errors
///
/// The error of `getsockopt` for `SO_PEERCRED`.
pub fn peer(socket: impl AsFd) -> Result<Peer, Errno> {
    let mut credentials = MaybeUninit::<libc::ucred>::uninit();
    let mut length = length_of::<libc::ucred>();
    // SAFETY: The descriptor is borrowed for the call. The kernel writes at most `length` bytes to
    // where `credentials` lies, which has that many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            credentials.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    check(result)?;
    if length != length_of::<libc::ucred>() {
        return Err(Errno::INVAL);
    }
    // SAFETY: The call succeeded and has written all of it. Each bit pattern is a value.
    Ok(Peer::of(unsafe { credentials.assume_init() }))
}

/// Makes the kernel refuse packets with descriptors that are sent to this socket, with `EPERM` to the
/// sender. Sockets that are accepted from a listening one have its setting.
///
/// # Errors
///
/// `ENOPROTOOPT` on Linux before 6.16; else the error of `setsockopt`.
pub fn refuse_descriptors(socket: impl AsFd) -> Result<(), Errno> {
    set_option(socket, SO_PASSRIGHTS, 0)
}

/// Makes the kernel say of each packet which process sent it: see [`receive`].
///
/// # Errors
///
/// The error of `setsockopt`.
pub fn pass_credentials(socket: impl AsFd) -> Result<(), Errno> {
    set_option(socket, libc::SO_PASSCRED, 1)
}

fn set_option(socket: impl AsFd, option: c_int, value: c_int) -> Result<(), Errno> {
    // SAFETY: The descriptor is borrowed for the call. The kernel reads as many bytes of `value` as
    // it has.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            length_of::<c_int>(),
        )
    };
    check(result)
}

/// How many bytes of what was sent over a unix socket its other end has not read, with the kernel's
/// own for each packet: 0 only if everything was read.
///
/// # Errors
///
/// The error of `ioctl`.
pub fn unread(socket: impl AsFd) -> Result<u32, Errno> {
    let mut bytes: c_int = 0;
    // SAFETY: The descriptor is borrowed for the call. This request, `SIOCOUTQ` on a socket, writes
    // one `int` to where its argument points.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    check(result)?;
    Ok(u32::try_from(bytes).unwrap_or(0))
}

/// A packet that was received, or looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Its length, which may be more than what was received of it; 0 at the end.
    pub length: usize,
    /// The process that sent it, in the caller's pid namespace; 0 if it cannot be seen from there.
    /// `None` without [`pass_credentials`].
    pub sender: Option<u32>,
    /// It carries descriptors. They are not received.
    pub has_descriptors: bool,
}

/// Takes a packet and what the kernel says of its sender, without waiting.
///
/// Descriptors that the packet carries are closed by the kernel, in this thread. That may block, and
/// so [`peek`] comes first where they are not [refused](refuse_descriptors).
///
/// # Errors
///
/// `EAGAIN` if there is none; else the error of `recvmsg`.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<Packet, Errno> {
    receive_with(socket, buffer, 0)
}

/// Looks at the first packet and leaves it where it is.
///
/// # Errors
///
/// As [`receive`].
pub fn peek(socket: impl AsFd, buffer: &mut [u8]) -> Result<Packet, Errno> {
    receive_with(socket, buffer, libc::MSG_PEEK)
}

/// Room for one set of credentials and nothing else, so that descriptors never arrive: the kernel
/// says that it had to cut them off.
#[repr(C)]
union Control {
    /// For the alignment.
    _header: libc::cmsghdr,
    space: [u8; CONTROL_LEN],
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "twelve bytes, and a header"
)]
const CONTROL_LEN: usize =
    // SAFETY: It only computes.
    unsafe { libc::CMSG_SPACE(size_of::<libc::ucred>() as u32) } as usize;

fn receive_with(socket: impl AsFd, buffer: &mut [u8], flags: c_int) -> Result<Packet, Errno> {
    let mut control = Control {
        space: [0; CONTROL_LEN],
    };
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast::<c_void>(),
        iov_len: buffer.len(),
    };
    // SAFETY: Zeros are a header that points nowhere.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = CONTROL_LEN as _;
    let flags = flags | libc::MSG_DONTWAIT | libc::MSG_TRUNC | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: The descriptor is borrowed for the call. The header points to one part, which is
    // `buffer`, and to `control`, each with its length, and both outlive the call.
    let length = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, flags) };
    let length = usize::try_from(length).map_err(|_| last_error())?;

    let mut sender = None;
    let mut has_descriptors = message.msg_flags & libc::MSG_CTRUNC != 0;
    // SAFETY: The kernel has filled `control` as far as the header says now.
    let first = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: It is null, or points to a whole header within `control`.
    if let Some(header) = unsafe { first.as_ref() } {
        // SAFETY: `control` has room for these credentials behind a header, whatever was written.
        let data = unsafe { libc::CMSG_DATA(first) };
        match (header.cmsg_level, header.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) => {
                // SAFETY: The kernel writes all of them or none. They may be unaligned.
                let credentials = unsafe { data.cast::<libc::ucred>().read_unaligned() };
                sender = Some(Peer::of(credentials).pid);
            }
            // Without credentials, there is room for one descriptor in their place.
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                has_descriptors = true;
                // SAFETY: Where there is such a message, there is at least one descriptor in it. It
                // is new and this function's alone.
                drop(unsafe { OwnedFd::from_raw_fd(data.cast::<c_int>().read_unaligned()) });
            }
            _ => {}
        }
    }
    Ok(Packet {
        length,
        sender,
        has_descriptors,
    })
}

fn check(result: c_int) -> Result<(), Errno> {
    if result < 0 {
        Err(last_error())
    } else {
        Ok(())
    }
}

fn last_error() -> Errno {
    // SAFETY: The address of the thread's own number, which is always there.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the types here have a few bytes"
)]
const fn length_of<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

#[cfg(all(test, feature = "std"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

    use std::io::IoSlice;

    use rustix::net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
        SocketType, send, sendmsg, socketpair,
    };

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::CLOEXEC;
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
    }

    fn send_descriptor(socket: &OwnedFd, packet: &[u8]) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let file = [socket.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&file)));
        let parts = [IoSlice::new(packet)];
        sendmsg(socket, &parts, &mut ancillary, SendFlags::empty()).map(drop)
    }

    #[test]
    fn the_peer_of_a_pair_is_this_process() {
        let (here, _there) = pair();
        let peer = peer(&here).unwrap();
        assert_eq!(peer.pid, std::process::id());
        assert_eq!(peer.uid, rustix::process::getuid().as_raw());
    }

    #[test]
    fn a_packet_tells_its_length_and_who_sent_it() {
        let (here, there) = pair();
        let mut buffer = [0; 4];
        assert_eq!(receive(&here, &mut buffer), Err(Errno::AGAIN));
        send(&there, b"without", SendFlags::empty()).unwrap();
        let packet = receive(&here, &mut buffer).unwrap();
        assert_eq!((packet.length, packet.sender), (7, None));
        assert_eq!(&buffer, b"with");

        pass_credentials(&here).unwrap();
        send(&there, b"with", SendFlags::empty()).unwrap();
        for take in [peek, receive] {
            let packet = take(&here, &mut buffer).unwrap();
            let sender = Some(std::process::id());
            let expected = Packet {
                length: 4,
                sender,
                has_descriptors: false,
            };
            assert_eq!(packet, expected);
        }
        drop(there);
        assert_eq!(receive(&here, &mut buffer).map(|end| end.length), Ok(0));
    }

    #[test]
    fn descriptors_are_seen_before_they_are_received() {
        let (here, there) = pair();
        for with_credentials in [false, true] {
            if with_credentials {
                pass_credentials(&here).unwrap();
            }
            send_descriptor(&there, b"x").unwrap();
            assert!(peek(&here, &mut [0; 1]).unwrap().has_descriptors);
            let packet = receive(&here, &mut [0; 1]).unwrap();
            assert!(packet.has_descriptors);
            assert_eq!(packet.sender.is_some(), with_credentials);
        }
    }

    #[test]
    fn descriptors_are_refused_where_the_kernel_can() {
        let (here, there) = pair();
        match refuse_descriptors(&here) {
            Ok(()) => assert_eq!(send_descriptor(&there, b"x"), Err(Errno::PERM)),
            // Linux before 6.16.
            Err(errno) => assert_eq!(errno, Errno::NOPROTOOPT),
        }
    }

    #[test]
    fn what_is_unread_is_counted() {
        let (here, there) = pair();
        assert_eq!(unread(&here), Ok(0));
        send(&here, b"x", SendFlags::empty()).unwrap();
        assert!(unread(&here).unwrap() > 0);
        receive(&there, &mut [0; 1]).unwrap();
        assert_eq!(unread(&here), Ok(0));
    }
}
