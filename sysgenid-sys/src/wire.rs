// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The messages between a client and the userspace driver, the *broker*.
//!
//! One message is one packet of a `SOCK_SEQPACKET` socket: a struct of fixed size, its integers
//! little-endian. The broker listens on two sockets of its folder: [`WATCH_SOCKET`], for everyone,
//! and [`CONTROL_SOCKET`], for its owner, which takes [`Op::Trigger`] and [`Op::Stragglers`] too.
//! A packet of another length, version or operation closes the connection.
//!
//! A connection becomes a watcher with [`Op::Open`]. The reply carries three descriptors
//! (`SCM_RIGHTS`): the *signal*, readable while the watcher is outdated; the counter page, open for
//! reading; and the *slot*, in which the client acknowledges.
//!
//! # The signal
//!
//! The signal is the reading end of a pipe, into which the broker writes a byte at each change. It
//! hangs up when the broker ends.
//!
//! It is not an eventfd, because the two sides of an eventfd share its flags and its counter: a
//! client that fills it and makes it blocking would stop the broker, and with it everybody.
//!
//! # Acknowledging without waiting
//!
//! 1. The client compares the page with the generation it handled. Another one is stale, and
//!    nothing happens.
//! 2. It empties the signal.
//! 3. It leaves the generation in the [slot](crate::slot), which the broker reads when somebody asks
//!    who is outdated.
//! 4. It compares again. If the generation is no longer the current one, or if the slot says that
//!    somebody waits, it asks for [`Op::Acknowledge`], which the broker reads at once. A stale one
//!    is answered with another signal, because what was emptied may have been the signal of the
//!    change that came between the two looks, and what the slot held may have been a newer
//!    acknowledgement, of another thread.
//!
//! The broker stores the page before it signals. So a signal that is emptied is of a change that
//! the second look sees, and no order of these steps loses a wake-up.
//!
//! A change that the client saw in the page, and acknowledged, before its signal came leaves the
//! signal readable although the slot holds the current generation. That means nothing, and
//! acknowledging again empties it. If the next change is under way, the slot is emptied for that one
//! already, and says nothing of the current one: the client remembers what it has acknowledged.

/// File of the counter page in the broker's folder.
pub const PAGE_FILE: &str = "page";
/// Socket for watchers in the broker's folder.
pub const WATCH_SOCKET: &str = "watch.sock";
/// Socket for the owner in the broker's folder.
pub const CONTROL_SOCKET: &str = "control.sock";

/// Version of this format. A broker closes a connection that speaks another.
pub const VERSION: u16 = 1;

/// What a client asks for. The comments name the request's arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Op {
    /// Become a watcher. Argument 0: the `OPEN_` flags; 1: with [`OPEN_RESUME`], the acknowledged
    /// generation. The reply carries the signal, the page and the slot, in this order.
    Open = 1,
    /// Acknowledge now, because somebody waits or because the generation is stale. Argument 0: the
    /// generation. **No reply**, but a signal if it is stale.
    Acknowledge = 2,
    /// Set tracking. Argument 0: 0 or 1.
    SetTracking = 3,
    /// Wait until no tracked watcher is outdated. The reply comes when the wait is over; its
    /// sequence number is the wait's. The deadline is the client's: see [`Op::CancelWait`].
    Wait = 4,
    /// End this connection's wait. **No reply**; the reply to the wait may already be under way.
    CancelWait = 5,
    /// Ask for the counts in the reply. Works before [`Op::Open`].
    Status = 6,
    /// Change the generation to `max(argument 0, generation + 1)`. Control socket only.
    Trigger = 7,
    /// List tracked outdated watchers, answered by a [`StragglerPage`] instead of a [`Reply`].
    /// Arguments 0 and 1: low and high half of the number after which to go on. Control socket
    /// only; elsewhere the page's status says so.
    Stragglers = 8,
}

impl Op {
    /// The operation with this number.
    #[must_use]
    pub const fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Open,
            2 => Self::Acknowledge,
            3 => Self::SetTracking,
            4 => Self::Wait,
            5 => Self::CancelWait,
            6 => Self::Status,
            7 => Self::Trigger,
            8 => Self::Stragglers,
            _ => return None,
        })
    }
}

/// [`Op::Open`]: the watcher is tracked.
pub const OPEN_TRACKED: u32 = 1;
/// [`Op::Open`]: a watcher of an earlier broker goes on: argument 1 is what it has acknowledged.
/// If that is not the current generation, it is outdated from the start.
pub const OPEN_RESUME: u32 = 2;

/// How a request ended. The number is Linux's errno for the same outcome on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// `EINTR`: the caller's own watcher is outdated.
    Outdated = 4,
    /// `EACCES`: not on this socket.
    Denied = 13,
    /// `EBUSY`: this connection waits already.
    Busy = 16,
    /// `EINVAL`: the connection is a watcher already, or not one yet, or the argument is invalid.
    Invalid = 22,
    /// `EMFILE`: the broker has no descriptor left for another watcher.
    Full = 24,
}

