// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is known of a change, and the phase between changes.

use core::fmt;

use super::VERSION;
use super::bytes::{Reader, Writer};

/// Why the generation changed, as a number: later releases know more causes than this one, and a
/// client shows an unknown one by its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cause(pub u32);

impl Cause {
    /// Nothing has changed since the broker started.
    pub const NONE: Self = Self(0);
    /// A client asked for it.
    pub const TRIGGER: Self = Self(1);
    /// The machine was restored from a snapshot, and the kernel's entropy is new.
    pub const RESTORE: Self = Self(2);
    /// The machine was restored from a snapshot. Whether the kernel's entropy is new is not known:
    /// what is drawn from it may be what another clone draws.
    pub const ENTROPY_UNKNOWN: Self = Self(3);
    /// The machine may have been restored: the broker has missed what would have announced it.
    pub const POSSIBLE: Self = Self(4);
}

/// Bytes that a payload has at most.
pub const PAYLOAD_LEN: usize = 128;

/// A few bytes that whoever makes a change gives along with it, such as an instance's new name.
/// Every user who may open the watch socket can read them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Payload {
    length: u8,
    /// Zeros from `length` on.
    bytes: [u8; PAYLOAD_LEN],
}

/// More than [`PAYLOAD_LEN`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadTooLong;

impl Payload {
    /// No bytes.
    pub const EMPTY: Self = Self {
        length: 0,
        bytes: [0; PAYLOAD_LEN],
    };

    /// These bytes.
    ///
    /// # Errors
    ///
    /// [`PayloadTooLong`].
    pub fn new(payload: &[u8]) -> Result<Self, PayloadTooLong> {
        let mut bytes = [0; PAYLOAD_LEN];
        let place = bytes.get_mut(..payload.len()).ok_or(PayloadTooLong)?;
        place.copy_from_slice(payload);
        let length = u8::try_from(payload.len()).map_err(|_| PayloadTooLong)?;
        Ok(Self { length, bytes })
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({})", self.as_bytes().escape_ascii())
    }
}

/// What the watchers that park are asked to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Phase {
    /// To run.
    #[default]
    Running = 0,
    /// To come to rest at a safe point and to stay there, because a snapshot is about to be taken.
    Quiesce = 1,
}

impl Phase {
    /// The phase with this number.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Running,
            1 => Self::Quiesce,
            _ => return None,
        })
    }
}

/// Tells a watcher that something has changed. It is a hint to look: by the time that it is read,
/// there may have been further changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Notice {
    /// The generation when it was sent.
    pub generation: u32,
    /// Why the generation changed last.
    pub cause: Cause,
    /// When it changed last, in nanoseconds since the Unix epoch; 0 if it is not known.
    pub time: u64,
    /// The phase when it was sent.
    pub phase: Phase,
    /// The phase's number, to acknowledge it with. It differs from one change of the phase to the
    /// next.
    pub phase_number: u32,
}

impl Notice {
    /// What stands in place of an operation.
    pub const KIND: u16 = 0x100;
    /// Bytes of an encoded notice.
    pub const LEN: usize = 32;

    /// The packet.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut packet = [0; Self::LEN];
        let mut writer = Writer(&mut packet);
        writer.u16(VERSION);
        writer.u16(Self::KIND);
        writer.u32(self.generation);
        writer.u64(self.time);
        writer.u32(self.cause.0);
        writer.u32(self.phase as u32);
        writer.u32(self.phase_number);
        packet
    }

    /// The notice of a packet; `None` for another length, version, kind or phase.
    #[must_use]
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let mut reader = Reader(packet);
        if (reader.u16()?, reader.u16()?) != (VERSION, Self::KIND) {
            return None;
        }
        let notice = Self {
            generation: reader.u32()?,
            time: reader.u64()?,
            cause: Cause(reader.u32()?),
            phase: Phase::from_number(reader.u32()?)?,
            phase_number: reader.u32()?,
        };
        let _reserved = reader.u32()?;
        reader.is_empty().then_some(notice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_come_back_as_they_were() {
        let notice = Notice {
            generation: 1,
            cause: Cause(77),
            time: u64::MAX - 1,
            phase: Phase::Quiesce,
            phase_number: 5,
        };
        let packet = notice.encode();
        assert_eq!(Notice::decode(&packet), Some(notice));
        assert_eq!(Notice::decode(&packet[..Notice::LEN - 1]), None);
        let mut other = packet;
        other[20] = 2;
        assert_eq!(Notice::decode(&other), None, "an unknown phase");
    }

    #[test]
    fn a_payload_is_what_was_put_in() {
        for length in [0, 1, PAYLOAD_LEN] {
            let bytes = [7; PAYLOAD_LEN];
            let payload = Payload::new(&bytes[..length]).unwrap();
            assert_eq!(payload.as_bytes(), &bytes[..length]);
        }
        assert_eq!(Payload::new(&[0; PAYLOAD_LEN + 1]), Err(PayloadTooLong));
    }
}
