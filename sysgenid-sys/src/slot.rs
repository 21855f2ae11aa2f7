// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where a client of the userspace driver leaves its acknowledgements.
//!
//! A slot is memory that one watcher's client shares with the broker, so that to acknowledge is a
//! store, and wakes nobody. It holds two words: the generation that the client has acknowledged,
//! and whether somebody waits for that, in which case the client tells the broker as well.
//!
//! Each side stores its own word, then loads the other's, with a sequentially consistent fence in
//! between. So of a client that acknowledges and a broker that begins to wait at the same moment,
//! at least one sees the other: the client tells, or the broker finds the acknowledgement.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create,
};
use rustix::io::Errno;

/// What `/proc/PID/maps` shows.
const NAME: &str = "sysgenid-slot";
/// Bytes of a slot: what was left, whether somebody waits, and four that are not used.
const LEN: usize = 16;
const AWAITED_OFFSET: usize = 8;

/// The length can change no more, or the other side could make a load raise `SIGBUS`.
const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// One side's mapping of a slot.
pub struct Slot {
    map: MmapRaw,
}

impl Slot {
    /// Makes a slot, and the file that the other side maps. The broker's part.
    ///
    /// # Errors
    ///
    /// Of `memfd_create`, `ftruncate`, `fcntl` or `mmap`: out of descriptors (`EMFILE`) or memory.
    pub fn create() -> io::Result<(Self, OwnedFd)> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Kernels since 6.3 can be told to refuse a file that might be executed; those before do
        // not know the flag.
        let file = match memfd_create(NAME, flags | MemfdFlags::NOEXEC_SEAL) {
            Err(Errno::INVAL) => memfd_create(NAME, flags)?,
            made => made?,
        };
        ftruncate(&file, LEN as u64)?;
        fcntl_add_seals(&file, SEALS)?;
        Ok((Self::map(&file)?, file))
    }

    /// Maps a slot, whose file may be closed afterwards. The client's part.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] if it is not sealed at the right length, so that it could be
    /// made shorter and raise `SIGBUS`; else the error of `fstat`, `fcntl` or `mmap`.
    pub fn map(file: impl AsFd) -> io::Result<Self> {
        let file = file.as_fd();
        let length = rustix::fs::fstat(file)?.st_size;
        if length != LEN as i64 || !fcntl_get_seals(file)?.contains(SEALS) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not a slot: another length, or not sealed",
            ));
        }
        let map = MmapOptions::new().len(LEN).map_raw(file.as_raw_fd())?;
        Ok(Self { map })
    }

    /// Leaves an acknowledgement. Returns whether somebody waits for it, so that the broker must
    /// be told as well. The client's part.
    ///
    /// Look at the page *after* it. Threads and forked processes share a slot, so this may have
    /// overwritten a newer acknowledgement; then the page shows that newer generation.
    #[must_use = "if somebody waits, the broker must be told"]
    pub fn acknowledge(&self, generation: u32) -> bool {
        // The look that found this generation in the page comes before, and so does what the broker
        // did to the slot before it stored the page.
        fence(Ordering::Acquire);
        // Acquires what it overwrites, and releases for who overwrites it: the loser of a race
        // sees the page that the winner has seen.
        self.left().swap(Left::of(generation).0, Ordering::AcqRel);
        // Its partners are the fence in `set_awaited`, and the broker's after a store of the page.
        fence(Ordering::SeqCst);
        self.awaited().load(Ordering::Relaxed) != 0
    }

    /// What the client left last, or that the slot was emptied since.
    #[must_use]
    pub fn acknowledged(&self) -> Left {
        Left(self.left().load(Ordering::Relaxed))
    }

    /// Says whether somebody waits. Look at [`acknowledged`](Self::acknowledged) *after* it. The
    /// broker's part.
    pub fn set_awaited(&self, awaited: bool) {
        self.awaited().store(u32::from(awaited), Ordering::Relaxed);
        // Its partner is the fence in `acknowledge`.
        fence(Ordering::SeqCst);
    }

    /// Forgets what was left, and returns it: the slot is not to hold `generation`, which comes next
    /// and may have been acknowledged long ago. Before the page shows it. The broker's part.
    ///
    /// After the store of the page, the broker fences sequentially consistent and looks at
    /// [`acknowledged`](Self::acknowledged) once more: a client that acknowledges the generation of
    /// before at that moment finds the new one in the page, or is found.
    pub fn reset(&self, generation: u32) -> Left {
        // One step, so that no acknowledgement is lost between a look and a store. The store of the
        // page is a release, so a client that finds the generation there stores after this.
        Left(self.left().swap(generation.into(), Ordering::AcqRel))
    }

    fn left(&self) -> &AtomicU64 {
        let word = self.map.as_mut_ptr().cast::<u64>();
        // SAFETY: The mapping lives as long as `self`, starts on a page boundary and is longer than
        // this. Its length is sealed. It is only ever accessed atomically, by both sides.
        unsafe { AtomicU64::from_ptr(word) }
    }

    fn awaited(&self) -> &AtomicU32 {
        let word = self.map.as_mut_ptr().wrapping_add(AWAITED_OFFSET);
        // SAFETY: As above. The offset is that of a whole aligned word within the length.
        unsafe { AtomicU32::from_ptr(word.cast::<u32>()) }
    }
}

