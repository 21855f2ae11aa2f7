// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `/dev/vmgenid` at the level of system calls: a counter that only the hypervisor changes, so each
//! change is one that the `host` makes.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::epoll;
use rustix::fs::{Mode, OFlags, SeekFrom, open, seek};
use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
use sysgenid_sys::abi;
use sysgenid_sys::device;
use sysgenid_sys::page::CounterPage;

use super::mapping::{Mapping, Request};
use crate::background::PATIENCE;
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
    read_returns_what_the_hypervisor_stored,
    read_does_not_wait_for_a_change,
    read_of_nothing_is_nothing,
    read_of_another_size_is_einval,
    read_ignores_the_position,
    read_to_bad_memory_is_efault,
    read_needs_a_readable_descriptor,
    map_shows_what_the_hypervisor_stored_at_once,
    map_and_read_are_one_counter,
    map_serves_the_same_probe_as_sysgenid,
    map_may_be_private,
    map_of_up_to_a_page_is_accepted,
    map_of_more_than_a_page_is_einval,
    map_at_an_offset_is_einval,
    map_for_writing_is_eperm,
    map_made_writable_later_is_eacces,
    map_does_not_grow,
    map_may_move,
    map_outlives_the_descriptor,
    map_is_inherited_over_a_fork,
    map_cannot_be_emptied,
    map_is_left_out_of_core_dumps,
    write_is_einval,
    poll_is_not_supported,
    ioctl_is_enotty,
}

/// The ends of the range, and steps in both directions: it is the hypervisor's number.
const VALUES: [u32; 6] = [1, 7, u32::MAX, 0, 0x8000_0000, 0x7fff_ffff];

impl Node {
    /// The node at `path`.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    fn open(&self) -> OwnedFd {
        self.open_with(OFlags::RDONLY)
    }

    fn open_with(&self, flags: OFlags) -> OwnedFd {
        let file = open(&self.path, flags | OFlags::CLOEXEC, Mode::empty());
        file.unwrap_or_else(|errno| panic!("open {}: {errno}", self.path.display()))
    }

    fn map(&self, flags: MapFlags) -> Mapping {
        let request = Request {
            flags,
            ..Request::default()
        };
        Mapping::new(self.open(), request).expect("the page can be mapped")
    }

    /// What `mmap` refuses the request with.
    fn refuses(&self, request: Request) -> Option<Errno> {
        let file = self.open_with(OFlags::RDWR);
        Mapping::new(file, request).err()
    }
}

/// The host changes the counter, as a hypervisor does before it lets a clone run.
fn store(counter: u32) {
    host::ask(&format!("counter {counter}"));
}

fn read(file: impl AsFd) -> Result<u32, Errno> {
    device::read_generation(file)
}

fn read_returns_what_the_hypervisor_stored(node: &Node) {
    let files = [node.open(), node.open()];
    for value in VALUES {
        store(value);
        for file in &files {
            assert_eq!(read(file), Ok(value));
        }
        assert_eq!(read(node.open()), Ok(value), "a new descriptor");
    }
}

/// It is a getter, also on a descriptor that blocks; on `/dev/sysgenid` the second would sleep.
fn read_does_not_wait_for_a_change(node: &Node) {
    let file = node.open();
    store(21);
    for _ in 0..100 {
        assert_eq!(read(&file), Ok(21));
    }
}

fn read_of_nothing_is_nothing(node: &Node) {
    assert_eq!(rustix::io::read(node.open(), &mut [0_u8; 0]), Ok(0));
}

/// Exactly 4 bytes, as the proposal has it; `/dev/sysgenid` takes more.
fn read_of_another_size_is_einval(node: &Node) {
    let file = node.open();
    for length in [1, 2, 3, 5, 8, 4096] {
        let mut buffer = vec![0xAA_u8; length];
        assert_eq!(
            rustix::io::read(&file, &mut buffer),
            Err(Errno::INVAL),
            "{length} bytes"
        );
        assert!(
            buffer.iter().all(|&byte| byte == 0xAA),
            "nothing was written"
        );
    }
}

