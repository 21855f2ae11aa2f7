// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Observers of a clock whose hypervisor is the test: a file has the page, and an eventfd notifies.
//! The driver's own notifications are heard in the virtual machines.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::OwnedFd;
use sysgenid_sys::vmclock::offset;
use tempfile::TempDir;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
/// A deadline that is meant to pass.
const SOON: Duration = Duration::from_millis(30);
/// Less than the driver waits for a hypervisor that writes.
const AT_ONCE: Duration = Duration::from_millis(50);

const BOTH: u64 = vmclock::FLAG_COUNTER_PRESENT | vmclock::FLAG_NOTIFICATION_PRESENT;

#[test]
fn a_change_is_told_of_once() {
    let (host, mut observer) = Host::observed();
    assert_eq!(observer.generation(), Generation::new(7));
    assert_eq!(observer.try_changed().unwrap(), None, "it is of before");
    for number in [8, u64::MAX, 3, 1 << 32 | 3] {
        host.restore(number);
        assert!(is_readable(&observer));
        assert_eq!(observer.generation(), Generation::new(number));
        let told = observer.try_changed().unwrap();
        assert_eq!(told, Some(Generation::new(number)));
        assert!(!is_readable(&observer), "it was told of");
        assert_eq!(observer.try_changed().unwrap(), None);
    }
}

#[test]
fn changes_that_follow_one_another_are_one() {
    let (host, mut observer) = Host::observed();
    for number in [8, 9, 10] {
        host.restore(number);
    }
    assert_eq!(observer.try_changed().unwrap(), Some(Generation::new(10)));
    assert!(!is_readable(&observer));
    assert_eq!(observer.try_changed().unwrap(), None);
}

/// The sequence changes with every update, the generation with a restore.
#[test]
fn a_migration_wakes_and_is_no_change() {
    let (host, mut observer) = Host::observed();
    host.update(|host| host.write(offset::DISRUPTION_MARKER, &[1]));
    host.notify();
    assert!(is_readable(&observer));
    assert_eq!(observer.try_changed().unwrap(), None);
    assert!(!is_readable(&observer), "who waits would spin");
    let error = observer.wait(SOON).unwrap_err();
    assert!(error.is_timeout(), "{error}");
}

/// The counter can be had before anybody is woken, and then there is nothing left to tell.
#[test]
fn a_notification_that_comes_after_the_look_is_no_change() {
    let (host, mut observer) = Host::observed();
    host.store(8);
    assert_eq!(observer.try_changed().unwrap(), Some(Generation::new(8)));
    host.notify();
    assert!(is_readable(&observer));
    assert_eq!(observer.try_changed().unwrap(), None);
    assert!(!is_readable(&observer));
}

#[test]
fn a_wait_sleeps_until_the_notification() {
    let (host, mut observer) = Host::observed();
    let start = Instant::now();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| observer.wait(PATIENCE));
        thread::sleep(SOON);
        // A migration comes first, and does not end it.
        host.notify();
        thread::sleep(SOON);
        host.restore(8);
        assert_eq!(waiting.join().unwrap().unwrap(), Generation::new(8));
    });
    assert!(start.elapsed() < PATIENCE, "nobody was woken");
    let start = Instant::now();
    let error = observer.wait(SOON).unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert!(start.elapsed() >= SOON);
}

/// It is told of by this look or by the next one, which the notification asks for.
#[test]
fn a_change_within_a_look_is_not_lost() {
    let (host, mut observer) = Host::observed();
    let told = observer.look(|| host.store(8)).unwrap();
    host.notify();
    assert_eq!(told, Some(Generation::new(8)));
    for number in [9, 10] {
        let told = observer.look(|| host.restore(number)).unwrap();
        assert_eq!(told, Some(Generation::new(number)));
        assert!(is_readable(&observer), "nobody has looked since");
    }
}

/// However a change falls between the steps of a look: each is told of before the next one comes.
#[test]
fn no_change_is_lost_when_it_races_with_a_look() {
    const ROUNDS: u64 = 20_000;

    let (host, mut observer) = Host::observed();
    let told = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=ROUNDS {
                (0..round % 61 * 7).for_each(|_| std::hint::spin_loop());
                let counter = 1_000 + round;
                host.write(offset::GENERATION_COUNTER, &counter.to_le_bytes());
                host.notify();
                while told.load(Ordering::Relaxed) < round {
                    std::hint::spin_loop();
                }
            }
        });
        for round in 1..=ROUNDS {
            let change = observer.wait(PATIENCE);
            // Before anything can panic: the other thread waits for it.
            let is_told = change.is_ok();
            told.store(if is_told { round } else { u64::MAX }, Ordering::Relaxed);
            assert_eq!(change.unwrap(), Generation::new(1_000 + round));
        }
    });
}

