// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Observers of mainline's vmclock, and what is left where nobody notifies. Each change is one that
//! the `host` makes, and so is each notification.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Token};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sysgenid::{Generation, Observer};
use sysgenid_sys::vmclock::{FLAG_COUNTER_PRESENT, FLAG_NOTIFICATION_PRESENT};
use sysgenid_tokio::PolledProbe;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt;

use super::Subject;
use crate::background::{Background, GLANCE, PATIENCE};
use crate::cases;
use crate::forked::Forked;
use crate::host;
use crate::suite::Case;
use crate::typed::SOON;

cases! { Subject;
    observer_is_told_of_each_restore_once,
    observer_sleeps_until_the_notification,
    observer_is_woken_by_a_migration_and_told_of_nothing,
    observer_neither_waits_for_nor_spins_on_a_hypervisor_that_writes,
    observers_are_each_told,
    observer_is_discovered,
    mio_tells_an_observer_of_each_notification,
    observer_in_a_forked_child_takes_nothing_from_its_parent,
    reopened_observer_is_told_of_what_its_parent_was_not,
    observer_of_a_clock_that_stops_notifying_says_so_after_the_change,
    clock_without_notifications_is_polled_and_not_observed,
    async_observer_sleeps_until_the_notification,
    async_observer_tells_of_each_restore_once,
    async_observer_does_not_spin_on_a_hypervisor_that_writes,
    async_observer_ends_its_stream_after_an_error,
}

/// Of a counter that nobody is told of.
pub(super) const OF_SILENT_COUNTERS: &[Case<Subject>] = &[Case {
    name: "silent_counter_is_polled_and_not_observed",
    run: silent_counter_is_polled_and_not_observed,
}];

/// What the driver waits for a hypervisor that writes.
const DRIVERS_PATIENCE: Duration = Duration::from_millis(100);

fn restore(counter: u64) -> Generation {
    host::ask(&format!("restore {counter}"));
    host::ask("notify");
    Generation::new(counter)
}

fn observer(subject: &Subject) -> Observer {
    Observer::open_at(subject.path()).expect("it can be observed")
}

fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be built")
}

