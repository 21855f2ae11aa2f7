// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The page of `/dev/vmclockN`, as far as it tells of restores.
//!
//! The hypervisor writes it, in little-endian order whatever the guest's own. It says much about
//! time as well, which is left out here.
//!
//! The page is guarded by a sequence: [`offset::SEQ_COUNT`] is odd while the hypervisor writes, and
//! even and another one afterwards. A reader of several fields compares it before and after. The
//! generation counter alone needs no such care: it is one word that is written at once.
//!
//! Which fields there are depends on the hypervisor: a page has a generation counter only if its
//! [`offset::SIZE`] is at least [`COUNTED_SIZE`] *and* [`FLAG_COUNTER_PRESENT`] is set.

#[cfg(feature = "std")]
mod page;

#[cfg(feature = "std")]
pub use page::{ClockError, ClockPage, Fields};

use rustix::fd::AsFd;
use rustix::io::{Errno, pread};

/// The name of the first node. A machine with several clocks numbers them.
pub const DEVICE_PATH: &str = "/dev/vmclock0";

/// What is at [`offset::MAGIC`].
pub const MAGIC: u32 = u32::from_le_bytes(*b"VCLK");

/// What is at [`offset::VERSION`]. There is no other yet.
pub const VERSION: u16 = 1;

/// Where the fields lie, in bytes from the start of the page.
pub mod offset {
    /// `u32`: tells the page from any other.
    pub const MAGIC: usize = 0;
    /// `u32`: how many bytes of the page the hypervisor fills.
    pub const SIZE: usize = 4;
    /// `u16`.
    pub const VERSION: usize = 8;
    /// `u32`: odd while the hypervisor writes.
    pub const SEQ_COUNT: usize = 12;
    /// `u64`: changes when time was disrupted. That is so after a restore, and after a migration,
    /// which makes no clone.
    pub const DISRUPTION_MARKER: usize = 16;
    /// `u64`.
    pub const FLAGS: usize = 24;
    /// `u64`: changes after a restore, and only then.
    pub const GENERATION_COUNTER: usize = 104;
}

/// The least size of a page with a generation counter.
pub const COUNTED_SIZE: u32 = 112;

/// Of the flags: there is a generation counter.
pub const FLAG_COUNTER_PRESENT: u64 = 1 << 8;
/// Of the flags: the hypervisor notifies each time that it has changed the page and finished, so `poll`
/// works. Without it `poll` reports a hang-up at once.
pub const FLAG_NOTIFICATION_PRESENT: u64 = 1 << 9;

/// Has the driver note that this open file has seen the clock as it is now, and returns its sequence.
/// `poll` on the file is silent then, until the sequence is another one.
///
/// It belongs to the open file: duplicates and forked children share it. At first the sequence is 0,
/// so `poll` reports a file that has just been opened as well.
///
/// While the hypervisor writes, the driver waits for it, whatever the flags of the file are, and keeps
/// the processor busy with that: look at the [page](ClockPage::try_fields) before.
///
/// # Errors
///
/// `ETIMEDOUT` if the hypervisor is writing for 100 ms; `EPROTO` if there are fewer than four bytes, as
/// no clock has; else the error of `pread`.
pub fn acknowledge(file: impl AsFd) -> Result<u32, Errno> {
    let mut sequence = [0; 4];
    // Reading any byte does it. Not where the last read ended, which would be the end of the page.
    match pread(file, &mut sequence, offset::SEQ_COUNT as u64)? {
        length if length == sequence.len() => Ok(u32::from_le_bytes(sequence)),
        _ => Err(Errno::PROTO),
    }
}

#[cfg(test)]
mod tests {
    use core::mem::{offset_of, size_of};

    use super::*;

    /// The whole page in the order of the specification.
    #[repr(C)]
    struct Page {
        magic: u32,
        size: u32,
        version: u16,
        counter_id: u8,
        time_type: u8,
        seq_count: u32,
        disruption_marker: u64,
        flags: u64,
        pad: [u8; 2],
        clock_status: u8,
        leap_second_smearing_hint: u8,
        tai_offset_sec: u16,
        leap_indicator: u8,
        counter_period_shift: u8,
        /// Counter value and period, its two errors, seconds and their fraction, and their errors.
        clock: [u64; 8],
        generation_counter: u64,
    }

    #[test]
    fn fields_lie_where_the_specification_puts_them() {
        assert_eq!(offset_of!(Page, magic), offset::MAGIC);
        assert_eq!(offset_of!(Page, size), offset::SIZE);
        assert_eq!(offset_of!(Page, version), offset::VERSION);
        assert_eq!(offset_of!(Page, seq_count), offset::SEQ_COUNT);
        assert_eq!(
            offset_of!(Page, disruption_marker),
            offset::DISRUPTION_MARKER
        );
        assert_eq!(offset_of!(Page, flags), offset::FLAGS);
        assert_eq!(
            offset_of!(Page, generation_counter),
            offset::GENERATION_COUNTER
        );
        assert_eq!(size_of::<Page>(), COUNTED_SIZE as usize);
    }

    #[test]
    fn magic_is_the_number_of_the_specification() {
        assert_eq!(MAGIC, 0x4b4c_4356);
    }
}
