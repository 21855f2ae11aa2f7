// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The messages between a client and the userspace driver, the *broker*: version 2.
//!
//! One message is one packet of a `SOCK_SEQPACKET` socket: a struct of fixed size, its integers
//! little-endian. The broker listens on two sockets of its directory: [`WATCH_SOCKET`], for every
//! user, and [`CONTROL_SOCKET`], for its owner and root, which also takes [`Op::Trigger`],
//! [`Op::Stragglers`] and [`Op::SetPhase`], but not [`Op::Open`]. The book's page about the ABI gives
//! every packet byte by byte.
//!
//! # Two kinds of connections
//!
//! A connection becomes a *watcher* with [`Op::Open`]. The reply carries two descriptors
//! (`SCM_RIGHTS`): the counter page, open for reading, and the *slot*, in which the client
//! acknowledges. From then on the broker sends nothing over it but a [`Notice`] of each change, so
//! the client polls the connection itself: it is readable while the watcher is outdated. What the
//! client sends over it has no reply.
//!
//! Questions ([`Op::Status`], [`Op::Wait`] and those of the control socket) go over a connection
//! that is not a watcher, usually a new one for each. The broker closes such a connection to the
//! watch socket when it has neither asked nor waited for [`IDLE_SECONDS`].
//!
//! # The notice
//!
//! The broker sends no notice of a change while the last one is unread, which it takes it to be until
//! the client acknowledges. No change is lost by that: what counts is that the connection is
//! readable, and then the page. A notice that does not fit into the socket's queue is not lost either,
//! because the queue is not empty. More than one may be unread after [`Op::Notify`], in a watcher that
//! parks, and where a client acknowledged a change before its notice came.
//!
//! There is no separate descriptor to signal with, because nothing that the broker calls may block
//! on what a client holds. A pipe's mutex, for one, is shared with its reader.
//!
//! # Acknowledging without waiting
//!
//! 1. The client compares the page with the generation it handled. Another one is stale, and
//!    nothing happens.
//! 2. It reads one notice, if there is one.
//! 3. It leaves the generation in the [slot](crate::slot), which the broker reads when a client asks
//!    who is outdated, and at the next change.
//! 4. It compares again. If the generation is no longer the current one, or if the slot says that
//!    a client waits, it asks for [`Op::Acknowledge`]. The broker answers a stale one with another
//!    notice, because the notice that was read may have been that of the change that came between
//!    the two looks, and what the slot held may have been a newer acknowledgement, of another
//!    thread.
//!
//! The broker stores the page, then looks at the slot to see whether the last notice was read, then
//! sends. Of a client that acknowledges and a broker that makes a change at the same moment, at
//! least one sees the other: the client finds the new generation in step 4, or the broker finds the
//! acknowledgement and sends. So no order of these steps loses a wake-up.
//!
//! A change that the client saw in the page, and acknowledged, before its notice came leaves the
//! connection readable although the slot holds the current generation. Acknowledging again reads
//! that notice. If the next change is under way, the slot is emptied for that one already, and says
//! nothing of the current one: the client remembers what it has acknowledged.
//!
//! # Versions and refusals
//!
//! The first four bytes of every packet of every version are a version and a kind, and the layout of
//! a [`Refusal`] is the same in every version. A broker that cannot serve a client says why in a
//! refusal and closes the connection; among the reasons are the versions that it speaks.

mod bytes;
mod change;
mod followers;
mod refusal;
mod reply;
mod request;
mod straggler;

pub use change::{Cause, Notice, PAYLOAD_LEN, Payload, PayloadTooLong, Phase};
pub use followers::{Followers, NoSuchFollower};
pub use refusal::{Reason, Refusal};
pub use reply::{Answer, Reply};
pub use request::{Awaited, Op, Rejected, Request};
pub use straggler::{Straggler, StragglerPage};

/// File of the counter page in the broker's directory.
pub const PAGE_FILE: &str = "page";
/// Socket for watchers in the broker's directory.
pub const WATCH_SOCKET: &str = "watch.sock";
/// Socket for the owner in the broker's directory.
pub const CONTROL_SOCKET: &str = "control.sock";

/// Version of this format.
pub const VERSION: u16 = 2;

/// How long a connection to the watch socket that is not a watcher may do nothing, in seconds.
pub const IDLE_SECONDS: u32 = 5;

/// [`Op::Open`]: the watcher is tracked.
pub const OPEN_TRACKED: u32 = 1;
/// [`Op::Open`]: a watcher of an earlier broker goes on: argument 1 is what it has acknowledged.
/// If that is not the current generation, it is outdated from the start.
pub const OPEN_RESUME: u32 = 2;
/// [`Op::Open`]: the watcher parks: it gets a notice of each change of the phase as well, and is
/// waited for until it has acknowledged that.
pub const OPEN_PARKS: u32 = 4;

/// The version and the kind with which a packet begins; `None` if it is shorter than that.
#[must_use]
pub fn header(packet: &[u8]) -> Option<(u16, u16)> {
    let mut reader = bytes::Reader(packet);
    Some((reader.u16()?, reader.u16()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_begins_with_its_version_and_kind() {
        let request = Request::new(Op::Status, 7);
        assert_eq!(header(&request.encode()), Some((2, 6)));
        assert_eq!(header(&Notice::default().encode()), Some((2, Notice::KIND)));
        let refusal = Refusal::new(Reason::Full, 7);
        assert_eq!(header(&refusal.encode()), Some((2, Refusal::KIND)));
        assert_eq!(header(&[2, 0, 1]), None);
    }
}