/// A read moves nothing, and wherever one reads, it is the counter.
fn read_ignores_the_position(node: &Node) {
    let file = node.open();
    store(22);
    for offset in [0, 1, 4, 4096, 1 << 40] {
        let mut buffer = [0; abi::COUNTER_LEN];
        assert_eq!(rustix::io::pread(&file, &mut buffer, offset), Ok(4));
        assert_eq!(u32::from_ne_bytes(buffer), 22, "at {offset}");
        assert!(seek(&file, SeekFrom::Start(offset)).is_ok());
        assert_eq!(read(&file), Ok(22), "after a seek to {offset}");
    }
    assert_eq!(seek(&file, SeekFrom::Current(0)), Ok(0));
}

fn read_to_bad_memory_is_efault(node: &Node) {
    let file = node.open();
    let nowhere = std::ptr::without_provenance_mut(8);
    // SAFETY: Nothing is mapped at the first page, so the kernel refuses to write there.
    let result = unsafe { libc::read(file.as_raw_fd(), nowhere, abi::COUNTER_LEN) };
    let error = std::io::Error::last_os_error();
    assert_eq!(result, -1);
    assert_eq!(Errno::from_io_error(&error), Some(Errno::FAULT));
}

fn read_needs_a_readable_descriptor(node: &Node) {
    assert_eq!(read(node.open_with(OFlags::WRONLY)), Err(Errno::BADF));
}

/// One load, without a system call: the page is the hypervisor's own, and no copy of it.
fn map_shows_what_the_hypervisor_stored_at_once(node: &Node) {
    let page = node.map(MapFlags::SHARED);
    for value in VALUES {
        store(value);
        assert_eq!(page.load(), value);
    }
}

fn map_and_read_are_one_counter(node: &Node) {
    let file = node.open();
    let pages: Vec<_> = (0..3).map(|_| node.map(MapFlags::SHARED)).collect();
    for value in VALUES {
        store(value);
        assert_eq!(read(&file), Ok(value));
        for page in &pages {
            assert_eq!(page.load(), value);
        }
    }
}

/// The counter is where `/dev/sysgenid` has it.
fn map_serves_the_same_probe_as_sysgenid(node: &Node) {
    let page = CounterPage::map(node.open()).expect("the page can be mapped");
    for value in VALUES {
        store(value);
        assert_eq!(page.load(), u64::from(value));
    }
}

/// A private mapping that cannot be written shows the same page.
fn map_may_be_private(node: &Node) {
    let page = node.map(MapFlags::PRIVATE);
    for value in VALUES {
        store(value);
        assert_eq!(page.load(), value);
    }
}

fn map_of_up_to_a_page_is_accepted(node: &Node) {
    for (value, length) in (100..).zip([1, 2, 4, 5, 8, 4095, 4096]) {
        let request = Request {
            length,
            ..Request::default()
        };
        let page = Mapping::new(node.open(), request);
        let page = page.unwrap_or_else(|errno| panic!("{length} bytes: {errno}"));
        store(value);
        assert_eq!(page.load(), value, "{length} bytes");
    }
}

fn map_of_more_than_a_page_is_einval(node: &Node) {
    for length in [4097, 8192, 1 << 20] {
        let request = Request {
            length,
            ..Request::default()
        };
        assert_eq!(node.refuses(request), Some(Errno::INVAL), "{length} bytes");
    }
}

/// What lies behind the counter's page is nobody's business.
fn map_at_an_offset_is_einval(node: &Node) {
    for offset in [4096, 8192, 1 << 30] {
        let request = Request {
            offset,
            ..Request::default()
        };
        assert_eq!(node.refuses(request), Some(Errno::INVAL), "offset {offset}");
    }
}

/// Nobody writes the counter but the hypervisor.
fn map_for_writing_is_eperm(node: &Node) {
    for flags in [MapFlags::SHARED, MapFlags::PRIVATE] {
        for protection in [ProtFlags::WRITE, ProtFlags::READ | ProtFlags::WRITE] {
            let request = Request {
                protection,
                flags,
                ..Request::default()
            };
            assert_eq!(node.refuses(request), Some(Errno::PERM), "{request:?}");
        }
    }
}

/// The access that was refused is not to be had by way of `mprotect`, on a descriptor for writing
/// either.
fn map_made_writable_later_is_eacces(node: &Node) {
    for flags in [MapFlags::SHARED, MapFlags::PRIVATE] {
        let request = Request {
            flags,
            ..Request::default()
        };
        let page = Mapping::new(node.open_with(OFlags::RDWR), request).expect("it can be mapped");
        let writable = MprotectFlags::READ | MprotectFlags::WRITE;
        assert_eq!(page.protect(writable), Err(Errno::ACCESS), "{flags:?}");
        assert_eq!(page.protect(MprotectFlags::READ), Ok(()), "{flags:?}");
    }
}

