// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::bytes::{Reader, Writer};
use super::{Answer, Op, VERSION};

/// A tracked watcher that has not acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Straggler {
    /// The broker's number of the watcher, never used twice.
    pub watcher: u64,
    /// Process that opened it, in the broker's pid namespace; 0 if it cannot be seen from there, or
    /// has ended and left the connection to a child.
    pub pid: u32,
    /// Its user, in the broker's user namespace.
    pub uid: u32,
    /// The generation it has acknowledged.
    pub acknowledged: u32,
    /// The process's command name, padded with zeros; empty if it could not be read. The process
    /// chose these bytes, and may have chosen any.
    pub command: [u8; 16],
}

impl Straggler {
    const LEN: usize = 40;
}

/// The answer to [`Op::Stragglers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StragglerPage {
    /// The request's.
    pub sequence: u32,
    /// How it ended.
    pub answer: Answer,
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
        writer.u32(self.answer as u32);
        writer.u32(self.generation);
        writer.u32(self.count);
        writer.u32(0);
        for entry in &self.entries {
            writer.u64(entry.watcher);
            writer.u32(entry.pid);
            writer.u32(entry.uid);
            writer.u32(entry.acknowledged);
            writer.u32(0);
            writer.bytes(entry.command);
        }
        packet
    }

    /// The page of a packet; `None` for another length, version, operation, answer or an
    /// impossible count.
    #[must_use]
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let mut reader = Reader(packet);
        if reader.u16()? != VERSION || Op::from_number(reader.u16()?)? != Op::Stragglers {
            return None;
        }
        let sequence = reader.u32()?;
        let answer = Answer::from_number(reader.u32()?)?;
        let generation = reader.u32()?;
        let count = reader.u32()?;
        let _reserved = reader.u32()?;
        if usize::try_from(count).ok()? > Self::CAPACITY {
            return None;
        }
        let mut entries = [Straggler::default(); Self::CAPACITY];
        for entry in &mut entries {
            *entry = Straggler {
                watcher: reader.u64()?,
                pid: reader.u32()?,
                uid: reader.u32()?,
                acknowledged: reader.u32()?,
                command: {
                    let _reserved = reader.u32()?;
                    reader.bytes()?
                },
            };
        }
        reader.is_empty().then_some(Self {
            sequence,
            answer,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> StragglerPage {
        let mut page = StragglerPage {
            sequence: 9,
            answer: Answer::Ok,
            generation: 8,
            count: 2,
            entries: [Straggler::default(); StragglerPage::CAPACITY],
        };
        page.entries[1] = Straggler {
            watcher: u64::MAX - 1,
            pid: 7,
            uid: 1000,
            acknowledged: 6,
            command: *b"fifteen letters\0",
        };
        page
    }

    #[test]
    fn straggler_pages_come_back_as_they_were() {
        let page = page();
        assert_eq!(StragglerPage::decode(&page.encode()), Some(page));
        assert_eq!(page.filled(), &page.entries[..2]);
    }

    #[test]
    fn a_page_that_claims_more_than_it_has_is_none() {
        let mut packet = page().encode();
        packet[16] = 33;
        assert_eq!(StragglerPage::decode(&packet), None);
        assert_eq!(StragglerPage::decode(&packet[..100]), None);
    }
}