/// The driver would wait for the hypervisor, and its file is readable all the time.
#[test]
fn a_hypervisor_that_writes_is_neither_waited_for_nor_spun_on() {
    let (host, mut observer) = Host::observed();
    host.turn_sequence();
    host.notify();
    let start = Instant::now();
    assert!(is_readable(&observer));
    assert_eq!(observer.try_changed().unwrap(), None);
    assert!(!is_readable(&observer), "who waits would spin");
    // The counter is one word, and right however far the rest is.
    host.write(offset::GENERATION_COUNTER, &8_u64.to_le_bytes());
    assert_eq!(observer.try_changed().unwrap(), Some(Generation::new(8)));
    assert!(start.elapsed() < AT_ONCE, "it waited for the hypervisor");

    host.write(offset::GENERATION_COUNTER, &9_u64.to_le_bytes());
    host.turn_sequence();
    host.notify();
    assert!(is_readable(&observer), "it has finished");
    assert_eq!(observer.try_changed().unwrap(), Some(Generation::new(9)));
}

/// As after a move to another hypervisor, which restored it as well.
#[test]
fn a_clock_that_loses_a_flag_is_an_error_after_the_change() {
    for (flags, word) in [
        (vmclock::FLAG_COUNTER_PRESENT, "notify"),
        (vmclock::FLAG_NOTIFICATION_PRESENT, "keeps no generation"),
        (0, "keeps no generation"),
    ] {
        let (host, mut observer) = Host::observed();
        host.update(|host| host.write(offset::FLAGS, &flags.to_le_bytes()));
        host.restore(8);
        assert_eq!(observer.try_changed().unwrap(), Some(Generation::new(8)));
        let start = Instant::now();
        for error in [
            observer.try_changed().unwrap_err(),
            observer.wait(PATIENCE).unwrap_err(),
        ] {
            assert!(error.is_unsupported(), "{error}");
            assert!(error.to_string().contains(word), "{error}");
            assert_eq!(error.path(), Some(host.path.as_path()));
        }
        assert!(start.elapsed() < PATIENCE, "nobody would wake it");
        assert!(!is_readable(&observer), "who waits would spin");

        // And back.
        host.update(|host| host.write(offset::FLAGS, &BOTH.to_le_bytes()));
        host.restore(9);
        assert_eq!(observer.try_changed().unwrap(), Some(Generation::new(9)));
        assert_eq!(observer.try_changed().unwrap(), None);
    }
}

#[test]
fn a_clock_without_notifications_is_not_observed() {
    for flags in [vmclock::FLAG_COUNTER_PRESENT, 0] {
        let host = Host::new();
        host.write(offset::FLAGS, &flags.to_le_bytes());
        let clock = Clock::map(&host.source());
        let error = match clock.and_then(|clock| clock.hear_of(host.notifier.as_fd())) {
            Err(error) => error,
            Ok(()) => panic!("{flags:#x} is enough"),
        };
        assert!(error.is_unsupported(), "{error}");
        let hint = error.to_string();
        assert!(hint.contains("modprobe sysgenid"), "{hint}");
        assert_eq!(hint.contains("timer"), flags != 0, "{hint}");
    }
}

/// A kernel whose driver is too old for it has a file that cannot be polled, as a regular one.
#[test]
fn a_driver_that_cannot_wait_is_not_observed() {
    let host = Host::new();
    let error = Observer::open_on(host.source()).unwrap_err();
    assert!(error.is_unsupported(), "{error}");
    assert_eq!(error.path(), Some(host.path.as_path()));
    assert!(error.to_string().contains("timer"), "{error}");
}

#[test]
fn other_kinds_of_sources_are_not_observed() {
    let folder = tempfile::tempdir().unwrap();
    let _broker = sysgenid_broker::spawn(folder.path()).unwrap();
    let page = folder.path().join("page");
    let mut vmgenid = Source::at(&page).unwrap();
    vmgenid.set_kind(SourceKind::Vmgenid);
    for (source, hint) in [
        (Source::at(folder.path()).unwrap(), "`Watcher`"),
        (Source::at(&page).unwrap(), "a timer"),
        (vmgenid, "a timer"),
    ] {
        let path = source.path().to_owned();
        let error = Observer::open_on(source).unwrap_err();
        assert!(error.is_unsupported(), "{error}");
        assert!(error.to_string().contains(hint), "{error}");
        assert_eq!(error.path(), Some(path.as_path()));
    }
    assert!(Observer::open_at("/dev/null").unwrap_err().is_wrong_kind());
    let error = Observer::open_at(folder.path().join("nothing")).unwrap_err();
    assert!(error.is_absent(), "{error}");
}

