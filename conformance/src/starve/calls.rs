// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls on the node.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use rustix::event::epoll;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use super::Subject;
use super::nth::{Failing, Tally};
use crate::cases;
use crate::raw::{Mapping, Request};

cases! { Subject;
    open_without_memory_is_enomem,
    map_without_memory_is_enomem,
    read_and_acknowledge_need_no_memory,
    ioctls_need_no_memory,
    epoll_without_memory_is_enomem,
    information_without_memory_is_enomem,
    nobody_is_left,
}

fn try_each<T>(what: &str, mut call: impl FnMut() -> Result<T, Errno>) -> Tally {
    // What happens once only, such as the first use of a page of this program, is not meant.
    call().expect("nothing fails yet");
    let tally = Failing::new().each(&[Errno::NOMEM, Errno::FAULT], || {}, call);
    println!("# {what}: {tally:?}");
    tally
}

fn open_without_memory_is_enomem(subject: &Subject) {
    let path = subject.node.path();
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let tally = try_each("open", || open(path, flags, Mode::empty()));
    assert_ne!(tally.failed, 0);
}

/// The page is there since the module was loaded; what can be missing is the address space's.
fn map_without_memory_is_enomem(subject: &Subject) {
    let file = subject.node.open();
    let tally = try_each("mmap and load", || {
        Mapping::new(&file, Request::default()).map(|mapping| mapping.load())
    });
    assert_ne!(tally.failed, 0);
}

/// Else a watcher that is short of memory could not be handled, and would hold up everybody.
fn read_and_acknowledge_need_no_memory(subject: &Subject) {
    let file = subject.node.open();
    let generation = subject.node.bump();
    // What fails is the copy of the number.
    let tally = try_each("read", || file.read());
    assert_eq!((tally.injected, tally.failed), (1, 1));
    let tally = try_each("write", || file.acknowledge(generation));
    assert_eq!((tally.injected, tally.failed), (1, 1));
    assert!(!file.is_outdated());
}

fn ioctls_need_no_memory(subject: &Subject) {
    let file = subject.node.open();
    file.ensure_tracked();
    let tally = try_each("trigger", || file.trigger(0));
    assert_eq!(tally.injected, 0);
    file.catch_up();
    let tally = try_each("wait", || file.wait(1));
    assert_eq!(tally.injected, 0);
}

fn epoll_without_memory_is_enomem(subject: &Subject) {
    let file = subject.node.open();
    let tally = try_each("epoll", || {
        let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(0);
        epoll::add(&set, &file, data, epoll::EventFlags::IN)
    });
    assert_ne!(tally.failed, 0);
}

/// What `/proc` and sysfs say.
fn information_without_memory_is_enomem(subject: &Subject) {
    let file = subject.node.open();
    let fdinfo = format!("/proc/thread-self/fdinfo/{}", file.as_fd().as_raw_fd());
    let attribute = subject.node.sysfs().join("watchers");
    for path in [fdinfo.as_str(), attribute.to_str().expect("it is text")] {
        let tally = try_each(path, || {
            fs::read(path).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
        });
        assert_ne!(tally.failed, 0);
    }
}

/// Neither a watcher that could not be opened, nor a mapping that could not be made.
fn nobody_is_left(subject: &Subject) {
    let path = subject.node.sysfs().join("watchers");
    let count = fs::read_to_string(path).expect("it can be read");
    assert_eq!(count.trim_end(), "0");
}
