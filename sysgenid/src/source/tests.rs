// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hypervisor's counters, where a file stands for their node. What takes a node is tested in the
//! virtual machines.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::os::unix::fs::FileExt;
use std::time::Duration;

use sysgenid_sys::vmclock::{self, offset};
use tempfile::TempDir;

use super::discovery::{clocks_in, first_usable};
use super::*;
use crate::check::Probe;
use crate::orchestrate::Orchestrator;
use crate::watch::Watcher;

/// Above what fits in 32 bits.
const NUMBER: u64 = 0x0123_4567_89ab_cdef;

#[test]
fn devices_are_told_apart_by_their_names() {
    for (name, kind) in [
        ("sysgenid", Some(SourceKind::Device)),
        ("vmgenid", Some(SourceKind::Vmgenid)),
        ("vmclock0", Some(SourceKind::Vmclock)),
        ("vmclock12", Some(SourceKind::Vmclock)),
        ("vmclock", None),
        ("vmclock+1", None),
        ("vmclock-1", None),
        ("vmclock0a", None),
        ("vmclock99999999999", None),
        ("vmgenid0", None),
        ("sysgenid0", None),
        ("null", None),
        ("", None),
    ] {
        assert_eq!(kind_by_name(name.as_ref()), kind, "{name:?}");
    }
}

#[test]
fn clocks_are_tried_by_their_number() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "vmclock10",
        "vmclock9",
        "vmclock",
        "vmclockx",
        "null",
        "vmclock0",
    ] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    let expected = ["vmclock0", "vmclock9", "vmclock10"].map(|name| folder.path().join(name));
    assert_eq!(clocks_in(folder.path()), expected);
    assert!(clocks_in(&folder.path().join("nowhere")).is_empty());
}

#[test]
fn the_first_of_the_hypervisors_counters_that_can_be_used_is_taken() {
    let folder = Folder::new();
    let absent = folder.source(SourceKind::Vmclock, "absent");
    let uncounted = folder.clock("uncounted");
    folder.write("uncounted", offset::FLAGS, &[0; 8]);
    let other = folder.source(SourceKind::PageFile, "page");
    fs::write(&other.path, [0; 4096]).unwrap();
    let clock = folder.clock("clock");
    let vmgenid = folder.source(SourceKind::Vmgenid, "vmgenid");
    fs::write(&vmgenid.path, [0; 4096]).unwrap();

    let usable = |candidates: &[&Source]| first_usable(candidates.iter().copied().cloned());
    let unusable = [&absent, &uncounted, &other];
    assert_eq!(usable(&unusable), None);
    for found in [&clock, &vmgenid] {
        let [absent, uncounted, other] = unusable;
        let candidates = [absent, uncounted, other, found, &clock, &vmgenid];
        assert_eq!(usable(&candidates).as_ref(), Some(found));
    }
}

#[test]
fn a_vmclock_is_probed_and_asked() {
    let folder = Folder::new();
    let clock = folder.clock("clock");
    let probe = Probe::open_on(clock.clone()).unwrap();
    assert_eq!(probe.generation(), Generation::new(NUMBER));
    probe.verify().unwrap();
    let status = clock.status(Duration::ZERO).unwrap();
    assert_eq!(status.generation, Generation::new(NUMBER));
    assert_eq!(
        (status.watchers, status.dialect, status.backend),
        (None, None, None)
    );

    // The high half alone.
    let next = NUMBER ^ 1 << 63;
    folder.write("clock", offset::GENERATION_COUNTER, &next.to_le_bytes());
    assert_eq!(probe.generation(), Generation::new(next));
}

#[test]
fn a_vmgenid_is_probed_and_asked() {
    let folder = Folder::new();
    let vmgenid = folder.source(SourceKind::Vmgenid, "vmgenid");
    fs::write(&vmgenid.path, [0; 4096]).unwrap();
    let probe = Probe::open_on(vmgenid.clone()).unwrap();
    folder.write("vmgenid", 0, &u32::MAX.to_ne_bytes());
    assert_eq!(probe.generation(), Generation::from(u32::MAX));
    probe.verify().unwrap();

    // The page is the hypervisor's, so what follows the counter may be anything.
    folder.write("vmgenid", 4, &[0xff; 8]);
    let status = vmgenid.status(Duration::ZERO).unwrap();
    assert_eq!(status.generation, Generation::from(u32::MAX));
}

