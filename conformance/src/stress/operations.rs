// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a thread does, one call or a few at a time.

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::event::{Timespec, epoll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::ioctl::{IntegerSetter, ioctl, opcode};
use sysgenid_sys::abi::{self, Dialect};
use sysgenid_sys::device;

use super::worker::Worker;
use super::{children, mappings};
use crate::raw::ioctls;

/// Does one thing, and returns whether there was something to do it with.
type Run = fn(&mut Worker<'_>) -> bool;

#[derive(Clone, Copy)]
pub(super) struct Operation {
    pub(super) name: &'static str,
    /// How often, compared with the others.
    pub(super) weight: u32,
    pub(super) run: Run,
}

/// What can be done in a dialect.
pub(super) fn of(dialect: Dialect) -> Vec<Operation> {
    let all: &[(&str, u32, Run)] = &[
        ("open", 12, open_file),
        ("close", 6, close),
        ("dup", 4, duplicate),
        ("read", 8, read),
        ("ack", 16, acknowledge),
        ("track", 8, track),
        ("trigger", 4, trigger),
        ("wait", 8, wait),
        ("settle", 4, settle),
        ("poll", 8, poll),
        ("epoll", 12, epoll),
        ("mmap", 8, mappings::map),
        ("munmap", 3, mappings::unmap),
        ("load", 12, mappings::load),
        ("madvise", 3, mappings::discard),
        ("mremap", 3, mappings::remap),
        ("mprotect", 3, mappings::protect),
        ("fork", 1, children::inherit),
        ("kill", 1, children::kill_asleep),
        ("fdinfo", 4, fdinfo),
        ("sysfs", 4, attribute),
        ("refused", 6, refused),
    ];
    all.iter()
        // In v5 tracking cannot be set.
        .filter(|(name, ..)| *name != "track" || dialect == Dialect::V6)
        .map(|&(name, weight, run)| Operation { name, weight, run })
        .collect()
}

fn open_file(worker: &mut Worker<'_>) -> bool {
    let access = if worker.random.once_in(8) {
        OFlags::RDONLY
    } else {
        OFlags::RDWR
    };
    let blocking = if worker.random.once_in(4) {
        OFlags::empty()
    } else {
        OFlags::NONBLOCK
    };
    let flags = access | blocking | OFlags::CLOEXEC;
    let opened = open(worker.shared.node.path(), flags, Mode::empty());
    let opened = worker.check("open", opened, &[]);
    let replaced = match opened {
        Some(file) => worker.file_slot().replace(Arc::new(file)),
        None => None,
    };
    drop(replaced);
    true
}

fn close(worker: &mut Worker<'_>) -> bool {
    let file = worker.file_slot().take();
    file.is_some()
}

fn duplicate(worker: &mut Worker<'_>) -> bool {
    let Some(file) = worker.file() else {
        return false;
    };
    let twin = rustix::io::fcntl_dupfd_cloexec(&file, 0);
    if let Some(twin) = worker.check("dup", twin, &[]) {
        let replaced = worker.file_slot().replace(Arc::new(twin));
        drop(replaced);
    }
    true
}

fn read(worker: &mut Worker<'_>) -> bool {
    let Some(file) = worker.file() else {
        return false;
    };
    let read = device::read_generation(&file);
    if let Some(generation) = worker.check("read", read, &[Errno::AGAIN, Errno::INTR]) {
        worker.saw(generation);
    }
    true
}

fn acknowledge(worker: &mut Worker<'_>) -> bool {
    let Some(file) = worker.file() else {
        return false;
    };
    let mapped = worker
        .mapping_slot()
        .as_ref()
        .map(crate::raw::Mapping::load);
    if let Some(generation) = mapped {
        worker.saw(generation);
    }
    let generation = if worker.random.once_in(8) {
        worker.random.below(u32::MAX)
    } else {
        worker.last_seen()
    };
    let acknowledged = device::acknowledge(&file, generation);
    worker.check("ack", acknowledged, &[Errno::INVAL, Errno::BADF]);
    true
}

fn track(worker: &mut Worker<'_>) -> bool {
    let Some(file) = worker.file() else {
        return false;
    };
    let dialect = worker.shared.node.dialect();
    let on = !worker.random.once_in(3);
    let tracked = ioctls::set_watcher_tracking(&file, dialect, on);
    // Of a descriptor for reading it cannot be turned on.
    worker.check("track", tracked, &[Errno::BADF]);
    true
}

fn trigger(worker: &mut Worker<'_>) -> bool {
    let Some(file) = worker.file() else {
        return false;
    };
    let dialect = worker.shared.node.dialect();
    let triggered = ioctls::trigger_gen_update(&file, dialect, 0);
    if worker.check("trigger", triggered, &[]).is_some() {
        worker.shared.triggers.fetch_add(1, Ordering::Relaxed);
    }
    true
}

fn wait(worker: &mut Worker<'_>) -> bool {
    wait_once(worker).is_some()
}

/// Returns whether all had acknowledged; `None` if it found no open file.
fn wait_once(worker: &mut Worker<'_>) -> Option<bool> {
    let file = worker.file()?;
    let ms = 1 + worker.random.below(20);
    let waits = &worker.shared.waits;
    let waited = ioctls::wait_watchers(&file, worker.shared.node.dialect(), ms);
    let how = match waited {
        Ok(()) => &waits.settled,
        Err(Errno::INTR) => &waits.interrupted,
        Err(Errno::TIME) => &waits.timed_out,
        Err(errno) => {
            worker.shared.fault(format!("wait: {errno:?}"));
            return Some(false);
        }
    };
    how.fetch_add(1, Ordering::Relaxed);
    Some(waited.is_ok())
}

/// Acknowledges for each watcher that it finds, so that some wait succeeds. In v5 every open file is
/// waited for, and others are opened, changed and copied meanwhile: one attempt hardly ever succeeds.
fn settle(worker: &mut Worker<'_>) -> bool {
    const ATTEMPTS: u32 = 16;
    for _ in 0..ATTEMPTS {
        acknowledge_all(worker);
        match wait_once(worker) {
            Some(false) => {}
            Some(true) => return true,
            None => return false,
        }
    }
    true
}

fn acknowledge_all(worker: &mut Worker<'_>) {
    for slot in &worker.shared.files {
        let file = slot.lock().unwrap_or_else(|held| held.into_inner()).clone();
        let outdated = file.filter(|file| device::is_outdated(file) == Ok(true));
        // It may be acknowledged by another thread meanwhile, and a blocking read would sleep.
        if let Some(file) = outdated
            && let Some(page) = &*worker.mapping_slot()
        {
            let acknowledged = device::acknowledge(&file, page.load());
            worker.check("ack", acknowledged, &[Errno::INVAL, Errno::BADF]);
        }
    }
}

fn poll(worker: &mut Worker<'_>) -> bool {
    let Some(file) = worker.file() else {
        return false;
    };
    let timeout = worker.moment();
    let polled = device::wait_outdated(&file, Some(&timeout));
    worker.check("poll", polled, &[Errno::INTR]);
    true
}

/// Adds, changes or removes a file, then waits. Files are closed while they are in the set.
fn epoll(worker: &mut Worker<'_>) -> bool {
    let Some(file) = worker.file() else {
        return false;
    };
    let data = epoll::EventData::new_u64(0);
    let mut flags = epoll::EventFlags::IN;
    for flag in [
        epoll::EventFlags::ET,
        epoll::EventFlags::ONESHOT,
        epoll::EventFlags::EXCLUSIVE,
    ] {
        if worker.random.once_in(3) {
            flags |= flag;
        }
    }
    // Not every mixture of flags is allowed, and not every change of an entry.
    let no = [Errno::EXIST, Errno::NOENT, Errno::INVAL];
    let changed = match worker.random.below(4) {
        0 => epoll::modify(&worker.epoll, &file, data, flags),
        1 => epoll::delete(&worker.epoll, &file),
        _ => epoll::add(&worker.epoll, &file, data, flags),
    };
    worker.check("epoll_ctl", changed, &no);
    let timeout = worker.moment();
    let mut events = [MaybeUninit::<epoll::Event>::uninit(); 8];
    let waited = epoll::wait(&worker.epoll, &mut events, Some(&timeout)).map(|_| ());
    worker.check("epoll_wait", waited, &[Errno::INTR]);
    true
}

fn fdinfo(worker: &mut Worker<'_>) -> bool {
    let Some(file) = worker.file() else {
        return false;
    };
    let path = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
    match fs::read_to_string(&path) {
        Ok(text) if text.contains("\nsysgenid-acked:\t") => {}
        other => worker.shared.fault(format!("{path}: {other:?}")),
    }
    true
}

fn attribute(worker: &mut Worker<'_>) -> bool {
    const ATTRIBUTES: [&str; 7] = [
        "dialect",
        "backend",
        "generation",
        "watchers",
        "tracked_watchers",
        "outdated_watchers",
        "uevent",
    ];
    let name = *worker.random.pick(&ATTRIBUTES);
    let path = worker.shared.node.sysfs().join(name);
    match fs::read_to_string(&path) {
        Ok(text) if name == "generation" => match text.trim_end().parse() {
            Ok(generation) => worker.saw(generation),
            Err(_) => worker.shared.fault(format!("generation: {text:?}")),
        },
        Ok(_) => {}
        Err(error) => worker.shared.fault(format!("{}: {error}", path.display())),
    }
    true
}

/// What the driver refuses, on the same files at the same time.
fn refused(worker: &mut Worker<'_>) -> bool {
    const UNKNOWN: rustix::ioctl::Opcode = opcode::none(abi::IOCTL_TYPE, 77);
    let Some(file) = worker.file() else {
        return false;
    };
    let (call, result, errors) = match worker.random.below(4) {
        0 => (
            "write of 3 bytes",
            rustix::io::write(&file, &[0; 3]).map(|_| ()),
            [Errno::NOBUFS, Errno::INVAL, Errno::BADF],
        ),
        1 => (
            "read of 3 bytes",
            rustix::io::read(&file, &mut [0; 3]).map(|_| ()),
            [Errno::INVAL; 3],
        ),
        2 => (
            "unknown ioctl",
            // SAFETY: The file is the device's, whose ioctls take numbers by value.
            unsafe { ioctl(&file, IntegerSetter::<UNKNOWN>::new_usize(1)) },
            [Errno::NOTTY; 3],
        ),
        _ => (
            "mmap",
            mappings::refused(worker, &file),
            [Errno::INVAL, Errno::PERM, Errno::ACCESS],
        ),
    };
    if result.is_ok() {
        worker.shared.fault(format!("{call} succeeded"));
    }
    worker.check(call, result, &errors);
    true
}

impl Worker<'_> {
    /// A timeout of no more than 3 ms.
    fn moment(&mut self) -> Timespec {
        Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(self.random.below(4)) * 1_000_000,
        }
    }
}
