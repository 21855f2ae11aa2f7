// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Mainline's `/dev/vmclockN` at the level of system calls, on a clock whose page the
//! `host` writes: with a generation counter, and with notifications.
//!
//! The driver is the kernel's and not this project's. The cases say what a client can rely on.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
use sysgenid_sys::abi::PAGE_LEN;
use sysgenid_sys::vmclock::{self, offset};

use super::mapping::{Mapping, Request};
use crate::background::Background;
use crate::cases;
use crate::host;
use crate::suite::Case;

/// The node under test.
#[derive(Clone, Debug)]
pub struct Node {
    path: PathBuf,
}

/// All cases.
pub fn cases() -> impl Iterator<Item = &'static Case<Node>> {
    CASES.iter()
}

cases! { Node;
    page_is_a_vmclock_with_a_generation_counter,
    read_returns_the_page,
    map_shows_the_counter_at_once,
    counter_has_64_bits,
    map_for_writing_is_erofs,
    map_made_writable_later_is_eacces,
    map_beside_the_page_is_einval,
    poll_of_a_new_descriptor_is_readable_until_it_reads,
    poll_repeats_until_the_descriptor_reads,
    poll_sleeps_until_it_is_notified,
    poll_is_not_woken_without_a_notification,
    read_during_an_update_is_etimedout,
    migration_disrupts_time_and_keeps_the_generation,
}

impl Node {
    /// The node at `path`.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    fn clock(&self) -> Clock {
        Clock::open(&self.path).expect("the clock can be opened and mapped")
    }
}

/// A clock that is open and mapped.
pub(crate) struct Clock {
    file: OwnedFd,
    page: Mapping,
}

/// The fields that tell of restores, from one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) magic: u32,
    pub(crate) size: u32,
    pub(crate) version: u16,
    pub(crate) seq_count: u32,
    pub(crate) disruption_marker: u64,
    pub(crate) flags: u64,
    pub(crate) generation_counter: u64,
}

impl Clock {
    pub(crate) fn open(path: &Path) -> Result<Self, Errno> {
        let file = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let request = Request {
            length: PAGE_LEN,
            ..Request::default()
        };
        let page = Mapping::new(&file, request)?;
        Ok(Self { file, page })
    }

    /// The generation counter in the mapped page: one load.
    pub(crate) fn generation(&self) -> u64 {
        u64::from_le(self.page.load_u64(offset::GENERATION_COUNTER))
    }

    fn seq_count(&self) -> u32 {
        u32::from_le(self.page.load_u32(offset::SEQ_COUNT))
    }

    /// Reads the page, which also acknowledges its sequence on this descriptor.
    pub(crate) fn read(&self) -> Result<Snapshot, Errno> {
        let mut bytes = [0; vmclock::COUNTED_SIZE as usize];
        // At the start, because a plain read goes on where the last one ended.
        let length = rustix::io::pread(&self.file, &mut bytes, 0)?;
        assert_eq!(length, bytes.len());
        let field = |at: usize, length: usize| {
            let mut wide = [0; 8];
            wide[..length].copy_from_slice(&bytes[at..at + length]);
            u64::from_le_bytes(wide)
        };
        let narrow = |at| u32::try_from(field(at, 4)).expect("4 bytes");
        Ok(Snapshot {
            magic: narrow(offset::MAGIC),
            size: narrow(offset::SIZE),
            version: u16::try_from(field(offset::VERSION, 2)).expect("2 bytes"),
            seq_count: narrow(offset::SEQ_COUNT),
            disruption_marker: field(offset::DISRUPTION_MARKER, 8),
            flags: field(offset::FLAGS, 8),
            generation_counter: field(offset::GENERATION_COUNTER, 8),
        })
    }

    /// What `poll` reports at once.
    pub(crate) fn events(&self) -> PollFlags {
        self.poll(Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }))
    }

    /// What `poll` reports, however long it takes.
    pub(crate) fn wait(&self) -> PollFlags {
        self.poll(None)
    }

    fn poll(&self, timeout: Option<&Timespec>) -> PollFlags {
        let mut fds = [PollFd::new(&self.file, PollFlags::IN)];
        poll(&mut fds, timeout).expect("it can be polled");
        fds[0].revents()
    }
}

