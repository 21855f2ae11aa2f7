// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::bytes::{Reader, Writer};
use super::{Payload, Phase, VERSION};

/// What a client asks for. The comments name the request's fields that matter; the others are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Op {
    /// Become a watcher. Argument 0: the `OPEN_` flags; 1: with [`OPEN_RESUME`](super::OPEN_RESUME),
    /// the acknowledged generation. The reply carries the page and the slot, in this order, and the
    /// watcher's number.
    Open = 1,
    /// Acknowledge now, because a client waits or because the generation is stale. Argument 0: the
    /// generation. **No reply**, but a notice if it is stale. From the process that opened the
    /// watcher only: the broker ignores that of a forked child.
    Acknowledge = 2,
    /// Set tracking. Argument 0: 0 or 1. **No reply**; every question that is sent afterwards is
    /// answered as if it had been done before, unless the broker has very many requests of the same
    /// user to read. From the process that opened the watcher only.
    SetTracking = 3,
    /// Wait until no tracked watcher is outdated, or with argument 0 as [`Awaited::Phase`] until
    /// every tracked watcher that parks has acknowledged the phase. `watcher` is the caller's own,
    /// which ends the wait when it is outdated, or 0.
    ///
    /// The first reply comes at once, and if it is [`Answer::Pending`](super::Answer::Pending) a
    /// second one when the wait is over. The deadline is the client's: it closes the connection.
    Wait = 4,
    /// Send a notice of the next change although one is unread. Argument 0: the last generation that
    /// the client has seen; if it is not the current one, the notice comes at once. **No reply.**
    Notify = 5,
    /// Ask for the state, in the reply.
    Status = 6,
    /// Change the generation to `max(argument 0, generation + 1)`. Argument 1: the
    /// [`Cause`](super::Cause). The payload of the change follows the request. Control socket only.
    Trigger = 7,
    /// List tracked outdated watchers, answered by a [`StragglerPage`](super::StragglerPage) instead
    /// of a [`Reply`](super::Reply). `watcher` is the number after which to go on; argument 0 as with
    /// [`Op::Wait`]. Control socket only; elsewhere the page's answer says so.
    Stragglers = 8,
    /// Change the phase. Argument 0: the [`Phase`]. Control socket only.
    SetPhase = 9,
    /// Acknowledge the phase. Argument 0: its number. **No reply.** From the process that opened the
    /// watcher only.
    AcknowledgePhase = 10,
}

impl Op {
    /// Every operation.
    pub const ALL: [Self; 10] = [
        Self::Open,
        Self::Acknowledge,
        Self::SetTracking,
        Self::Wait,
        Self::Notify,
        Self::Status,
        Self::Trigger,
        Self::Stragglers,
        Self::SetPhase,
        Self::AcknowledgePhase,
    ];

    /// The operation with this number.
    #[must_use]
    pub const fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Open,
            2 => Self::Acknowledge,
            3 => Self::SetTracking,
            4 => Self::Wait,
            5 => Self::Notify,
            6 => Self::Status,
            7 => Self::Trigger,
            8 => Self::Stragglers,
            9 => Self::SetPhase,
            10 => Self::AcknowledgePhase,
            _ => return None,
        })
    }
}

/// What [`Op::Wait`] and [`Op::Stragglers`] are about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Awaited {
    /// The acknowledgement of the generation, by every tracked watcher.
    #[default]
    Generation = 0,
    /// The acknowledgement of the phase, by every tracked watcher that parks.
    Phase = 1,
}

impl Awaited {
    /// The one with this number.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Generation,
            1 => Self::Phase,
            _ => return None,
        })
    }
}

/// A request, from client to broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// What is asked for.
    pub op: Op,
    /// Chosen by the client and repeated in the reply.
    pub sequence: u32,
    /// A watcher's number, where [`Op`] names one; else 0.
    pub watcher: u64,
    /// Arguments, as [`Op`] says; 0 where it names none.
    pub arguments: [u32; 2],
    /// What follows the request; only with [`Op::Trigger`].
    pub payload: Payload,
}

/// Why a packet is not a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejected {
    /// It is of this version, which is another one.
    Version(u16),
    /// It has another length, an unknown operation or a payload that is too long.
    Malformed,
}