impl Status {
    /// The status with this number.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Ok,
            4 => Self::Outdated,
            13 => Self::Denied,
            16 => Self::Busy,
            22 => Self::Invalid,
            24 => Self::Full,
            _ => return None,
        })
    }
}

/// A request, from client to broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// What is asked for.
    pub op: Op,
    /// Chosen by the client and repeated in the reply, so that a late reply is not taken for
    /// another.
    pub sequence: u32,
    /// Arguments, as [`Op`] says; 0 where it names none.
    pub arguments: [u32; 2],
}

impl Request {
    /// Bytes of an encoded request.
    pub const LEN: usize = 16;

    /// The packet.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut packet = [0; Self::LEN];
        let mut writer = Writer(&mut packet);
        writer.u16(VERSION);
        writer.u16(self.op as u16);
        writer.u32(self.sequence);
        for argument in self.arguments {
            writer.u32(argument);
        }
        packet
    }

    /// The request of a packet; `None` for another length, version or operation.
    #[must_use]
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let mut reader = Reader(packet);
        if reader.u16()? != VERSION {
            return None;
        }
        let decoded = Self {
            op: Op::from_number(reader.u16()?)?,
            sequence: reader.u32()?,
            arguments: [reader.u32()?, reader.u32()?],
        };
        reader.is_empty().then_some(decoded)
    }
}

/// A reply, from broker to client. The counts are of the moment it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reply {
    /// What was asked for.
    pub op: Op,
    /// The request's.
    pub sequence: u32,
    /// How it ended.
    pub status: Status,
    /// The current generation.
    pub generation: u32,
    /// Watchers.
    pub watchers: u32,
    /// Tracked watchers.
    pub tracked: u32,
    /// Tracked watchers that are outdated.
    pub outdated: u32,
}

impl Reply {
    /// Bytes of an encoded reply.
    pub const LEN: usize = 32;

    /// The packet.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut packet = [0; Self::LEN];
        let mut writer = Writer(&mut packet);
        writer.u16(VERSION);
        writer.u16(self.op as u16);
        writer.u32(self.sequence);
        writer.u32(self.status as u32);
        writer.u32(self.generation);
        writer.u32(self.watchers);
        writer.u32(self.tracked);
        writer.u32(self.outdated);
        packet
    }

    /// The reply of a packet; `None` for another length, version, operation or status.
    #[must_use]
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let mut reader = Reader(packet);
        if reader.u16()? != VERSION {
            return None;
        }
        let decoded = Self {
            op: Op::from_number(reader.u16()?)?,
            sequence: reader.u32()?,
            status: Status::from_number(reader.u32()?)?,
            generation: reader.u32()?,
            watchers: reader.u32()?,
            tracked: reader.u32()?,
            outdated: reader.u32()?,
        };
        let _reserved = reader.u32()?;
        reader.is_empty().then_some(decoded)
    }
}

/// A tracked watcher that has not acknowledged the current generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Straggler {
    /// The broker's number of the watcher, never used twice.
    pub watcher: u64,
    /// Process that connected, in the broker's pid namespace; 0 if the kernel did not say.
    pub pid: u32,
    /// The generation it has acknowledged.
    pub acknowledged: u32,
    /// The process's command name, padded with zeros; empty if it could not be read.
    pub command: [u8; 16],
}

impl Straggler {
    const LEN: usize = 32;
}

/// The answer to [`Op::Stragglers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StragglerPage {
    /// The request's.
    pub sequence: u32,
    /// How it ended.
    pub status: Status,
    /// The current generation.
    pub generation: u32,
    /// How many entries are filled. Fewer than [`Self::CAPACITY`] means that no more follow.
    pub count: u32,
    /// The entries, by ascending [`Straggler::watcher`].
    pub entries: [Straggler; Self::CAPACITY],
}

impl StragglerPage {
    /// Entries of one page.
    pub const CAPACITY: usize = 32;
    /// Bytes of an encoded page.
    pub const LEN: usize = 24 + Self::CAPACITY * Straggler::LEN;