impl AsFd for Clock {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The host stores a counter and a new disruption marker, within one turn of the sequence.
fn restore(counter: u64) {
    host::ask(&format!("restore {counter}"));
}

/// The host notifies the guest, as it does after each change.
fn notify() {
    host::ask("notify");
}

fn page_is_a_vmclock_with_a_generation_counter(node: &Node) {
    let page = node.clock().read().expect("the page can be read");
    assert_eq!(page.magic, vmclock::MAGIC);
    assert_eq!(page.version, vmclock::VERSION);
    assert!(page.size >= vmclock::COUNTED_SIZE, "{page:?}");
    assert_eq!(page.seq_count % 2, 0, "{page:?}");
    let both = vmclock::FLAG_COUNTER_PRESENT | vmclock::FLAG_NOTIFICATION_PRESENT;
    assert_eq!(page.flags & both, both, "{page:?}");
}

fn read_returns_the_page(node: &Node) {
    let clock = node.clock();
    for counter in [11, 12] {
        restore(counter);
        let page = clock.read().expect("the page can be read");
        assert_eq!(page.generation_counter, counter);
        assert_eq!(page.seq_count, clock.seq_count());
    }
}

/// Before any notification, and without a system call.
fn map_shows_the_counter_at_once(node: &Node) {
    let clock = node.clock();
    for counter in [1, 2, u64::MAX, 0] {
        restore(counter);
        assert_eq!(clock.generation(), counter);
    }
}

/// A client that keeps 32 of them misses changes of the others.
fn counter_has_64_bits(node: &Node) {
    let clock = node.clock();
    for counter in [5, (1 << 32) | 5] {
        restore(counter);
        assert_eq!(clock.generation(), counter);
    }
}

/// EROFS, where `/dev/sysgenid` says EPERM.
fn map_for_writing_is_erofs(node: &Node) {
    let file = open(&node.path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let file = file.expect("root may open it for writing");
    for flags in [MapFlags::SHARED, MapFlags::PRIVATE] {
        let request = Request {
            length: PAGE_LEN,
            protection: ProtFlags::READ | ProtFlags::WRITE,
            flags,
            offset: 0,
        };
        let mapped = Mapping::new(&file, request);
        assert_eq!(mapped.err(), Some(Errno::ROFS), "{flags:?}");
    }
}

/// The node may be open for writing; the page is not to be had for that.
fn map_made_writable_later_is_eacces(node: &Node) {
    let file = open(&node.path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let file = file.expect("root may open it for writing");
    for flags in [MapFlags::SHARED, MapFlags::PRIVATE] {
        let request = Request {
            length: PAGE_LEN,
            flags,
            ..Request::default()
        };
        let page = Mapping::new(&file, request).expect("it can be mapped");
        let writable = MprotectFlags::READ | MprotectFlags::WRITE;
        assert_eq!(page.protect(writable), Err(Errno::ACCESS), "{flags:?}");
    }
}

fn map_beside_the_page_is_einval(node: &Node) {
    let file = node.clock();
    for (length, offset) in [(PAGE_LEN + 1, 0), (PAGE_LEN, 4096)] {
        let request = Request {
            length,
            offset,
            ..Request::default()
        };
        let mapped = Mapping::new(&file, request);
        assert_eq!(mapped.err(), Some(Errno::INVAL), "{request:?}");
    }
}

/// A descriptor begins with no sequence read, so a client reads once before it first polls.
fn poll_of_a_new_descriptor_is_readable_until_it_reads(node: &Node) {
    let clock = node.clock();
    assert!(clock.events().contains(PollFlags::IN));
    clock.read().expect("the page can be read");
    assert_eq!(clock.events(), PollFlags::empty());
}

/// The read is the acknowledgement, and it is the descriptor's own.
fn poll_repeats_until_the_descriptor_reads(node: &Node) {
    let (clock, other) = (node.clock(), node.clock());
    for clock in [&clock, &other] {
        clock.read().expect("the page can be read");
    }
    restore(31);
    notify();
    for _ in 0..3 {
        assert!(clock.events().contains(PollFlags::IN));
    }
    clock.read().expect("the page can be read");
    assert_eq!(clock.events(), PollFlags::empty());
    assert!(other.events().contains(PollFlags::IN), "it has not read");
}

fn poll_sleeps_until_it_is_notified(node: &Node) {
    for counter in [41, 42, 43] {
        let clock = node.clock();
        clock.read().expect("the page can be read");
        let sleeper = Background::start(move || (clock.wait(), clock.generation()));
        sleeper.expect_blocked("nothing has changed");
        restore(counter);
        notify();
        let (events, generation) = sleeper.finish("the host has notified");
        assert!(events.contains(PollFlags::IN), "{events:?}");
        assert_eq!(generation, counter);
    }
}

/// The change alone wakes nobody: whoever only sleeps depends on the notification.
fn poll_is_not_woken_without_a_notification(node: &Node) {
    let clock = node.clock();
    clock.read().expect("the page can be read");
    let mapped = node.clock();
    let sleeper = Background::start(move || clock.wait());
    restore(51);
    assert_eq!(mapped.generation(), 51);
    sleeper.expect_blocked("nobody has notified");
    notify();
    assert!(
        sleeper
            .finish("the host has notified")
            .contains(PollFlags::IN)
    );
}

/// The driver waits for the update to end, and not for ever. The mapped counter can be had all the
/// time.
fn read_during_an_update_is_etimedout(node: &Node) {
    let clock = node.clock();
    restore(61);
    host::ask("begin");
    let read = clock.read();
    let generation = clock.generation();
    host::ask("end");
    assert_eq!(read, Err(Errno::TIMEDOUT));
    assert_eq!(generation, 61);
    assert_eq!(clock.read().map(|page| page.generation_counter), Ok(61));
}

/// So the marker says nothing of clones.
fn migration_disrupts_time_and_keeps_the_generation(node: &Node) {
    let clock = node.clock();
    restore(71);
    let before = clock.read().expect("the page can be read");
    host::ask("migrate");
    let after = clock.read().expect("the page can be read");
    assert_ne!(after.disruption_marker, before.disruption_marker);
    assert_ne!(after.seq_count, before.seq_count);
    assert_eq!(after.generation_counter, before.generation_counter);
}