fn is_readable(observer: &Observer) -> bool {
    let mut fds = [PollFd::new(observer, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).expect("poll") > 0
}

/// It starts up to date, whatever came before.
fn observer_is_told_of_each_restore_once(subject: &Subject) {
    restore(101);
    let mut observer = observer(subject);
    assert_eq!(observer.try_changed().unwrap(), None);
    assert!(!is_readable(&observer));
    for counter in [102, u64::MAX, 1 << 32, 0, 103] {
        let generation = restore(counter);
        assert_eq!(observer.wait(PATIENCE).unwrap(), generation);
        assert_eq!(observer.generation(), generation);
        assert_eq!(observer.try_changed().unwrap(), None);
        assert!(!is_readable(&observer));
        let error = observer.wait(SOON).unwrap_err();
        assert!(error.is_timeout(), "{error}");
    }
}

fn observer_sleeps_until_the_notification(subject: &Subject) {
    for counter in [111, 112] {
        let mut observer = observer(subject);
        let sleeper = Background::start(move || observer.wait(PATIENCE));
        sleeper.expect_blocked("nothing has changed");
        let generation = restore(counter);
        assert_eq!(sleeper.finish("the host has notified").unwrap(), generation);
    }
}

/// The sequence is another one, and the counter is not. One look, and the descriptor is silent.
fn observer_is_woken_by_a_migration_and_told_of_nothing(subject: &Subject) {
    let mut observer = observer(subject);
    for _ in 0..3 {
        host::ask("migrate");
        host::ask("notify");
        assert!(is_readable_soon(&observer));
        assert_eq!(observer.try_changed().unwrap(), None);
        assert!(!is_readable(&observer), "who waits would spin");
    }
    let generation = restore(121);
    assert_eq!(observer.wait(PATIENCE).unwrap(), generation);
}

/// Its file is readable all the time, and reading it would take the driver's patience.
fn observer_neither_waits_for_nor_spins_on_a_hypervisor_that_writes(subject: &Subject) {
    restore(131);
    let mut observer = observer(subject);
    host::ask("begin");
    host::ask("notify");
    let woken = is_readable_soon(&observer);
    let looks = [(); 5].map(|()| {
        let start = Instant::now();
        (
            observer.try_changed(),
            start.elapsed(),
            is_readable(&observer),
        )
    });
    host::ask("end");
    assert!(woken, "it was notified");
    for (changed, _, readable) in &looks {
        assert!(matches!(changed, Ok(None)), "{changed:?}");
        assert!(!readable, "who waits would spin");
    }
    // The machine is slow, but not at each look.
    let shortest = looks.iter().map(|(_, time, _)| *time).min();
    assert!(shortest < Some(DRIVERS_PATIENCE), "{looks:?}");
    host::ask("notify");
    assert!(is_readable_soon(&observer), "it has finished");
    assert_eq!(observer.try_changed().unwrap(), None);
    let generation = restore(132);
    assert_eq!(observer.wait(PATIENCE).unwrap(), generation);
}

/// What one has seen is no business of another's.
fn observers_are_each_told(subject: &Subject) {
    let mut observers = [(); 3].map(|()| observer(subject));
    let generation = restore(141);
    for observer in &mut observers {
        assert!(is_readable_soon(observer));
        assert_eq!(observer.try_changed().unwrap(), Some(generation));
    }
    for observer in &mut observers {
        assert_eq!(observer.try_changed().unwrap(), None);
    }
}

/// Also beside a driver, which it leaves to watchers.
fn observer_is_discovered(subject: &Subject) {
    let observer = Observer::open().unwrap();
    assert_eq!(observer.probe().source().unwrap().path(), subject.path());
    observer.probe().verify().unwrap();
}

fn mio_tells_an_observer_of_each_notification(subject: &Subject) {
    let mut observer = observer(subject);
    let generation = restore(151);
    assert!(is_readable_soon(&observer));
    let mut poll = mio::Poll::new().unwrap();
    let registry = poll.registry();
    let registered = registry.register(&mut observer, Token(0), Interest::READABLE);
    registered.expect("it can be registered");
    let mut events = Events::with_capacity(8);
    let mut is_told = |timeout| {
        poll.poll(&mut events, Some(timeout)).expect("epoll_wait");
        !events.is_empty()
    };
    assert!(is_told(PATIENCE), "it came before it was registered");
    assert_eq!(observer.try_changed().unwrap(), Some(generation));
    for counter in [152, 153] {
        assert!(!is_told(SOON), "it was told of");
        let generation = restore(counter);
        assert!(is_told(PATIENCE));
        assert_eq!(observer.try_changed().unwrap(), Some(generation));
    }
}

/// It could: the driver notes what was seen with the open file, which they share.
fn observer_in_a_forked_child_takes_nothing_from_its_parent(subject: &Subject) {
    let mut observer = observer(subject);
    let before = observer.generation();
    let child = Forked::start(|steps| {
        steps.step();
        for error in [
            observer.try_changed().unwrap_err(),
            observer.wait(SOON).unwrap_err(),
        ] {
            assert!(error.is_forked(), "{error}");
        }
        assert_ne!(observer.generation(), before);
    });
    child.arrives();
    let generation = restore(161);
    child.go_on();
    child.finish();
    assert!(is_readable_soon(&observer));
    assert_eq!(observer.try_changed().unwrap(), Some(generation));
}

fn reopened_observer_is_told_of_what_its_parent_was_not(subject: &Subject) {
    let mut observer = observer(subject);
    let pending = restore(171);
    let child = Forked::start(|steps| {
        observer.reopen().expect("it can be reopened");
        assert_eq!(observer.try_changed().unwrap(), Some(pending));
        steps.step();
        assert_eq!(observer.wait(PATIENCE).unwrap(), Generation::new(172));
        assert_eq!(observer.try_changed().unwrap(), None);
    });
    child.arrives();
    assert_eq!(observer.try_changed().unwrap(), Some(pending));
    let generation = restore(172);
    child.go_on();
    child.finish();
    assert!(is_readable_soon(&observer), "the child's is its own");
    assert_eq!(observer.try_changed().unwrap(), Some(generation));
}

/// The machine has moved, and was restored there. The next look says that nobody will wake it.
fn observer_of_a_clock_that_stops_notifying_says_so_after_the_change(subject: &Subject) {
    let mut observer = observer(subject);
    let (generation, told, errors, readable) = with_flags(FLAG_COUNTER_PRESENT, || {
        let generation = restore(181);
        let told = observer.try_changed();
        let errors = [observer.try_changed(), observer.wait(PATIENCE).map(Some)];
        (generation, told, errors, is_readable(&observer))
    });
    assert_eq!(told.unwrap(), Some(generation));
    for error in errors.map(Result::unwrap_err) {
        assert!(error.is_unsupported(), "{error}");
        assert_eq!(error.path(), Some(subject.path()));
    }
    assert!(!readable, "who waits would spin");
    let generation = restore(182);
    assert_eq!(observer.wait(PATIENCE).unwrap(), generation);
    assert_eq!(observer.try_changed().unwrap(), None);
}

fn clock_without_notifications_is_polled_and_not_observed(subject: &Subject) {
    let runtime = runtime();
    with_flags(FLAG_COUNTER_PRESENT, || {
        expect_silent(subject, &runtime);
        expect_polled(subject, &runtime);
    });
}

fn silent_counter_is_polled_and_not_observed(subject: &Subject) {
    let runtime = runtime();
    expect_silent(subject, &runtime);
    expect_polled(subject, &runtime);
}

/// It is refused, and the error says what is left.
fn expect_silent(subject: &Subject, runtime: &Runtime) {
    let path = subject.path();
    for error in [
        Observer::open_at(path).unwrap_err(),
        runtime
            .block_on(sysgenid_tokio::Observer::open_at(path))
            .unwrap_err(),
    ] {
        assert!(error.is_unsupported(), "{error}");
        assert!(error.to_string().contains("PolledProbe"), "{error}");
        assert_eq!(error.path(), Some(path));
    }
}

/// By a timer, and without a notification.
fn expect_polled(subject: &Subject, runtime: &Runtime) {
    runtime.block_on(async {
        let mut probe = PolledProbe::every(SOON, subject.probe()).expect("there is a runtime");
        for counter in [191, 192] {
            let store = async {
                sleep(SOON / 2).await;
                subject.store(counter);
            };
            let ((), seen) = tokio::join!(store, timeout(PATIENCE, probe.changed()));
            assert_eq!(seen.expect("it is looked at"), Generation::new(counter));
        }
    });
}

fn async_observer_sleeps_until_the_notification(subject: &Subject) {
    for counter in [201, 202] {
        let path = subject.path().to_owned();
        let sleeper = Background::start(move || {
            runtime().block_on(async {
                let mut observer = sysgenid_tokio::Observer::open_at(path).await?;
                observer.changed().await
            })
        });
        sleeper.expect_blocked("nothing has changed");
        let generation = restore(counter);
        assert_eq!(sleeper.finish("the host has notified").unwrap(), generation);
    }
}

/// Whichever of its methods tells, and also what came before it was registered.
fn async_observer_tells_of_each_restore_once(subject: &Subject) {
    let early = observer(subject);
    let generation = restore(211);
    runtime().block_on(async {
        let mut observer = sysgenid_tokio::Observer::new(early).expect("there is a runtime");
        assert_eq!(told(&mut observer).await, generation);
        for counter in [212, 213] {
            let silence = timeout(SOON, observer.changed()).await;
            assert!(silence.is_err(), "it was told of: {silence:?}");
            let generation = restore(counter);
            assert_eq!(told(&mut observer).await, generation);
        }
        host::ask("migrate");
        host::ask("notify");
        assert!(timeout(GLANCE, observer.changed()).await.is_err());
        for counter in [214, 215] {
            let generation = restore(counter);
            let next = timeout(PATIENCE, observer.next()).await;
            let next = next.expect("it is told").expect("it does not end");
            assert_eq!(next.unwrap(), generation);
            assert!(timeout(SOON, observer.next()).await.is_err());
        }
        // Taken out of the runtime, it goes on.
        let mut observer = sysgenid::Observer::from(observer);
        assert_eq!(observer.try_changed().unwrap(), None);
        let generation = restore(216);
        assert_eq!(observer.wait(PATIENCE).unwrap(), generation);
    });
}

async fn told(observer: &mut sysgenid_tokio::Observer) -> Generation {
    let told = timeout(PATIENCE, observer.changed()).await;
    told.expect("it is told").expect("the clock notifies")
}

fn async_observer_does_not_spin_on_a_hypervisor_that_writes(subject: &Subject) {
    let runtime = runtime();
    let mut observer = runtime
        .block_on(sysgenid_tokio::Observer::open_at(subject.path()))
        .unwrap();
    host::ask("begin");
    host::ask("notify");
    let mut polls = 0;
    let waited = runtime.block_on(async {
        let counted = poll_fn(|cx| {
            polls += 1;
            observer.poll_changed(cx)
        });
        timeout(GLANCE, counted).await
    });
    host::ask("end");
    assert!(waited.is_err(), "{waited:?}");
    // First, by the notification, and by the timeout.
    assert!(polls <= 3, "{polls} polls");
    let generation = restore(221);
    assert_eq!(runtime.block_on(told(&mut observer)), generation);
}

fn async_observer_ends_its_stream_after_an_error(subject: &Subject) {
    let runtime = runtime();
    let mut observer = runtime
        .block_on(sysgenid_tokio::Observer::open_at(subject.path()))
        .unwrap();
    let [change, error, end] = with_flags(FLAG_COUNTER_PRESENT, || {
        restore(231);
        [(); 3].map(|()| {
            let next = runtime.block_on(async { timeout(PATIENCE, observer.next()).await });
            next.expect("it does not wait")
        })
    });
    let change = change.expect("the change is first");
    assert_eq!(change.unwrap(), Generation::new(231));
    let error = error.expect("the error is next").unwrap_err();
    assert!(error.is_unsupported(), "{error}");
    assert!(end.is_none(), "{end:?}");
    let generation = restore(232);
    // The stream is at its end, and the observer is not.
    assert_eq!(runtime.block_on(told(&mut observer)), generation);
}

/// Does something on a clock with other flags.
fn with_flags<T>(flags: u64, something: impl FnOnce() -> T) -> T {
    let usual = FLAG_COUNTER_PRESENT | FLAG_NOTIFICATION_PRESENT;
    host::ask(&format!("flags {flags}"));
    let done = catch_unwind(AssertUnwindSafe(something));
    // Whatever became of it: the next case has the same clock.
    host::ask(&format!("flags {usual}"));
    done.unwrap_or_else(|panic| resume_unwind(panic))
}

/// The notification is the guest's business as well: it comes when the host has given it.
fn is_readable_soon(observer: &Observer) -> bool {
    let mut fds = [PollFd::new(observer, PollFlags::IN)];
    let patience = Timespec::try_from(PATIENCE).expect("it is short");
    poll(&mut fds, Some(&patience)).expect("poll") > 0
}
