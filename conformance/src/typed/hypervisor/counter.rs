// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The counters as they are, probed: by nobody who waits for them.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, chmod};
use sysgenid::{
    Generation, Orchestrator, Probe, ProcessWide, Source, SourceKind, Watcher, Witness,
};
use sysgenid_sys::abi;

use super::Subject;
use crate::cases;
use crate::host;
use crate::suite::Case;

cases! { Subject;
    source_is_of_its_kind,
    source_is_told_by_the_kernels_name_and_not_by_its_own,
    probe_shows_what_the_hypervisor_stored,
    probe_sees_no_change_when_the_driver_is_triggered,
    status_tells_the_generation_and_no_watchers,
    watchers_and_orchestrators_are_unsupported,
    discovery_prefers_the_driver_beside_it,
    discovery_for_probes_takes_it_where_there_is_no_driver,
    discovery_for_probes_passes_over_what_may_not_be_read,
    process_looks_at_it_and_at_the_driver,
    replaced_node_is_noticed,
}

pub(super) const OF_CLOCKS: &[Case<Subject>] = &[
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

fn source_is_of_its_kind(subject: &Subject) {
    assert_eq!(subject.source().kind(), subject.kind());
}

fn source_is_told_by_the_kernels_name_and_not_by_its_own(subject: &Subject) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["sysgenid", "vmclock7", "vmgenid"] {
        let path = folder.path().join(name);
        subject.make_node(&path);
        assert_eq!(Source::at(&path).unwrap().kind(), subject.kind(), "{name}");
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
    let driver = Orchestrator::open().expect("the driver is beside it");
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
        Watcher::open_at(subject.path()).unwrap_err(),
        Orchestrator::open_at(subject.path()).unwrap_err(),
    ] {
        assert!(error.is_unsupported(), "{error}");
        assert_eq!(error.path(), Some(subject.path()));
        assert!(error.to_string().contains("modprobe sysgenid"), "{error}");
    }
}

/// Whose number changes when the kernel has reseeded.
fn discovery_prefers_the_driver_beside_it(_: &Subject) {
    let probed = Source::discover_for_probe().unwrap();
    assert_eq!(probed.path(), Path::new(abi::DEVICE_PATH));
    assert_eq!(probed.kind(), SourceKind::Device);
    assert_eq!(Source::discover().unwrap(), probed);
    assert_eq!(Probe::open().unwrap().source(), Some(&probed));
}

fn discovery_for_probes_takes_it_where_there_is_no_driver(subject: &Subject) {
    subject.store(21);
    let (watched, probed, probe) = without_the_driver(|| {
        let probe = Probe::open();
        (Source::discover(), Source::discover_for_probe(), probe)
    });
    let error = watched.unwrap_err();
    assert!(error.is_absent(), "{error}");
    assert_eq!(probed.unwrap(), subject.source());
    let probe = probe.unwrap();
    assert_eq!(probe.source(), Some(&subject.source()));
    assert_eq!(probe.generation(), Generation::new(21));
}

fn discovery_for_probes_passes_over_what_may_not_be_read(subject: &Subject) {
    chmod(subject.path(), Mode::from_raw_mode(0o600)).expect("root may do so");
    let path = subject.path();
    let (opened, discovered) =
        without_the_driver(|| as_nobody(|| (Probe::open_at(path), Source::discover_for_probe())));
    let error = opened.unwrap_err();
    assert!(error.is_permission(), "{error}");
    let error = discovered.unwrap_err();
    assert!(error.is_absent(), "{error}");
}

/// So it misses neither a restore nor a trigger.
fn process_looks_at_it_and_at_the_driver(subject: &Subject) {
    let sources: Vec<_> = sysgenid::protection().sources().map(Source::path).collect();
    assert_eq!(sources, [Path::new(abi::DEVICE_PATH), subject.path()]);
    ProcessWide.verify().unwrap();
    assert_eq!(
        sysgenid::generation(),
        Probe::open().unwrap().generation(),
        "the driver's number is that of the process"
    );

    let at_first = ProcessWide.mark();
    subject.store(51);
    let restored = ProcessWide.glance();
    assert_ne!(restored, at_first);
    let driver = Orchestrator::open().expect("the driver is beside it");
    driver.trigger().expect("root may trigger");
    assert_ne!(ProcessWide.glance(), restored);
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
    let opened = Probe::open_at(subject.path());
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

/// Does something while the driver's node has another name.
fn without_the_driver<T>(something: impl FnOnce() -> T) -> T {
    const AWAY: &str = "/dev/sysgenid-is-away";

    assert_eq!(std::env::var_os(sysgenid::SOURCE_VARIABLE), None);
    fs::rename(abi::DEVICE_PATH, AWAY).expect("root may do so");
    let done = something();
    fs::rename(AWAY, abi::DEVICE_PATH).expect("root may do so");
    done
}

/// Does something on a thread that has given up the superuser's rights.
fn as_nobody<T: Send>(something: impl FnOnce() -> T + Send) -> T {
    let done = thread::scope(|scope| {
        let nobody = scope.spawn(|| {
            let nobody = rustix::fs::Uid::from_raw(65_534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).expect("root may do so");
            something()
        });
        nobody.join()
    });
    done.expect("it does not panic")
}
