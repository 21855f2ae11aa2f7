// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use sysgenid::testing::Restores;
use sysgenid::{BuildError, Generation, ProcessWide, RestoreOnly, SharedGuarded};

use crate::world::{Fate, Page, Secret, make_hazy};

pub(crate) type Build<T> = Box<dyn Fn(Generation) -> Result<T, BuildError> + Send + Sync>;

/// A guard over a world, whose values are counted.
type Wiped = SharedGuarded<Secret, Restores, Build<Secret>>;

pub(crate) fn wiped() -> (Wiped, Restores, Arc<Fate>) {
    let (world, fate) = (Restores::new(), Arc::new(Fate::default()));
    let build = Arc::clone(&fate);
    let build: Build<_> = Box::new(move |_| Ok(build.build()));
    let guarded = SharedGuarded::with_witness(world.clone(), build);
    (guarded, world, fate)
}

#[test]
fn it_is_built_once_in_a_generation() {
    let page = Page::new();
    let builds = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&builds);
    let guarded = SharedGuarded::unwiped_with_witness(page.probe(), move |generation| {
        counter.fetch_add(1, SeqCst);
        Ok(generation)
    });
    assert_eq!(builds.load(SeqCst), 0);
    for _ in 0..3 {
        assert_eq!(guarded.with(|value| *value).unwrap(), Generation::new(0));
    }
    page.bump();
    assert_eq!(guarded.with(|value| *value).unwrap(), Generation::new(1));
    assert_eq!(builds.load(SeqCst), 2);
}

#[test]
fn it_may_be_a_static() {
    static KEY: SharedGuarded<[u8; 4]> = SharedGuarded::new(|_| Ok([7; 4]));
    assert_eq!(KEY.with(|key| key[0]).unwrap(), 7);

    /// That of a server whose forked workers share its ticket keys.
    static TICKETS: SharedGuarded<u32, RestoreOnly<ProcessWide>> =
        SharedGuarded::unwiped_with_witness(RestoreOnly(ProcessWide), |_| Ok(8));
    assert_eq!(TICKETS.with(|key| *key).unwrap(), 8);
}

#[test]
fn what_is_loaded_outlives_the_closure_and_says_when_it_is_old() {
    let (guarded, world, fate) = wiped();
    let loaded = guarded.load().unwrap();
    assert_eq!(loaded.number, 1);
    loaded.check().unwrap();
    assert!(loaded.is_current());

    world.restore();
    assert!(!loaded.is_current());
    let stale = loaded.check().unwrap_err();
    assert!(sysgenid::Error::from(stale).is_stale());
    assert_eq!(guarded.load().unwrap().number, 2);
    assert_eq!(loaded.number, 1, "it is held");
    assert_eq!(fate.counts(), (2, 0, 0));
    let other = loaded.clone();
    drop(loaded);
    assert_eq!(fate.counts(), (2, 0, 0));
    drop(other);
    assert_eq!(fate.counts(), (2, 1, 1));
}

#[test]
fn what_is_loaded_may_be_sent_to_another_thread() {
    fn is_send<T: Send + Sync>(_: &T) {}
    let (guarded, _, _) = wiped();
    is_send(&guarded.load().unwrap());
}

#[test]
fn a_glance_that_tells_nothing_makes_nothing_stale() {
    let (guarded, world, _) = wiped();
    make_hazy(&world);
    let loaded = guarded.load().unwrap();
    assert!(loaded.is_current());
}

#[test]
fn threads_rebuild_once_for_a_change() {
    const THREADS: usize = 8;
    const CHANGES: u32 = 20;
    let (world, fate) = (Restores::new(), Arc::new(Fate::default()));
    let build = Arc::clone(&fate);
    let guarded = SharedGuarded::with_witness(world.clone(), move |_| {
        // Long enough that others come to wait.
        thread::sleep(Duration::from_millis(2));
        Ok(build.build())
    });
    let all = Barrier::new(THREADS);
    let change_and_use = |_| {
        if all.wait().is_leader() {
            world.restore();
        }
        all.wait();
        guarded.with(|secret| secret.number).unwrap()
    };
    let seen = thread::scope(|scope| {
        let users = [(); THREADS]
            .map(|()| scope.spawn(|| (0..CHANGES).map(change_and_use).collect::<Vec<_>>()));
        users.map(|user| user.join().unwrap())
    });
    for seen in seen {
        assert_eq!(seen, (1..=CHANGES).collect::<Vec<_>>());
    }
    assert_eq!(fate.counts(), (CHANGES, CHANGES - 1, CHANGES - 1));
    drop(guarded);
    assert_eq!(fate.counts(), (CHANGES, CHANGES, CHANGES));
}

