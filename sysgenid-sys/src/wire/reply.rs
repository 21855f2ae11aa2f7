// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::bytes::{Reader, Writer};
use super::{Cause, Followers, Op, PAYLOAD_LEN, Payload, Phase, VERSION};

/// How a request ended. The number is Linux's errno for the same outcome on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Answer {
    /// Done.
    Ok = 0,
    /// `EINTR`: the caller's own watcher is outdated, or the phase has changed meanwhile.
    Outdated = 4,
    /// `EACCES`: not on this socket, or not by this user.
    Denied = 13,
    /// `EINVAL`: an argument is invalid, there is no such watcher, or the operation is not for this
    /// kind of connection.
    Invalid = 22,
    /// `ENOSPC`: the page is damaged and cannot be put right. The watchers were told of the change, and
    /// who only maps the page was not.
    NotStored = 28,
    /// `EINPROGRESS`: the wait goes on, and another reply follows.
    Pending = 115,
}

impl Answer {
    /// Every answer.
    pub const ALL: [Self; 6] = [
        Self::Ok,
        Self::Outdated,
        Self::Denied,
        Self::Invalid,
        Self::NotStored,
        Self::Pending,
    ];

    /// The answer with this number.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Ok,
            4 => Self::Outdated,
            13 => Self::Denied,
            22 => Self::Invalid,
            28 => Self::NotStored,
            115 => Self::Pending,
            _ => return None,
        })
    }
}

/// A reply, from broker to client. The counts are of the moment it was sent; that of the outdated
/// ones is exact in the reply to [`Op::Status`], and may be too high in others, because
/// acknowledgements are left in slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reply {
    /// What was asked for.
    pub op: Op,
    /// The request's.
    pub sequence: u32,
    /// How it ended.
    pub answer: Answer,
    /// The current generation.
    pub generation: u32,
    /// The watcher's number in the reply to [`Op::Open`]; else 0. Never used twice by one broker.
    pub watcher: u64,
    /// Watchers.
    pub watchers: u32,
    /// Tracked watchers.
    pub tracked: u32,
    /// Tracked watchers that are outdated.
    pub outdated: u32,
    /// Tracked watchers that park.
    pub parking: u32,
    /// Tracked watchers that park and have not acknowledged the phase.
    pub unparked: u32,
    /// The phase.
    pub phase: Phase,
    /// The phase's number.
    pub phase_number: u32,
    /// Why the generation changed last.
    pub cause: Cause,
    /// When it changed last, in nanoseconds since the Unix epoch; 0 if it is not known.
    pub time: u64,
    /// What announces restores to the broker.
    pub followers: Followers,
    /// What has announced restores to it, and has failed.
    pub failed: Followers,
    /// What came along with the last change.
    pub payload: Payload,
}

impl Reply {
    /// Bytes of an encoded reply.
    pub const LEN: usize = 80 + PAYLOAD_LEN;

    /// The packet.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut packet = [0; Self::LEN];
        let mut writer = Writer(&mut packet);
        writer.u16(VERSION);
        writer.u16(self.op as u16);
        writer.u32(self.sequence);
        writer.u32(self.answer as u32);
        writer.u32(self.generation);
        writer.u64(self.watcher);
        writer.u32(self.watchers);
        writer.u32(self.tracked);
        writer.u32(self.outdated);
        writer.u32(self.unparked);
        writer.u32(self.phase as u32);
        writer.u32(self.phase_number);
        writer.u64(self.time);
        writer.u32(self.cause.0);
        let payload = self.payload.as_bytes();
        writer.u32(u32::try_from(payload.len()).unwrap_or_default());
        writer.u32(self.followers.0);
        writer.u32(self.failed.0);
        writer.u32(self.parking);
        writer.u32(0);
        for (to, from) in writer.0.iter_mut().zip(payload) {
            *to = *from;
        }
        packet
    }

    /// The reply of a packet; `None` for another length, version, operation, answer, phase or an
    /// impossible payload.
    #[must_use]
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let mut reader = Reader(packet);
        if reader.u16()? != VERSION {
            return None;
        }
        let (op, sequence) = (Op::from_number(reader.u16()?)?, reader.u32()?);
        let (answer, generation) = (Answer::from_number(reader.u32()?)?, reader.u32()?);
        let watcher = reader.u64()?;
        let [watchers, tracked, outdated, unparked] =
            [reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?];
        let (phase, phase_number) = (Phase::from_number(reader.u32()?)?, reader.u32()?);
        let (time, cause) = (reader.u64()?, Cause(reader.u32()?));
        let length = usize::try_from(reader.u32()?).ok()?;
        let [followers, failed] = [Followers(reader.u32()?), Followers(reader.u32()?)];
        let (parking, _reserved) = (reader.u32()?, reader.u32()?);
        let payload: [u8; PAYLOAD_LEN] = reader.bytes()?;
        let payload = Payload::new(payload.get(..length)?).ok()?;
        reader.is_empty().then_some(Self {
            op,
            sequence,
            answer,
            generation,
            watcher,
            watchers,
            tracked,
            outdated,
            parking,
            unparked,
            phase,
            phase_number,
            cause,
            time,
            followers,
            failed,
            payload,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(op: Op, answer: Answer) -> Reply {
        Reply {
            op,
            sequence: 1,
            answer,
            generation: 2,
            watcher: u64::MAX - 2,
            watchers: 3,
            tracked: 4,
            outdated: 5,
            parking: 9,
            unparked: 6,
            phase: Phase::Quiesce,
            phase_number: 7,
            cause: Cause::RESTORE,
            time: u64::MAX - 1,
            followers: Followers(9),
            failed: Followers(1 << 31),
            payload: Payload::new(b"eight").unwrap(),
        }
    }

    #[test]
    fn replies_come_back_as_they_were() {
        for (op, answer) in Op::ALL.into_iter().zip(Answer::ALL.into_iter().cycle()) {
            let reply = reply(op, answer);
            assert_eq!(Answer::from_number(answer as u32), Some(answer));
            assert_eq!(Reply::decode(&reply.encode()), Some(reply));
        }
    }

    #[test]
    fn what_is_not_a_reply_is_none() {
        let good = reply(Op::Status, Answer::Ok).encode();
        for length in 0..Reply::LEN {
            assert_eq!(Reply::decode(&good[..length]), None);
        }
        for (index, byte) in [(0, 9), (2, 0), (8, 1), (40, 2), (60, 129)] {
            let mut other = good;
            other[index] = byte;
            assert_eq!(Reply::decode(&other), None, "byte {index}");
        }
    }
}
