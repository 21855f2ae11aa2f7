// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Clocks whose hypervisor is this test: a file has the page.
#![cfg(all(
    target_os = "linux",
    target_pointer_width = "64",
    target_endian = "little"
))]
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::thread;
use std::time::{Duration, Instant};

use memmap2::{MmapOptions, MmapRaw};
use sysgenid_sys::Errno;
use sysgenid_sys::vmclock::{
    self, COUNTED_SIZE, ClockError, ClockPage, FLAG_COUNTER_PRESENT, FLAG_NOTIFICATION_PRESENT,
    MAGIC, VERSION, offset,
};

/// Above what fits in 32 bits.
const COUNTER: u64 = 0x0123_4567_89ab_cdef;

#[test]
fn a_clock_that_counts_shows_all_64_bits() {
    let host = Host::new();
    let clock = host.clock().unwrap();
    let fields = clock.fields().unwrap();
    assert_eq!(fields.size, 4096);
    assert_eq!(fields.flags, FLAG_COUNTER_PRESENT);
    assert_eq!((fields.seq_count, fields.disruption_marker), (0, 0));

    let counter = clock.into_counter().unwrap();
    for number in [COUNTER, 1 << 32, 0, u64::MAX] {
        host.write(offset::GENERATION_COUNTER, &number.to_le_bytes());
        assert_eq!(counter.load(), number);
    }
}

#[test]
fn the_least_page_with_a_counter_is_enough() {
    let host = Host::new();
    host.file.set_len(COUNTED_SIZE.into()).unwrap();
    host.write(offset::SIZE, &COUNTED_SIZE.to_le_bytes());
    let counter = host.clock().unwrap().into_counter().unwrap();
    assert_eq!(counter.load(), COUNTER);
}

#[test]
fn what_is_no_clock_is_refused() {
    let host = Host::new();
    host.write(offset::MAGIC, b"VCLX");
    let error = host.clock().unwrap_err();
    let magic = u32::from_le_bytes(*b"VCLX");
    assert!(
        matches!(error, ClockError::Foreign(found) if found == magic),
        "{error}"
    );
    assert!(error.to_string().contains("0x584c4356"), "{error}");

    let host = Host::new();
    host.file.set_len(u64::from(COUNTED_SIZE) - 1).unwrap();
    let error = host.clock().unwrap_err();
    assert!(
        matches!(&error, ClockError::Io(error) if error.kind() == ErrorKind::UnexpectedEof),
        "{error}"
    );
}

#[test]
fn a_clock_of_another_version_is_refused() {
    let host = Host::new();
    host.write(offset::VERSION, &2_u16.to_le_bytes());
    let error = host.clock().unwrap_err();
    assert!(matches!(error, ClockError::Version(2)), "{error}");
}

#[test]
fn a_clock_that_is_too_small_has_no_counter() {
    let host = Host::new();
    let size = COUNTED_SIZE - 1;
    host.write(offset::SIZE, &size.to_le_bytes());
    let clock = host.clock().unwrap();
    assert_eq!(clock.fields().unwrap().size, size, "the rest can be read");
    let error = clock.into_counter().unwrap_err();
    assert!(
        matches!(error, ClockError::Size(found) if found == size),
        "{error}"
    );
    assert!(error.to_string().contains("111 bytes"), "{error}");
}

#[test]
fn a_clock_without_the_flag_has_no_counter() {
    let host = Host::new();
    for flags in [0, FLAG_NOTIFICATION_PRESENT, !FLAG_COUNTER_PRESENT] {
        host.write(offset::FLAGS, &flags.to_le_bytes());
        let error = host.clock().unwrap().into_counter().unwrap_err();
        assert!(
            matches!(error, ClockError::Uncounted),
            "{flags:#x}: {error}"
        );
    }
}

#[test]
fn a_hypervisor_that_does_not_finish_is_an_error_and_not_a_hang() {
    let host = Host::new();
    let counter = host.clock().unwrap().into_counter().unwrap();
    host.write(offset::SEQ_COUNT, &1_u32.to_le_bytes());
    let clock = host.clock().unwrap();
    let start = Instant::now();
    let error = clock.fields().unwrap_err();
    assert!(matches!(error, ClockError::Unfinished), "{error}");
    assert!(start.elapsed() >= Duration::from_millis(100));
    let start = Instant::now();
    assert_eq!(clock.try_fields(), None);
    assert!(start.elapsed() < Duration::from_millis(50), "it waits");
    let error = clock.into_counter().unwrap_err();
    assert!(matches!(error, ClockError::Unfinished), "{error}");

    assert_eq!(counter.load(), COUNTER, "the counter needs no sequence");
}

