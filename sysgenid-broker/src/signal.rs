// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is readable while a watcher is outdated, and takes its acknowledgements.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
    sockopt::set_socket_send_buffer_size,
};

/// The broker's end of a watcher's signal: see `sysgenid_sys::wire`.
///
/// Nothing that a client does to its own end can block the broker: the flags of the two ends are
/// apart, and each call here says for itself that it must not wait.
#[derive(Debug)]
pub(crate) struct Signal(OwnedFd);

/// The client has closed its end, or sent what is no acknowledgement.
pub(crate) struct Broken;

impl Signal {
    /// The broker's end and the client's.
    pub(crate) fn new() -> Result<(Self, OwnedFd), Errno> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        for end in [&ours, &theirs] {
            // The kernel makes it the least it allows, a few tokens: one is enough, and what an
            // idle client leaves unread must not add up.
            set_socket_send_buffer_size(end, 0)?;
        }
        Ok((Self(ours), theirs))
    }

    /// Makes the client's end readable, with the token of this generation.
    pub(crate) fn raise(&self, generation: u32) {
        // It fails if the client has closed its end, which is its own affair, or has left so many
        // tokens that no more fit: then its end is readable already.
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let _ = send(&self.0, &generation.to_le_bytes(), flags);
    }

    /// Takes all acknowledgements that the client has left.
    pub(crate) fn take(&self, mut acknowledge: impl FnMut(u32)) -> Result<(), Broken> {
        loop {
            let mut left = [0; 256];
            let length = match recv(&self.0, &mut left, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(Broken),
                Ok((length, _)) => length,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(_) => return Err(Broken),
            };
            let mut rest = left.get(..length).unwrap_or_default();
            while let Some((generation, after)) = rest.split_first_chunk() {
                acknowledge(u32::from_le_bytes(*generation));
                rest = after;
            }
            if !rest.is_empty() {
                return Err(Broken);
            }
            if length < left.len() {
                return Ok(());
            }
        }
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