impl Request {
    /// Bytes of an encoded request without its payload.
    pub const LEN: usize = 32;
    /// Bytes of the longest one.
    pub const MAX_LEN: usize = Self::LEN + super::PAYLOAD_LEN;

    /// A request without arguments.
    #[must_use]
    pub const fn new(op: Op, sequence: u32) -> Self {
        Self {
            op,
            sequence,
            watcher: 0,
            arguments: [0; 2],
            payload: Payload::EMPTY,
        }
    }

    /// The request's first part; the payload is sent behind it, in the same packet.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut packet = [0; Self::LEN];
        let mut writer = Writer(&mut packet);
        writer.u16(VERSION);
        writer.u16(self.op as u16);
        writer.u32(self.sequence);
        writer.u64(self.watcher);
        for argument in self.arguments {
            writer.u32(argument);
        }
        packet
    }

    /// The request of a packet.
    ///
    /// # Errors
    ///
    /// [`Rejected`] says why there is none. A packet that is too short to have a version is
    /// malformed.
    pub fn decode(packet: &[u8]) -> Result<Self, Rejected> {
        let (version, number) = super::header(packet).ok_or(Rejected::Malformed)?;
        if version != VERSION {
            return Err(Rejected::Version(version));
        }
        let decode = || {
            let op = Op::from_number(number)?;
            let (head, payload) = packet.split_at_checked(Self::LEN)?;
            let mut reader = Reader(head.get(4..)?);
            let request = Self {
                op,
                sequence: reader.u32()?,
                watcher: reader.u64()?,
                arguments: [reader.u32()?, reader.u32()?],
                payload: Payload::new(payload).ok()?,
            };
            let is_allowed = payload.is_empty() || op == Op::Trigger;
            is_allowed.then_some(request)
        };
        decode().ok_or(Rejected::Malformed)
    }

    /// What a [`Op::Wait`] or a [`Op::Stragglers`] is about; `None` for a number that says nothing.
    #[must_use]
    pub const fn awaited(&self) -> Option<Awaited> {
        Awaited::from_number(self.arguments[0])
    }

    /// The phase of a [`Op::SetPhase`]; `None` for a number that is not one.
    #[must_use]
    pub const fn phase(&self) -> Option<Phase> {
        Phase::from_number(self.arguments[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(request: &Request) -> Vec<u8> {
        [&request.encode(), request.payload.as_bytes()].concat()
    }

    #[test]
    fn requests_come_back_as_they_were() {
        for op in Op::ALL {
            assert_eq!(Op::from_number(op as u16), Some(op));
            let mut request = Request::new(op, 0x0102_0304);
            request.watcher = u64::MAX - 1;
            request.arguments = [u32::MAX, 7];
            if op == Op::Trigger {
                request.payload = Payload::new(b"a payload").unwrap();
            }
            assert_eq!(Request::decode(&packet(&request)), Ok(request));
        }
        assert_eq!(Op::from_number(0), None);
        assert_eq!(Op::from_number(11), None);
    }

    #[test]
    fn what_is_not_a_request_is_rejected() {
        let good = Request::new(Op::Trigger, 1).encode();
        for length in 0..Request::LEN {
            assert_eq!(Request::decode(&good[..length]), Err(Rejected::Malformed));
        }
        let mut long = [0; Request::MAX_LEN + 1];
        long[..Request::LEN].copy_from_slice(&good);
        assert!(Request::decode(&long[..Request::MAX_LEN]).is_ok());
        assert_eq!(Request::decode(&long), Err(Rejected::Malformed));

        let mut status = long;
        status[..Request::LEN].copy_from_slice(&Request::new(Op::Status, 1).encode());
        let with_payload = Request::decode(&status[..=Request::LEN]);
        assert_eq!(with_payload, Err(Rejected::Malformed));

        let mut other = good;
        other[2] = 99;
        assert_eq!(Request::decode(&other), Err(Rejected::Malformed));
        // Whatever else it holds: the broker answers with the versions that it speaks.
        for version in [0, 1, 3, u16::MAX] {
            other[..2].copy_from_slice(&version.to_le_bytes());
            let rejected = Err(Rejected::Version(version));
            assert_eq!(Request::decode(&other), rejected);
            assert_eq!(Request::decode(&other[..4]), rejected);
        }
    }
}