#[test]
fn an_outdated_value_is_not_even_computed_with() {
    let (guarded, world, _) = wiped();
    let mut seen = Vec::new();
    for _ in 0..3 {
        guarded.with(|secret| seen.push(secret.number)).unwrap();
        world.restore();
    }
    assert_eq!(seen, [1, 2, 3]);
}

#[test]
fn the_last_user_of_an_old_value_wipes_it() {
    let (guarded, world, fate) = wiped();
    let (mut runs, mut seen) = (0, Vec::new());
    let number = guarded
        .with(|secret| {
            runs += 1;
            if runs == 1 {
                world.restore();
                // Another user, who finds a new value.
                assert_eq!(guarded.with(|secret| secret.number).unwrap(), 2);
                assert_eq!(fate.counts(), (2, 0, 0), "the old one is in use");
            }
            seen.push(secret.number);
            secret.number
        })
        .unwrap();
    assert_eq!((number, seen), (2, vec![1, 2]));
    assert_eq!(fate.counts(), (2, 1, 1));
}

#[test]
fn a_transaction_commits_once_and_with_what_is_current() {
    let (guarded, world, _) = wiped();
    let (mut runs, mut committed) = (0, Vec::new());
    guarded
        .transaction(
            |secret| {
                runs += 1;
                if runs < 3 {
                    world.restore();
                }
                secret.number
            },
            |number| committed.push(number),
        )
        .unwrap();
    assert_eq!((runs, committed), (3, vec![3]));

    let error = guarded
        .transaction(|_| world.restore(), |()| panic!("it was committed"))
        .unwrap_err();
    assert!(error.is_unsettled());
}

/// A guard over a witness that shows a change after the first use, and then what it showed before.
/// Before that it answers so often.
pub(crate) fn forgetful(answers: usize) -> SharedGuarded<Secret, Restores, Build<Secret>> {
    let (world, looks) = (Restores::new(), AtomicUsize::new(0));
    world.before_looks(move |world, _| {
        // After the use, twice; and then as if nothing had been.
        let is_changed = (answers..answers + 2).contains(&looks.fetch_add(1, SeqCst));
        world.restore_to(is_changed.into());
    });
    let fate = Arc::new(Fate::default());
    SharedGuarded::with_witness(world, Box::new(move |_| Ok(fate.build())))
}

#[test]
fn a_value_that_was_once_overtaken_is_not_used_again() {
    // Before the build and after it.
    let guarded = forgetful(2);
    let mut seen = Vec::new();
    guarded.with(|secret| seen.push(secret.number)).unwrap();
    assert_eq!(seen, [1, 2]);
}

#[test]
fn a_glance_that_tells_nothing_rebuilds_nothing() {
    let (guarded, world, fate) = wiped();
    make_hazy(&world);
    for _ in 0..3 {
        assert_eq!(guarded.with(|secret| secret.number).unwrap(), 1);
    }
    assert_eq!(fate.counts(), (1, 0, 0));
}

#[test]
fn a_build_that_uses_its_own_guard_is_a_typed_error() {
    static GUARD: SharedGuarded<u32> = SharedGuarded::new(|_| Ok(GUARD.with(|value| *value)?));
    let error = GUARD.with(|value| *value).unwrap_err();
    assert!(error.is_rebuild());
    let source = std::error::Error::source(&error).unwrap();
    let source = source.downcast_ref::<sysgenid::Error>().unwrap();
    assert!(source.is_reentrant(), "{source}");
}