    /// The packet.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut packet = [0; Self::LEN];
        let mut writer = Writer(&mut packet);
        writer.u16(VERSION);
        writer.u16(Op::Stragglers as u16);
        writer.u32(self.sequence);
        writer.u32(self.status as u32);
        writer.u32(self.generation);
        writer.u32(self.count);
        writer.u32(0);
        for entry in &self.entries {
            writer.bytes(entry.watcher.to_le_bytes());
            writer.u32(entry.pid);
            writer.u32(entry.acknowledged);
            writer.bytes(entry.command);
        }
        packet
    }

    /// The page of a packet; `None` for another length, version, operation, status or an
    /// impossible count.
    #[must_use]
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let mut reader = Reader(packet);
        if reader.u16()? != VERSION || Op::from_number(reader.u16()?)? != Op::Stragglers {
            return None;
        }
        let sequence = reader.u32()?;
        let status = Status::from_number(reader.u32()?)?;
        let generation = reader.u32()?;
        let count = reader.u32()?;
        let _reserved = reader.u32()?;
        if usize::try_from(count).ok()? > Self::CAPACITY {
            return None;
        }
        let mut entries = [Straggler::default(); Self::CAPACITY];
        for entry in &mut entries {
            *entry = Straggler {
                watcher: u64::from_le_bytes(reader.bytes()?),
                pid: reader.u32()?,
                acknowledged: reader.u32()?,
                command: reader.bytes()?,
            };
        }
        reader.is_empty().then_some(Self {
            sequence,
            status,
            generation,
            count,
            entries,
        })
    }

    /// The filled entries.
    #[must_use]
    pub fn filled(&self) -> &[Straggler] {
        let count = usize::try_from(self.count).unwrap_or(Self::CAPACITY);
        self.entries.get(..count).unwrap_or(&self.entries)
    }
}

/// Writes integers one after another. The packets are sized for what is written; what would not
/// fit is not written, and the tests compare every field.
struct Writer<'a>(&'a mut [u8]);

impl Writer<'_> {
    fn bytes<const N: usize>(&mut self, bytes: [u8; N]) {
        if let Some((head, tail)) = core::mem::take(&mut self.0).split_first_chunk_mut::<N>() {
            *head = bytes;
            self.0 = tail;
        }
    }

    fn u16(&mut self, value: u16) {
        self.bytes(value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.bytes(value.to_le_bytes());
    }
}

/// Reads integers one after another; `None` at the end.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.bytes()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes()?))
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPS: [Op; 8] = [
        Op::Open,
        Op::Acknowledge,
        Op::SetTracking,
        Op::Wait,
        Op::CancelWait,
        Op::Status,
        Op::Trigger,
        Op::Stragglers,
    ];
    const STATUSES: [Status; 6] = [
        Status::Ok,
        Status::Outdated,
        Status::Denied,
        Status::Busy,
        Status::Invalid,
        Status::Full,
    ];

    #[test]
    fn requests_come_back_as_they_were() {
        for op in OPS {
            let request = Request {
                op,
                sequence: 0x0102_0304,
                arguments: [u32::MAX, 7],
            };
            assert_eq!(Request::decode(&request.encode()), Some(request));
        }
    }

    #[test]
    fn replies_come_back_as_they_were() {
        for (op, status) in OPS.into_iter().zip(STATUSES.into_iter().cycle()) {
            let reply = Reply {
                op,
                sequence: 1,
                status,
                generation: 2,
                watchers: 3,
                tracked: 4,
                outdated: 5,
            };
            assert_eq!(Reply::decode(&reply.encode()), Some(reply));
        }
    }

    #[test]
    fn straggler_pages_come_back_as_they_were() {
        let mut page = StragglerPage {
            sequence: 9,
            status: Status::Ok,
            generation: 8,
            count: 2,
            entries: [Straggler::default(); StragglerPage::CAPACITY],
        };
        page.entries[1] = Straggler {
            watcher: u64::MAX - 1,
            pid: 4,
            acknowledged: 3,
            command: *b"slow-worker\0\0\0\0\0",
        };
        assert_eq!(StragglerPage::decode(&page.encode()), Some(page));
        assert_eq!(page.filled().len(), 2);
    }

    #[test]
    fn the_layout_is_little_endian_and_packed() {
        let request = Request {
            op: Op::Open,
            sequence: 2,
            arguments: [3, 4],
        };
        assert_eq!(
            request.encode(),
            [1, 0, 1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0]
        );
    }

    #[test]
    fn garbage_is_none() {
        let good = Request {
            op: Op::Wait,
            sequence: 0,
            arguments: [0, 0],
        }
        .encode();
        assert_eq!(Request::decode(&good[..15]), None, "short");
        assert_eq!(Request::decode(&[&good[..], &[0]].concat()), None, "long");
        assert_eq!(Request::decode(&[]), None, "empty");
        let mut version = good;
        version[0] = 2;
        assert_eq!(Request::decode(&version), None, "version");
        let mut op = good;
        op[2] = 99;
        assert_eq!(Request::decode(&op), None, "operation");

        let page = StragglerPage {
            sequence: 0,
            status: Status::Ok,
            generation: 0,
            count: 33,
            entries: [Straggler::default(); StragglerPage::CAPACITY],
        };
        assert_eq!(
            StragglerPage::decode(&page.encode()),
            None,
            "impossible count"
        );
    }
}