#[test]
fn hypervisors_counters_are_not_watched() {
    let folder = Folder::new();
    let vmgenid = folder.source(SourceKind::Vmgenid, "vmgenid");
    for source in [folder.clock("clock"), vmgenid] {
        let path = source.path.clone();
        for error in [
            Watcher::options().open_on(source.clone()).unwrap_err(),
            Orchestrator::options().open_on(source).unwrap_err(),
        ] {
            assert!(error.is_unsupported(), "{error:?}");
            assert_eq!(error.path(), Some(path.as_path()));
            let message = error.to_string();
            assert!(message.contains("modprobe sysgenid"), "{message}");
            assert!(message.contains("sysgenid serve"), "{message}");
        }
    }
}

#[test]
fn what_a_clock_lacks_is_told_apart() {
    type Question = fn(&Error) -> bool;
    let cases: [(usize, &[u8], Question, &str); 5] = [
        (offset::MAGIC, b"XXXX", Error::is_wrong_kind, "not one's"),
        (offset::VERSION, &[2, 0], Error::is_unsupported, "version"),
        (
            offset::SIZE,
            &[111, 0, 0, 0],
            Error::is_unsupported,
            "too small",
        ),
        (
            offset::FLAGS,
            &[0, 2],
            Error::is_unsupported,
            "keeps no generation counter",
        ),
        (offset::SEQ_COUNT, &[1], Error::is_broken, "does not finish"),
    ];
    let folder = Folder::new();
    for (at, bytes, is_expected, text) in cases {
        let clock = folder.clock("clock");
        folder.write("clock", at, bytes);
        for error in [
            Probe::open_on(clock.clone()).unwrap_err(),
            clock.status(Duration::ZERO).unwrap_err(),
        ] {
            assert!(is_expected(&error), "{error:?}");
            assert!(error.to_string().contains(text), "{error:?}");
            assert_eq!(error.path(), Some(clock.path.as_path()));
        }
    }

    let short = folder.source(SourceKind::Vmclock, "short");
    fs::write(&short.path, [0; 111]).unwrap();
    assert!(Probe::open_on(short).unwrap_err().is_broken());
}

#[test]
fn a_clock_that_stops_counting_or_is_replaced_is_reported() {
    let folder = Folder::new();
    let clock = folder.clock("clock");
    let probe = Probe::open_on(clock.clone()).unwrap();
    folder.write("clock", offset::FLAGS, &[0; 8]);
    let error = probe.verify().unwrap_err();
    assert!(error.is_unsupported(), "{error:?}");

    folder.clock("new");
    fs::rename(folder.0.path().join("new"), &clock.path).unwrap();
    let error = probe.verify().unwrap_err();
    assert!(error.is_broken(), "{error:?}");

    fs::remove_file(&clock.path).unwrap();
    let error = probe.verify().unwrap_err();
    assert!(error.is_absent(), "{error:?}");
    assert_eq!(
        probe.generation(),
        Generation::new(NUMBER),
        "it still reads"
    );
}

/// Where nodes should be.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn source(&self, kind: SourceKind, name: &str) -> Source {
        Source {
            kind,
            path: self.0.path().join(name),
            found: Found::Named,
        }
    }

    /// A clock with a counter.
    fn clock(&self, name: &str) -> Source {
        let clock = self.source(SourceKind::Vmclock, name);
        fs::write(&clock.path, [0; 4096]).unwrap();
        self.write(name, offset::MAGIC, &vmclock::MAGIC.to_le_bytes());
        self.write(name, offset::SIZE, &4096_u32.to_le_bytes());
        self.write(name, offset::VERSION, &vmclock::VERSION.to_le_bytes());
        let flags = vmclock::FLAG_COUNTER_PRESENT;
        self.write(name, offset::FLAGS, &flags.to_le_bytes());
        self.write(name, offset::GENERATION_COUNTER, &NUMBER.to_le_bytes());
        clock
    }

    fn write(&self, name: &str, offset: usize, bytes: &[u8]) {
        let path = self.0.path().join(name);
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(bytes, offset as u64).unwrap();
    }
}
