// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::VERSION;
use super::bytes::{Reader, Writer};

/// Why the broker closes a connection. Later releases know more reasons; a client shows an unknown
/// one by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The client speaks another version.
    Version,
    /// A packet that is not a request.
    Malformed,
    /// This user has as many connections as one user may have at the moment: [`Refusal::limit`].
    UserLimit,
    /// The broker has as many connections as fit into its limits: [`Refusal::limit`].
    Full,
    /// Too many of this user's watchers have not read the descriptors that the broker sent:
    /// [`Refusal::limit`].
    Unread,
    /// The connection did nothing for so many seconds: [`Refusal::limit`].
    Idle,
    /// The machine or the broker has no memory or no descriptor left.
    Exhausted,
    /// What the broker sends is not read.
    NotReading,
    /// The client sent descriptors, which the broker takes from nobody.
    Descriptors,
    /// One that this release does not know.
    Other(u32),
}

impl Reason {
    /// The reason with this number.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Version,
            2 => Self::Malformed,
            3 => Self::UserLimit,
            4 => Self::Full,
            5 => Self::Unread,
            6 => Self::Idle,
            7 => Self::Exhausted,
            8 => Self::NotReading,
            9 => Self::Descriptors,
            other => Self::Other(other),
        }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Version => 1,
            Self::Malformed => 2,
            Self::UserLimit => 3,
            Self::Full => 4,
            Self::Unread => 5,
            Self::Idle => 6,
            Self::Exhausted => 7,
            Self::NotReading => 8,
            Self::Descriptors => 9,
            Self::Other(number) => number,
        }
    }
}

/// The last packet of a connection that the broker closes for a reason. Its layout is the same in
/// every version, so that clients of all of them understand it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// The version of the packet: the newest that the broker speaks.
    pub version: u16,
    /// The sequence number of the request that was refused; 0 if there was none, or if the broker could
    /// not read it.
    pub sequence: u32,
    /// Why.
    pub reason: Reason,
    /// The oldest version that the broker speaks.
    pub oldest: u16,
    /// The newest version that the broker speaks.
    pub newest: u16,
    /// The limit that the reason is about; else 0.
    pub limit: u64,
}

impl Refusal {
    /// What stands in place of an operation.
    pub const KIND: u16 = 0xffff;
    /// Bytes of an encoded refusal.
    pub const LEN: usize = 32;

    /// A refusal by this version.
    #[must_use]
    pub const fn new(reason: Reason, sequence: u32) -> Self {
        Self {
            version: VERSION,
            sequence,
            reason,
            oldest: VERSION,
            newest: VERSION,
            limit: 0,
        }
    }

    /// The same with the limit that it is about.
    #[must_use]
    pub const fn with_limit(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }

    /// The packet.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut packet = [0; Self::LEN];
        let mut writer = Writer(&mut packet);
        writer.u16(self.version);
        writer.u16(Self::KIND);
        writer.u32(self.sequence);
        writer.u32(self.reason.number());
        writer.u16(self.oldest);
        writer.u16(self.newest);
        writer.u64(self.limit);
        packet
    }

    /// The refusal of a packet of any version; `None` for another length or kind.
    #[must_use]
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let mut reader = Reader(packet);
        let version = reader.u16()?;
        if reader.u16()? != Self::KIND {
            return None;
        }
        let refusal = Self {
            version,
            sequence: reader.u32()?,
            reason: Reason::from_number(reader.u32()?),
            oldest: reader.u16()?,
            newest: reader.u16()?,
            limit: reader.u64()?,
        };
        let _reserved = reader.u64()?;
        reader.is_empty().then_some(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_come_back_as_they_were_in_every_version() {
        for number in 0..12 {
            let refusal = Refusal {
                version: 1000,
                sequence: 9,
                reason: Reason::from_number(number),
                oldest: 3,
                newest: 1000,
                limit: u64::MAX - 1,
            };
            assert_eq!(refusal.reason.number(), number);
            let packet = refusal.encode();
            assert_eq!(Refusal::decode(&packet), Some(refusal));
            assert_eq!(Refusal::decode(&packet[..Refusal::LEN - 1]), None);
        }
    }

    /// Frozen: clients of every version read it.
    #[test]
    fn the_layout_is_what_it_was() {
        let refusal = Refusal::new(Reason::UserLimit, 0x0a0b_0c0d).with_limit(64);
        let mut expected = [0; 32];
        expected[..4].copy_from_slice(&[2, 0, 0xff, 0xff]);
        expected[4..8].copy_from_slice(&[0x0d, 0x0c, 0x0b, 0x0a]);
        expected[8] = 3;
        expected[12] = 2;
        expected[14] = 2;
        expected[16] = 64;
        assert_eq!(refusal.encode(), expected);
    }
}