#[test]
fn a_failed_rebuild_leaves_no_old_value() {
    let world = Restores::new();
    let fate = Arc::new(Fate::default());
    let (build, calls) = (Arc::clone(&fate), AtomicU32::new(0));
    let guarded =
        SharedGuarded::with_witness(world.clone(), move |_| match calls.fetch_add(1, SeqCst) {
            1 => Err("no entropy".into()),
            2 => panic!("on purpose"),
            _ => Ok(build.build()),
        });
    guarded.with(|_| ()).unwrap();
    world.restore();
    let error = guarded.with(|_| ()).unwrap_err();
    assert!(error.is_rebuild(), "{error}");
    assert_eq!(fate.counts(), (1, 1, 1));
    // Back to where the old value would be taken for a current one.
    world.restore_to(0);
    let panicked = catch_unwind(AssertUnwindSafe(|| guarded.with(|_| ())));
    assert!(panicked.is_err(), "the panic is the caller's");
    assert_eq!(guarded.with(|secret| secret.number).unwrap(), 2);
}

type Guard = SharedGuarded<u32, Restores, Build<u32>>;

/// A guard whose first build ends when the test says so, and the number of its builds; others of
/// this process's threads wait for it then.
fn failing(
    outcome: impl Fn() -> io::Result<u32> + Send + Sync + 'static,
) -> (Arc<Guard>, mpsc::Sender<()>, Arc<AtomicU32>) {
    let (go, gone) = mpsc::channel();
    let gone = Mutex::new(gone);
    let builds = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&builds);
    let build: Build<u32> = Box::new(move |_| {
        if counter.fetch_add(1, SeqCst) > 0 {
            return Ok(2);
        }
        gone.lock().unwrap().recv().unwrap();
        Ok(outcome()?)
    });
    let guarded = SharedGuarded::with_witness(Restores::new(), build);
    (Arc::new(guarded), go, builds)
}

/// Uses the guard in several threads, of which one builds and the others wait for it.
fn use_together(
    guarded: &Arc<Guard>,
    go: &mpsc::Sender<()>,
) -> Vec<thread::Result<sysgenid::Result<u32>>> {
    let users: Vec<_> = (0..4)
        .map(|_| {
            let guarded = Arc::clone(guarded);
            thread::spawn(move || guarded.with(|value| *value))
        })
        .collect();
    // Until they wait. One that came later would build itself, which the caller sees.
    thread::sleep(Duration::from_millis(300));
    go.send(()).unwrap();
    users.into_iter().map(thread::JoinHandle::join).collect()
}

#[test]
fn those_who_wait_for_a_failing_build_share_its_error() {
    let (guarded, go, builds) = failing(|| Err(io::Error::other("no entropy")));
    for outcome in use_together(&guarded, &go) {
        let error = outcome.unwrap().unwrap_err();
        assert!(error.is_rebuild());
        assert!(format!("{error:?}").contains("no entropy"), "{error:?}");
    }
    assert_eq!(builds.load(SeqCst), 1);
    assert_eq!(guarded.with(|value| *value).unwrap(), 2, "and it recovers");
}

#[test]
fn those_who_wait_for_a_panicking_build_get_an_error() {
    let (guarded, go, builds) = failing(|| panic!("on purpose"));
    let outcomes = use_together(&guarded, &go);
    let (panicked, failed): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_err);
    assert_eq!((panicked.len(), failed.len()), (1, 3));
    for outcome in failed {
        let error = outcome.unwrap().unwrap_err();
        assert!(error.is_rebuild());
        assert!(format!("{error:?}").contains("panicked"), "{error:?}");
    }
    assert_eq!(builds.load(SeqCst), 1);
    assert_eq!(guarded.with(|value| *value).unwrap(), 2, "and it recovers");
}

#[test]
fn debug_does_not_show_the_secret() {
    let guarded = SharedGuarded::unwiped_with_witness(Restores::new(), |_| Ok("hunter2"));
    guarded.with(|_| ()).unwrap();
    let shown = format!("{guarded:?} {:?}", guarded.reader());
    assert!(shown.contains("Generation(0)"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}