/// Neither longer nor a second time: the pages behind it are not the client's to see.
fn map_does_not_grow(node: &Node) {
    for flags in [MapFlags::SHARED, MapFlags::PRIVATE] {
        let mut page = node.map(flags);
        for length in [4097, 8192, 1 << 20] {
            assert_eq!(page.resize(length), Err(Errno::FAULT), "{length} {flags:?}");
        }
        store(23);
        assert_eq!(page.load(), 23, "it stays where it was");
    }
    let twin = node.map(MapFlags::SHARED).twin(4096);
    assert_eq!(twin.err(), Some(Errno::FAULT));
}

fn map_may_move(node: &Node) {
    let mut page = node.map(MapFlags::SHARED);
    page.relocate().expect("it may move");
    store(24);
    assert_eq!(page.load(), 24);
}

/// Open, map, close: how a probe is made.
fn map_outlives_the_descriptor(node: &Node) {
    let file = node.open();
    let page = Mapping::new(&file, Request::default()).expect("it can be mapped");
    drop(file);
    store(25);
    assert_eq!(page.load(), 25);
}

/// The page is entered when it is mapped, so a child must get the entry and not only the right to
/// fault it in.
fn map_is_inherited_over_a_fork(node: &Node) {
    store(26);
    let page = node.map(MapFlags::SHARED);
    // SAFETY: The child loads from memory and ends: it allocates nothing and takes no lock, so the
    // threads that it has lost do not matter.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // Ends a child that never sees it.
        // SAFETY: Both are system calls and nothing else.
        unsafe { libc::alarm(u32::try_from(PATIENCE.as_secs()).unwrap_or(1)) };
        while page.load() != 27 {}
        // SAFETY: It ends the process and runs nothing of the parent's.
        unsafe { libc::_exit(0) };
    }
    assert!(child > 0, "fork: {}", std::io::Error::last_os_error());
    store(27);
    let mut status = -1;
    // SAFETY: The child has not been waited for, and the status is written to this variable.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child);
    assert_eq!(status, 0, "the child sees the new counter");
}

/// There is nothing to bring a page back that `madvise` has dropped, so it drops none.
fn map_cannot_be_emptied(node: &Node) {
    let page = node.map(MapFlags::SHARED);
    assert_eq!(page.discard(), Err(Errno::INVAL));
    store(28);
    assert_eq!(page.load(), 28);
}

/// As that of `/dev/sysgenid`.
fn map_is_left_out_of_core_dumps(node: &Node) {
    let flags = node.map(MapFlags::SHARED).vm_flags();
    assert!(flags.iter().any(|flag| flag == "dd"), "{flags:?}");
}

/// There is no such operation, whatever the length.
fn write_is_einval(node: &Node) {
    store(29);
    let file = node.open_with(OFlags::RDWR);
    for bytes in [&29_u32.to_ne_bytes()[..], &[0], &[0; 8]] {
        assert_eq!(rustix::io::write(&file, bytes), Err(Errno::INVAL));
    }
    assert_eq!(read(&file), Ok(29));
}

/// Nobody is woken by a change, and epoll says so at once.
fn poll_is_not_supported(node: &Node) {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll instance can be made");
    let data = epoll::EventData::new_u64(0);
    assert_eq!(
        epoll::add(&epoll, node.open(), data, epoll::EventFlags::IN),
        Err(Errno::PERM)
    );
}

/// Not even those of `/dev/sysgenid`.
fn ioctl_is_enotty(node: &Node) {
    let file = File::from(node.open_with(OFlags::RDWR));
    for code in [
        abi::SET_WATCHER_TRACKING,
        abi::WAIT_WATCHERS,
        abi::TRIGGER_GEN_UPDATE,
        abi::V4_GET_OUTDATED_WATCHERS,
    ] {
        // SAFETY: The driver takes no ioctls, and nothing before it gives these codes a meaning.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), code.into(), 1) };
        let error = std::io::Error::last_os_error();
        assert_eq!(result, -1, "{code:#x}");
        assert_eq!(
            Errno::from_io_error(&error),
            Some(Errno::NOTTY),
            "{code:#x}"
        );
    }
}
