// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Integers of a packet, one after another.

/// Writes them. The packets are sized for what is written; what would not fit is not written, and
/// the tests compare every field.
pub(super) struct Writer<'a>(pub(super) &'a mut [u8]);

impl Writer<'_> {
    pub(super) fn bytes<const N: usize>(&mut self, bytes: [u8; N]) {
        if let Some((head, tail)) = core::mem::take(&mut self.0).split_first_chunk_mut::<N>() {
            *head = bytes;
            self.0 = tail;
        }
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.bytes(value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.bytes(value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.bytes(value.to_le_bytes());
    }
}

/// Reads them; `None` at the end.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    pub(super) fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.bytes()?))
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes()?))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes()?))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
