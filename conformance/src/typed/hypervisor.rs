// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The counters that a hypervisor keeps, through the SDK: `/dev/vmgenid` and mainline's vmclock. Each
//! change is one that the `host` makes. Beside them, the kernel driver is loaded.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, chmod, mknodat, stat};
use sysgenid::{
    Generation, Orchestrator, Probe, ProcessWide, Source, SourceKind, Watcher, Witness,
};
use sysgenid_sys::abi;

use crate::cases;
use crate::host;
use crate::suite::Case;

/// The node under test.
#[derive(Clone, Debug)]
pub struct Subject {
    path: PathBuf,
    kind: SourceKind,
}

/// All cases for this kind of source: what both have, then a clock's own.
pub fn cases(kind: SourceKind) -> impl Iterator<Item = &'static Case<Subject>> {
    let own: &[_] = match kind {
        SourceKind::Vmclock => OF_CLOCKS,
        _ => &[],
    };
    CASES.iter().chain(own)
}

cases! { Subject;
    source_is_of_its_kind,
    source_is_told_by_the_kernels_name_and_not_by_its_own,
    probe_shows_what_the_hypervisor_stored,
    probe_sees_no_change_when_the_driver_is_triggered,
    status_tells_the_generation_and_no_watchers,
    watchers_and_orchestrators_are_unsupported,
    discovery_for_probes_prefers_it,
    process_looks_at_it_and_at_the_driver,
    discovery_for_probes_passes_over_what_may_not_be_read,
    replaced_node_is_noticed,
}

const OF_CLOCKS: &[Case<Subject>] = &[
    Case {
        name: "probe_has_64_bits",
        run: probe_has_64_bits,
    },
    Case {
        name: "probe_is_not_disturbed_by_an_update_under_way",
        run: probe_is_not_disturbed_by_an_update_under_way,
    },
    Case {
        name: "migration_is_no_change",
        run: migration_is_no_change,
    },
];

impl Subject {
    /// The node at `path`, which is to be of this kind.
    #[must_use]
    pub fn new(path: PathBuf, kind: SourceKind) -> Self {
        Self { path, kind }
    }

    fn source(&self) -> Source {
        Source::at(&self.path).expect("it is a source")
    }

    fn probe(&self) -> Probe {
        Probe::open_at(&self.path).expect("it can be probed")
    }

    /// The host stores a counter.
    fn store(&self, counter: u64) {
        let word = match self.kind {
            SourceKind::Vmclock => "restore",
            _ => "counter",
        };
        host::ask(&format!("{word} {counter}"));
    }

    /// Makes another node for the same device.
    fn make_node(&self, path: &Path) {
        let device = stat(&self.path).expect("it is there").st_rdev;
        let mode = Mode::from_raw_mode(0o600);
        mknodat(CWD, path, FileType::CharacterDevice, mode, device).expect("root may do so");
    }
}

fn source_is_of_its_kind(subject: &Subject) {
    assert_eq!(subject.source().kind(), subject.kind);
}

fn source_is_told_by_the_kernels_name_and_not_by_its_own(subject: &Subject) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["sysgenid", "vmclock7", "vmgenid"] {
        let path = folder.path().join(name);
        subject.make_node(&path);
        assert_eq!(Source::at(&path).unwrap().kind(), subject.kind, "{name}");
        let generation = Probe::open_at(&path).unwrap().generation();
        assert_eq!(generation, subject.probe().generation());
    }
}

/// Without a notification, in each probe, the older ones as well.
fn probe_shows_what_the_hypervisor_stored(subject: &Subject) {
    let older = subject.probe();
    for counter in [1, 7, u32::MAX, 0, 0x8000_0000, 3] {
        subject.store(counter.into());
        let expected = Generation::from(counter);
        assert_eq!(older.generation(), expected);
        assert_eq!(subject.probe().generation(), expected);
    }
    older.verify().unwrap();
}

/// The hypervisor knows nothing of it: that is what a driver is for.
fn probe_sees_no_change_when_the_driver_is_triggered(subject: &Subject) {
    let probe = subject.probe();
    let mut driver = Orchestrator::open().expect("the driver is beside it");
    let before = (probe.generation(), driver.watcher().generation());
    let triggered = driver.trigger().expect("root may trigger");
    assert_ne!(triggered, before.1);
    assert_eq!(probe.generation(), before.0);
}

fn status_tells_the_generation_and_no_watchers(subject: &Subject) {
    for counter in [11, 12] {
        subject.store(counter);
        let status = subject.source().status(Duration::ZERO).unwrap();
        assert_eq!(status.generation, Generation::new(counter));
        assert_eq!(status.watchers, None);
        assert_eq!((status.dialect, status.backend), (None, None));
    }
}