/// What a slot holds: an acknowledgement, or that it was emptied for a generation. One is never equal
/// to the other, whatever the numbers are.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Left(u64);

impl Left {
    /// Set with an acknowledgement, above the generation's 32 bits.
    const ACKNOWLEDGED: u64 = 1 << 32;

    /// An acknowledgement of this generation.
    #[must_use]
    pub const fn of(generation: u32) -> Self {
        Self(Self::ACKNOWLEDGED | generation as u64)
    }

    /// Nothing: the slot was emptied for this generation, and nothing was left since.
    #[must_use]
    pub const fn emptied_for(generation: u32) -> Self {
        Self(generation as u64)
    }
}

impl fmt::Debug for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 & Self::ACKNOWLEDGED {
            0 => "EmptiedFor",
            _ => "Acknowledged",
        };
        f.debug_tuple(name)
            .field(&(self.0 & !Self::ACKNOWLEDGED))
            .finish()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("acknowledged", &self.acknowledged())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_see_one_slot() {
        let (broker, file) = Slot::create().unwrap();
        let client = Slot::map(&file).unwrap();
        assert!(!client.acknowledge(7));
        assert_eq!(broker.acknowledged(), Left::of(7));
        broker.set_awaited(true);
        assert!(client.acknowledge(8));
        assert_eq!(broker.reset(8), Left::of(8));
        assert_eq!(client.acknowledged(), Left::emptied_for(8));
    }

    /// Or a slot that was emptied would pass for an acknowledgement at some step of the counter.
    #[test]
    fn an_acknowledgement_is_never_what_a_slot_is_emptied_for() {
        for left in [0, 1, 7, !7, u32::MAX - 1, u32::MAX] {
            for emptied in [0, 1, 7, !7, u32::MAX - 1, u32::MAX] {
                assert_ne!(Left::of(left), Left::emptied_for(emptied));
            }
        }
    }

    #[test]
    fn the_length_cannot_change() {
        let (_slot, file) = Slot::create().unwrap();
        for length in [0, 4, 8192] {
            assert_eq!(ftruncate(&file, length), Err(Errno::PERM), "{length}");
        }
    }

    #[test]
    fn what_is_no_slot_is_refused() {
        let file = memfd_create("unsealed", MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&file, LEN as u64).unwrap();
        assert_eq!(
            Slot::map(&file).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }

    /// The reason for the fences: one of the two always sees the other. The two meet by spinning,
    /// because a wake-up takes longer than what is looked for.
    #[test]
    fn a_wait_and_an_acknowledgement_at_once_do_not_miss_each_other() {
        const ROUNDS: u32 = 100_000;
        let (broker, file) = Slot::create().unwrap();
        let client = Slot::map(&file).unwrap();
        let arrived = AtomicU32::new(0);
        let meet = |number| {
            arrived.fetch_add(1, Ordering::AcqRel);
            for spins in 1_u32.. {
                if arrived.load(Ordering::Acquire) >= 2 * number {
                    break;
                }
                // One processor is enough, if slow.
                if spins % 1_000 == 0 {
                    std::thread::yield_now();
                }
            }
        };
        let told = |round| {
            meet(2 * round - 1);
            let told = client.acknowledge(round);
            meet(2 * round);
            told
        };
        let found = |round| {
            broker.set_awaited(false);
            let _ = broker.reset(round);
            meet(2 * round - 1);
            broker.set_awaited(true);
            let found = broker.acknowledged() == Left::of(round);
            meet(2 * round);
            found
        };
        let (told, found): (Vec<bool>, Vec<bool>) = std::thread::scope(|scope| {
            let told = scope.spawn(|| (1..=ROUNDS).map(told).collect());
            let found = (1..=ROUNDS).map(found).collect();
            (told.join().unwrap(), found)
        });
        let missed = told
            .iter()
            .zip(&found)
            .filter(|&(told, found)| !told && !found)
            .count();
        assert_eq!(missed, 0, "of {ROUNDS}");
    }
}
