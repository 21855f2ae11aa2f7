// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Closing a client's connection, without waiting for what it may have sent along.
//!
//! A descriptor that a client has sent and nobody has received is closed with the connection, by the
//! thread that closes that; and closing it may wait for as long as the client likes, for the mutex of
//! a pipe, for one. Where the kernel can, it takes no descriptors for the broker at all (Linux 6.16).
//! Elsewhere other threads close a connection with descriptors in it, one for each user, so that a user
//! only waits for itself.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use rustix::net::{Shutdown, shutdown};

use crate::socket;

/// How long a thread waits for more to close before it ends.
const LINGER: Duration = Duration::from_secs(10);
/// Users that have a thread of their own; the others share one.
const USERS: usize = 64;
/// Whose thread those share: an id that no user has.
const OTHERS: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Retirement {
    closes_at_once: bool,
    threads: HashMap<u32, Closing>,
}

#[derive(Debug)]
struct Closing {
    queue: Sender<OwnedFd>,
    /// How many are not closed yet.
    left: Arc<AtomicUsize>,
}

impl Retirement {
    pub(crate) fn new(closes_at_once: bool) -> Self {
        Self {
            closes_at_once,
            threads: HashMap::new(),
        }
    }

    /// Whether nothing that a client sends can be in a connection but bytes.
    pub(crate) fn closes_at_once(&self) -> bool {
        self.closes_at_once
    }

    /// Closes a connection of this user, now or soon. The client sees its end at once.
    pub(crate) fn retire(&mut self, socket: OwnedFd, uid: u32) {
        if self.closes_at_once {
            return;
        }
        let _ = shutdown(&socket, Shutdown::Both);
        // Nothing more can come. Without this, a client that sends one descriptor could have any
        // number of connections wait behind it, and each takes a descriptor of this process.
        if socket::empty(&socket) {
            return;
        }
        let has_room = self.threads.len() < USERS || self.threads.contains_key(&uid);
        let user = if has_room { uid } else { OTHERS };
        let mut socket = socket;
        // A thread that had nothing to do for a while has ended, and another takes its place.
        for _ in 0..2 {
            let Some(closing) = self.threads.get(&user) else {
                match Closing::start() {
                    Some(closing) => self.threads.insert(user, closing),
                    None => break,
                };
                continue;
            };
            closing.left.fetch_add(1, Ordering::Relaxed);
            match closing.queue.send(socket) {
                Ok(()) => return,
                Err(mpsc::SendError(back)) => {
                    self.threads.remove(&user);
                    socket = back;
                }
            }
        }
        // Neither can it be closed here nor handed on: it stays, as a connection that has ended.
        // The process has no memory for a thread, and does not live on for long.
        std::mem::forget(socket);
    }

    /// How many connections of this user are not closed yet.
    pub(crate) fn left_of(&self, uid: u32) -> usize {
        let closing = self.threads.get(&uid);
        closing.map_or(0, |closing| closing.left.load(Ordering::Relaxed))
    }
}

/// Closes a listening socket, and with it the connections that it has not accepted.
///
/// A separate thread does, which waits for no other client. All these clients see the end at once:
/// the kernel closes their connections first, and only then what they have sent along.
pub(crate) fn close_apart(listener: OwnedFd) {
    let Some(closing) = Closing::start() else {
        return std::mem::forget(listener);
    };
    if let Err(mpsc::SendError(listener)) = closing.queue.send(listener) {
        std::mem::forget(listener);
    }
}

impl Closing {
    fn start() -> Option<Self> {
        let (queue, sockets) = mpsc::channel::<OwnedFd>();
        let left = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&left);
        let close = move || {
            loop {
                match sockets.recv_timeout(LINGER) {
                    Ok(socket) => {
                        drop(socket);
                        counted.fetch_sub(1, Ordering::Relaxed);
                    }
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        let builder = thread::Builder::new().name("sysgenid-close".into());
        builder.spawn(close).ok()?;
        Some(Self { queue, left })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use std::os::fd::AsFd;

    use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        sysgenid_sys::internal::socket::pass_credentials(&ours).unwrap();
        (ours, theirs)
    }

    /// A connection with a packet that carries descriptors, and its other end.
    fn with_descriptors() -> (OwnedFd, OwnedFd) {
        let (ours, theirs) = pair();
        socket::send_with(&theirs, b"packet", &[theirs.as_fd(), theirs.as_fd()]).unwrap();
        (ours, theirs)
    }

    #[test]
    fn an_empty_connection_does_not_wait_for_another_one() {
        let mut retirement = Retirement::new(false);
        let (queue, _never_closed) = mpsc::channel();
        let left = Arc::new(AtomicUsize::new(1));
        retirement.threads.insert(1, Closing { queue, left });
        for packets in [0, 1, 5] {
            let (ours, theirs) = pair();
            for _ in 0..packets {
                rustix::net::send(&theirs, &[], SendFlags::empty()).unwrap();
                rustix::net::send(&theirs, b"packet", SendFlags::empty()).unwrap();
            }
            retirement.retire(ours, 1);
            assert_eq!(retirement.left_of(1), 1, "after {packets} packets");
        }
        retirement.retire(with_descriptors().0, 1);
        assert_eq!(retirement.left_of(1), 2);
    }

    #[test]
    fn another_thread_closes_and_the_client_sees_the_end_at_once() {
        let mut retirement = Retirement::new(false);
        for uid in [1, 1, 2] {
            let (ours, theirs) = with_descriptors();
            retirement.retire(ours, uid);
            let end = rustix::net::recv(&theirs, &mut [0; 8], rustix::net::RecvFlags::empty());
            assert!(matches!(
                end,
                Ok((0, _)) | Err(rustix::io::Errno::CONNRESET)
            ));
        }
        assert_eq!(retirement.threads.len(), 2);
        let end = Instant::now() + Duration::from_secs(20);
        while retirement.left_of(1) + retirement.left_of(2) > 0 {
            assert!(Instant::now() < end, "nobody closes them");
            thread::yield_now();
        }
    }

    #[test]
    fn many_users_share_threads() {
        let mut retirement = Retirement::new(false);
        for uid in 0..200 {
            let (ours, _theirs) = with_descriptors();
            retirement.retire(ours, uid);
        }
        assert_eq!(retirement.threads.len(), USERS + 1);
    }
}
