// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Files and sockets that behave as what announces restores does.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
use sysgenid_sys::vmclock::{COUNTED_SIZE, FLAG_COUNTER_PRESENT, MAGIC, VERSION, offset};

pub(crate) const TEXT: &str = "random: crng reseeded due to virtual machine fork";

/// What plays `/dev/kmsg`: a record at each read.
pub(crate) struct Log(OwnedFd);

impl Log {
    pub(crate) fn new() -> (Self, OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        (Self(ours), theirs)
    }

    pub(crate) fn write(&self, record: &str) {
        send(&self.0, record.as_bytes(), SendFlags::NOSIGNAL).unwrap();
    }

    pub(crate) fn restore(&self, sequence: u64) {
        self.write(&format!("5,{sequence},1312438,-;{TEXT}\n"));
    }
}

/// A clock that counts and notifies of nothing.
pub(crate) struct Clock {
    pub(crate) path: PathBuf,
    file: File,
}

impl Clock {
    pub(crate) fn new(dir: &Path) -> Self {
        let path = dir.join("vmclock");
        let file = File::create(&path).unwrap();
        file.set_len(4096).unwrap();
        let clock = Self { path, file };
        clock.put(offset::MAGIC, &MAGIC.to_le_bytes());
        clock.put(offset::SIZE, &COUNTED_SIZE.to_le_bytes());
        clock.put(offset::VERSION, &VERSION.to_le_bytes());
        clock.put(offset::FLAGS, &FLAG_COUNTER_PRESENT.to_le_bytes());
        clock
    }

    fn put(&self, offset: usize, bytes: &[u8]) {
        self.file.write_all_at(bytes, offset as u64).unwrap();
    }

    pub(crate) fn restore(&self, counter: u64) {
        self.put(offset::GENERATION_COUNTER, &counter.to_le_bytes());
    }
}

pub(crate) struct Vmgenid {
    pub(crate) path: PathBuf,
    file: File,
}

impl Vmgenid {
    pub(crate) fn new(dir: &Path) -> Self {
        let path = dir.join("vmgenid");
        let file = File::create(&path).unwrap();
        file.set_len(4096).unwrap();
        Self { path, file }
    }

    pub(crate) fn restore(&self, counter: u32) {
        self.file.write_all_at(&counter.to_ne_bytes(), 0).unwrap();
    }
}

/// gVisor's file is played by a FIFO, whose reader blocks until something is written.
pub(crate) struct Checkpoint(pub(crate) PathBuf);

impl Checkpoint {
    pub(crate) fn new(dir: &Path) -> Self {
        let path = dir.join("checkpoint");
        make_fifo(&path);
        Self(path)
    }

    /// Returns once the follower reads, and has another FIFO to open next.
    pub(crate) fn say(&self, word: &str) {
        let mut fifo = File::options().write(true).open(&self.0).unwrap();
        let next = self.0.with_extension("next");
        make_fifo(&next);
        fs::rename(next, &self.0).unwrap();
        fifo.write_all(word.as_bytes()).unwrap();
    }
}

fn make_fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}