fn watchers_and_orchestrators_are_unsupported(subject: &Subject) {
    for error in [
        Watcher::open_at(&subject.path).unwrap_err(),
        Orchestrator::open_at(&subject.path).unwrap_err(),
    ] {
        assert!(error.is_unsupported(), "{error}");
        assert_eq!(error.path(), Some(subject.path.as_path()));
        assert!(error.to_string().contains("modprobe sysgenid"), "{error}");
    }
}

/// And for watchers it finds the driver.
fn discovery_for_probes_prefers_it(subject: &Subject) {
    assert_eq!(std::env::var_os(sysgenid::SOURCE_VARIABLE), None);
    let found = Source::discover_for_probe().unwrap();
    assert_eq!(found, subject.source());
    subject.store(21);
    let probe = Probe::open().unwrap();
    assert_eq!(probe.source(), &found);
    assert_eq!(probe.generation(), Generation::new(21));
    let watched = Source::discover().unwrap();
    assert_eq!(watched.path(), Path::new(abi::DEVICE_PATH));
    assert_eq!(watched.kind(), SourceKind::Device);
}

/// So it misses neither a restore nor a trigger.
fn process_looks_at_it_and_at_the_driver(subject: &Subject) {
    let sources: Vec<_> = ProcessWide.sources().map(Source::path).collect();
    assert_eq!(sources, [&subject.path, Path::new(abi::DEVICE_PATH)]);
    ProcessWide.verify().unwrap();

    let at_first = ProcessWide.mark();
    subject.store(51);
    let restored = ProcessWide.glance();
    assert_ne!(restored, at_first);
    assert_eq!(sysgenid::generation(), Generation::new(51));
    let mut driver = Orchestrator::open().expect("the driver is beside it");
    driver.trigger().expect("root may trigger");
    assert_ne!(ProcessWide.glance(), restored);
    assert_eq!(sysgenid::generation(), Generation::new(51));
}

fn discovery_for_probes_passes_over_what_may_not_be_read(subject: &Subject) {
    chmod(&subject.path, Mode::from_raw_mode(0o600)).expect("root may do so");
    let nobody = rustix::fs::Uid::from_raw(65_534);
    // This thread alone, which ends with the case.
    rustix::thread::set_thread_res_uid(nobody, nobody, nobody).expect("root may do so");
    let error = Probe::open_at(&subject.path).unwrap_err();
    assert!(error.is_permission(), "{error}");
    let found = Source::discover_for_probe().unwrap();
    assert_eq!(found.path(), Path::new(abi::DEVICE_PATH));
}

fn replaced_node_is_noticed(subject: &Subject) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node");
    subject.make_node(&path);
    let probe = Probe::open_at(&path).unwrap();
    probe.verify().unwrap();

    let new = folder.path().join("new");
    subject.make_node(&new);
    fs::rename(&new, &path).unwrap();
    let error = probe.verify().unwrap_err();
    assert!(error.is_broken(), "{error}");

    fs::remove_file(&path).unwrap();
    let error = probe.verify().unwrap_err();
    assert!(error.is_absent(), "{error}");
    subject.store(31);
    assert_eq!(probe.generation(), Generation::new(31), "it still reads");
}

/// A change of the high half alone is one.
fn probe_has_64_bits(subject: &Subject) {
    let probe = subject.probe();
    for counter in [5, (1 << 32) | 5, u64::MAX, (1 << 63) | 5, 6] {
        subject.store(counter);
        assert_eq!(probe.generation(), Generation::new(counter));
        let status = subject.source().status(Duration::ZERO).unwrap();
        assert_eq!(status.generation, Generation::new(counter));
    }
}

/// Only who looks at the other fields needs the hypervisor to finish, and does not wait for ever.
fn probe_is_not_disturbed_by_an_update_under_way(subject: &Subject) {
    subject.store(41);
    let probe = subject.probe();
    host::ask("begin");
    let seen = probe.generation();
    let opened = Probe::open_at(&subject.path);
    let verified = probe.verify();
    host::ask("end");
    assert_eq!(seen, Generation::new(41));
    for error in [opened.unwrap_err(), verified.unwrap_err()] {
        assert!(error.is_broken(), "{error}");
        assert!(error.to_string().contains("does not finish"), "{error}");
    }
    probe.verify().unwrap();
}

fn migration_is_no_change(subject: &Subject) {
    let probe = subject.probe();
    let before = probe.generation();
    host::ask("migrate");
    assert_eq!(probe.generation(), before);
    probe.verify().unwrap();
}