#[test]
fn a_hypervisor_that_finishes_is_waited_for() {
    let host = Host::new();
    host.write(offset::SEQ_COUNT, &1_u32.to_le_bytes());
    let clock = host.clock().unwrap();
    thread::scope(|scope| {
        let reader = scope.spawn(|| clock.fields());
        thread::sleep(Duration::from_millis(10));
        host.write(offset::DISRUPTION_MARKER, &5_u64.to_le_bytes());
        host.write(offset::SEQ_COUNT, &2_u32.to_le_bytes());
        let fields = reader.join().unwrap().unwrap();
        assert_eq!((fields.seq_count, fields.disruption_marker), (2, 5));
    });
}

/// Wherever the last one ended.
#[test]
fn each_acknowledgement_reads_the_sequence() {
    let host = Host::new();
    for sequence in [2, 4, u32::MAX - 1, 0] {
        host.write(offset::SEQ_COUNT, &u32::to_le_bytes(sequence));
        assert_eq!(vmclock::acknowledge(&host.file), Ok(sequence));
    }
    host.file.set_len(offset::SEQ_COUNT as u64 + 2).unwrap();
    assert_eq!(vmclock::acknowledge(&host.file), Err(Errno::PROTO));
}

/// All fields that are written hold the number of the update, so any mixture shows.
#[test]
fn fields_of_two_moments_are_never_mixed() {
    const TIME: Duration = Duration::from_millis(500);

    let host = Host::new();
    let clock = host.clock().unwrap();
    let page = host.map();
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            for update in 1_u32.. {
                if start.elapsed() > TIME {
                    break;
                }
                page.store_u32(offset::SEQ_COUNT, update.wrapping_mul(2).wrapping_sub(1));
                // Its partners are the fences of the reader.
                fence(Ordering::Release);
                page.store_u64(offset::DISRUPTION_MARKER, update.into());
                page.store_u32(offset::SIZE, update);
                page.store_u64(offset::FLAGS, u64::from(update) << 32);
                fence(Ordering::Release);
                page.store_u32(offset::SEQ_COUNT, update.wrapping_mul(2));
                // Time for the reader to see one moment, now and then.
                (0..update % 512).for_each(|_| std::hint::spin_loop());
            }
        });
        let (mut looks, mut moments, mut last) = (0_u32, 0_u32, 0);
        while start.elapsed() < TIME {
            let fields = clock.fields().unwrap();
            let update = u64::from(fields.seq_count / 2);
            if update != 0 {
                assert_eq!(fields.disruption_marker, update);
                assert_eq!(u64::from(fields.size), update);
                assert_eq!(fields.flags, update << 32);
            }
            looks += 1;
            moments += u32::from(fields.seq_count != last);
            last = fields.seq_count;
        }
        println!("{looks} looks at {moments} moments out of {}", last / 2);
        assert!(moments > 5, "the page was changing: {moments} moments");
    });
}

/// The hypervisor's side.
struct Host {
    file: File,
}

impl Host {
    /// A clock with a counter.
    fn new() -> Self {
        let host = Self {
            file: tempfile::tempfile().unwrap(),
        };
        host.file.set_len(4096).unwrap();
        host.write(offset::MAGIC, &MAGIC.to_le_bytes());
        host.write(offset::SIZE, &4096_u32.to_le_bytes());
        host.write(offset::VERSION, &VERSION.to_le_bytes());
        host.write(offset::FLAGS, &FLAG_COUNTER_PRESENT.to_le_bytes());
        host.write(offset::GENERATION_COUNTER, &COUNTER.to_le_bytes());
        host
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        self.file.write_all_at(bytes, offset as u64).unwrap();
    }

    fn clock(&self) -> Result<ClockPage, ClockError> {
        ClockPage::map(&self.file)
    }

    fn map(&self) -> HostPage {
        HostPage(MmapOptions::new().len(4096).map_raw(&self.file).unwrap())
    }
}

/// The page, where a write is one store.
struct HostPage(MmapRaw);

impl HostPage {
    fn store_u32(&self, offset: usize, value: u32) {
        // SAFETY: The offset is an aligned one within the page, which is mapped for writing as long
        // as `self` lives.
        let field = unsafe { AtomicU32::from_ptr(self.0.as_mut_ptr().add(offset).cast()) };
        field.store(value.to_le(), Ordering::Relaxed);
    }

    fn store_u64(&self, offset: usize, value: u64) {
        // SAFETY: As above.
        let field = unsafe { AtomicU64::from_ptr(self.0.as_mut_ptr().add(offset).cast()) };
        field.store(value.to_le(), Ordering::Relaxed);
    }
}