#[cfg(feature = "mio")]
#[test]
fn mio_tells_of_each_notification_once() {
    use mio::{Events, Interest, Poll, Token};

    let (host, mut observer) = Host::observed();
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    let mut told = |poll: &mut Poll, timeout| {
        poll.poll(&mut events, Some(timeout)).unwrap();
        events
            .iter()
            .map(|event| event.token().0)
            .collect::<Vec<_>>()
    };
    host.restore(8);
    let registry = poll.registry();
    registry
        .register(&mut observer, Token(3), Interest::READABLE)
        .unwrap();
    for number in [8, 9, 10] {
        assert_eq!(told(&mut poll, PATIENCE), [3], "also what came before");
        let change = observer.try_changed().unwrap();
        assert_eq!(change, Some(Generation::new(number)));
        assert!(told(&mut poll, SOON).is_empty(), "it was told of");
        host.restore(number + 1);
    }
    assert_eq!(told(&mut poll, PATIENCE), [3]);
    // Still there for who registers again.
    let registry = poll.registry();
    registry
        .reregister(&mut observer, Token(4), Interest::READABLE)
        .unwrap();
    assert_eq!(told(&mut poll, PATIENCE), [4]);
    poll.registry().deregister(&mut observer).unwrap();
    host.notify();
    assert!(told(&mut poll, SOON).is_empty(), "it is not registered");
}

/// What a child has is told apart by this number alone. Real forks are in the virtual machines.
#[test]
fn another_process_s_observer_is_left_alone() {
    let (host, mut observer) = Host::observed();
    observer.process = observer.process.wrapping_add(1);
    host.restore(8);
    for error in [
        observer.try_changed().unwrap_err(),
        observer.wait(PATIENCE).unwrap_err(),
    ] {
        assert!(error.is_forked(), "{error}");
    }
    assert!(is_readable(&observer), "it is the parent's to take");
    assert_eq!(observer.generation(), Generation::new(8));
}

fn is_readable(observer: &Observer) -> bool {
    let mut fds = [PollFd::new(observer, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).unwrap() > 0
}

/// The hypervisor's side.
struct Host {
    file: File,
    path: PathBuf,
    notifier: OwnedFd,
    _folder: TempDir,
}

impl Host {
    /// A clock at generation 7, with notifications.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vmclock0");
        let file = File::create_new(&path).unwrap();
        file.set_len(4096).unwrap();
        let host = Self {
            file,
            path,
            notifier: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap(),
            _folder: folder,
        };
        host.write(offset::MAGIC, &vmclock::MAGIC.to_le_bytes());
        host.write(offset::SIZE, &4096_u32.to_le_bytes());
        host.write(offset::VERSION, &vmclock::VERSION.to_le_bytes());
        host.write(offset::FLAGS, &BOTH.to_le_bytes());
        host.write(offset::GENERATION_COUNTER, &7_u64.to_le_bytes());
        host
    }

    fn observed() -> (Self, Observer) {
        let host = Self::new();
        let clock = Clock::map(&host.source()).unwrap();
        clock.hear_of(host.notifier.as_fd()).unwrap();
        let source = host.source();
        (host, Observer::of(clock, source))
    }

    fn source(&self) -> Source {
        let mut source = Source::at(&self.path).unwrap();
        source.set_kind(SourceKind::Vmclock);
        source
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        self.file.write_all_at(bytes, offset as u64).unwrap();
    }

    fn turn_sequence(&self) {
        let next = vmclock::acknowledge(&self.file).unwrap().wrapping_add(1);
        self.write(offset::SEQ_COUNT, &next.to_le_bytes());
    }

    fn update(&self, change: impl FnOnce(&Self)) {
        self.turn_sequence();
        change(self);
        self.turn_sequence();
    }

    fn store(&self, counter: u64) {
        self.update(|host| host.write(offset::GENERATION_COUNTER, &counter.to_le_bytes()));
    }

    fn notify(&self) {
        rustix::io::write(&self.notifier, &1_u64.to_ne_bytes()).unwrap();
    }

    fn restore(&self, counter: u64) {
        self.store(counter);
        self.notify();
    }
}
