// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Worlds that a test plays, as the tests of another crate use them.
#![cfg(all(target_os = "linux", not(sysgenid_loom)))]
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod changes;
mod hooks;

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Barrier, LazyLock, mpsc};
use std::thread;

use sysgenid::rand_core::Rng;
use sysgenid::testing::{Look, Restores};
use sysgenid::{
    Bound, BuildError, Gate, Generation, Guarded, PageFile, Probe, ProcessWide, RestoreOnly,
    SharedGuarded, ThreadGuarded, Uniqueness, Witness, assume_restored, generation, protection,
    uniqueness,
};

/// Counts its builds.
fn counting<W: Witness>(
    witness: W,
) -> Guarded<u32, W, impl FnMut(Generation) -> Result<u32, BuildError>> {
    let mut built = 0;
    Guarded::unwiped_with_witness(witness, move |_| {
        built += 1;
        Ok(built)
    })
}

#[test]
fn the_process_wide_witness_shows_what_is_played() {
    let restores = Restores::new();
    let _scope = restores.scope();
    let mut seen: Vec<Uniqueness> = Vec::new();
    let changes: [fn(&Restores); 4] = [
        |_| {},
        Restores::restore,
        Restores::fork,
        |_| assume_restored(),
    ];
    for change in changes {
        change(&restores);
        let now = uniqueness();
        assert!(!seen.contains(&now), "{now:?} of {seen:?}");
        assert_eq!(uniqueness(), now);
        assert_eq!(ProcessWide.mark(), now);
        assert_eq!(ProcessWide.glance(), now);
        assert_eq!(restores.mark(), now);
        assert_eq!(restores.glance(), now);
        assert_eq!(now.generation(), generation());
        assert_eq!(restores.generation(), generation());
        seen.push(now);
    }
    ProcessWide.verify().unwrap();
    assert!(protection().shows_restores());
    assert_eq!(protection().sources().count(), 0);
}

#[test]
fn every_guard_rebuilds_after_what_is_played() {
    thread_local! {
        static LOCAL: RefCell<u32> = const { RefCell::new(0) };
    }

    let restores = Restores::new();
    let _scope = restores.scope();
    let build = |_| {
        LOCAL.with_borrow_mut(|built| *built += 1);
        Ok(LOCAL.with_borrow(|built| *built))
    };
    let mut owned = Guarded::new(build);
    let shared = SharedGuarded::new(build);
    let local = ThreadGuarded::new(build);
    let mut reader = shared.reader();
    let mut values = || {
        [
            *owned.get().unwrap(),
            owned.with(|value| *value).unwrap(),
            shared.with(|value| *value).unwrap(),
            *reader.get().unwrap(),
            local.with(|value| *value).unwrap(),
        ]
    };
    let mut before = values();
    let changes: [fn(&Restores); 2] = [Restores::restore, Restores::fork];
    for change in changes {
        assert_eq!(values(), before);
        change(&restores);
        let now = values();
        assert!(now.iter().zip(before).all(|(now, before)| *now > before));
        before = now;
    }
}

#[test]
fn a_result_that_a_restore_overtook_is_computed_again() {
    let restores = Restores::new();
    let mut guarded = counting(restores.clone());
    let mut runs = 0;
    let result = guarded.with(|value| {
        runs += 1;
        if runs == 1 {
            restores.restore();
        }
        *value
    });
    assert_eq!((result.unwrap(), runs), (2, 2));
}

#[test]
fn what_must_not_outlive_a_change_is_refused_after_one_that_is_played() {
    let restores = Restores::new();
    let _scope = restores.scope();
    let changes: [fn(&Restores); 3] = [Restores::restore, Restores::fork, |_| assume_restored()];
    for change in changes {
        let (mut bound, gate) = (Bound::unwiped(uniqueness(), 7), Gate::new());
        let pass = gate.check().unwrap();
        assert_eq!(*bound.get().unwrap(), 7);
        change(&restores);
        assert!(bound.get_mut().is_err() && pass.check().is_err() && gate.check().is_err());
        gate.open(gate.mark());
        assert!(gate.is_open());
    }
}

#[test]
fn what_leaves_forks_out_sees_restores_only() {
    let restores = Restores::new();
    restores.run(|| {
        let mut guarded = counting(RestoreOnly(ProcessWide));
        assert_eq!(*guarded.get().unwrap(), 1);
        restores.fork();
        assume_restored();
        assert_eq!(*guarded.get().unwrap(), 1);
        restores.restore();
        assert_eq!(*guarded.get().unwrap(), 2);
    });
}

/// A probe has its own source. But forks are the process's.
#[test]
fn a_probe_sees_the_forks_that_are_played_and_no_restore() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page");
    let mut host = PageFile::open(&path).unwrap();
    let restores = Restores::new();
    let _scope = restores.scope();
    let mut guarded = counting(Probe::open_at(&path).unwrap());
    let mut for_restores = counting(RestoreOnly(Probe::open_at(&path).unwrap()));
    assert_eq!(
        (*guarded.get().unwrap(), *for_restores.get().unwrap()),
        (1, 1)
    );
    restores.restore();
    assert_eq!(
        (*guarded.get().unwrap(), *for_restores.get().unwrap()),
        (1, 1)
    );
    restores.fork();
    assert_eq!(
        (*guarded.get().unwrap(), *for_restores.get().unwrap()),
        (2, 1)
    );
    assume_restored();
    assert_eq!(
        (*guarded.get().unwrap(), *for_restores.get().unwrap()),
        (3, 1)
    );
    host.change().unwrap();
    assert_eq!(
        (*guarded.get().unwrap(), *for_restores.get().unwrap()),
        (4, 2)
    );
}

#[test]
fn what_is_built_in_one_scope_is_old_in_another_and_outside() {
    let (one, other) = (Restores::new(), Restores::new());
    let mut guarded = counting(ProcessWide);
    let mut for_restores = counting(RestoreOnly(ProcessWide));
    let mut expected = 0;
    // Each world is at the same generation, and has seen as many forks as the other.
    for world in [
        None,
        Some(&one),
        Some(&other),
        Some(&one),
        None,
        Some(&other),
    ] {
        let _scope = world.map(Restores::scope);
        expected += 1;
        for _ in 0..2 {
            assert_eq!(*guarded.get().unwrap(), expected);
            assert_eq!(*for_restores.get().unwrap(), expected);
        }
    }
}

#[test]
fn the_last_scope_counts_and_they_may_end_in_any_order() {
    let (one, other) = (Restores::new(), Restores::new());
    other.restore();
    let outside = uniqueness();
    let outer = one.scope();
    let inner = other.scope();
    assert_eq!(uniqueness(), other.mark());
    drop(outer);
    assert_eq!(uniqueness(), other.mark());
    let again = one.scope();
    assert_eq!(uniqueness(), one.mark());
    drop(inner);
    assert_eq!(uniqueness(), one.mark());
    drop(again);
    assert_eq!(uniqueness(), outside);
    let caught = std::panic::catch_unwind(|| one.run(|| std::panic::resume_unwind(Box::new(()))));
    assert!(caught.is_err());
    assert_eq!(uniqueness(), outside, "a panic ends it, too");
}

#[test]
fn other_threads_are_outside_unless_they_are_handed_the_world() {
    let outside = uniqueness();
    let restores = Restores::new();
    let _scope = restores.scope();
    let here = uniqueness();
    assert_eq!(thread::spawn(uniqueness).join().unwrap(), outside);
    let handed = thread::spawn(restores.in_scope(uniqueness));
    assert_eq!(handed.join().unwrap(), here);

    let (ask, asked) = mpsc::channel::<()>();
    let (answer, answered) = mpsc::channel();
    let worker = thread::spawn(restores.in_scope(move || {
        while asked.recv().is_ok() {
            answer.send(uniqueness()).unwrap();
        }
    }));
    for _ in 0..100 {
        restores.restore();
        ask.send(()).unwrap();
        assert_eq!(answered.recv().unwrap(), uniqueness());
    }
    drop(ask);
    worker.join().unwrap();
}

/// As tests that the harness runs at once: each has its own world, and a static in common.
#[test]
fn parallel_tests_do_not_see_each_other() {
    static BUILT: AtomicU32 = AtomicU32::new(0);
    static SHARED: LazyLock<SharedGuarded<u32>> =
        LazyLock::new(|| SharedGuarded::unwiped(|_| Ok(BUILT.fetch_add(1, SeqCst))));

    let together = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|number| {
            let together = Arc::clone(&together);
            thread::spawn(move || {
                let restores = Restores::new();
                let _scope = restores.scope();
                let mut own = counting(ProcessWide);
                let mut expected = *own.get().unwrap();
                together.wait();
                for round in 0..500 {
                    let before = uniqueness();
                    SHARED.with(|_| ()).unwrap();
                    assert_eq!(uniqueness(), before);
                    assert_eq!(*own.get().unwrap(), expected, "another one's change");
                    match (round + number) % 3 {
                        0 => restores.restore(),
                        1 => restores.fork(),
                        _ => assume_restored(),
                    }
                    expected += 1;
                    assert_ne!(uniqueness(), before);
                    assert_eq!(*own.get().unwrap(), expected);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

/// How often the kernel is asked shows in nothing that a caller sees. So this looks at what must
/// not come again: two generators of one state would draw the same after as many draws.
#[test]
fn numbers_are_of_a_new_seed_after_each_restore() {
    let restores = Restores::new();
    let _scope = restores.scope();
    let mut drawn = std::collections::BTreeSet::new();
    for _ in 0..100 {
        for _ in 0..10 {
            assert!(drawn.insert(sysgenid::rng().next_u64()));
        }
        restores.restore();
    }
}

#[test]
fn a_generation_may_be_any_and_come_again() {
    let restores = Restores::new();
    let mut guarded = counting(restores.clone());
    for (number, expected) in [7, 0, u32::MAX, 7, 0].into_iter().zip(1..) {
        restores.restore_to(number);
        let number = Generation::from(number);
        assert_eq!(restores.generation(), number);
        assert_eq!(restores.run(generation), number);
        assert_eq!(restores.run(uniqueness).generation(), number);
        assert_eq!(*guarded.get().unwrap(), expected);
    }
}

#[test]
fn a_change_comes_at_the_look_that_the_test_chose() {
    // A guard that builds looks twice before it has a value, once after the build, and a use of it
    // looks once more.
    let looks_of_a_use = |change_at: u32| {
        let restores = Restores::new();
        let looks = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&looks);
        restores.before_looks(move |restores, _| {
            if count.fetch_add(1, SeqCst) == change_at {
                restores.restore();
                // Of its own looks it is not told.
                let _ = (restores.mark(), restores.run(uniqueness));
            }
        });
        let mut guarded = counting(restores.clone());
        let built = guarded.with(|value| *value).unwrap();
        (built, looks.load(SeqCst))
    };
    let (built, undisturbed) = looks_of_a_use(u32::MAX);
    assert_eq!(built, 1);
    assert!(undisturbed >= 3, "{undisturbed}");
    let rebuilt = (0..undisturbed).filter(|look| looks_of_a_use(*look).0 == 2);
    assert!(rebuilt.count() >= 2, "after the build, and after the use");
}

#[test]
fn a_glance_that_is_blurred_tells_nothing_once() {
    let restores = Restores::new();
    let mut guarded = counting(restores.clone());
    let mut for_restores = counting(RestoreOnly(restores.clone()));
    guarded.get().unwrap();
    for_restores.get().unwrap();
    restores.blur();
    assert_ne!(restores.glance(), restores.mark());
    assert_eq!(restores.glance(), restores.mark());
    restores.blur();
    let blurred = RestoreOnly(&restores).glance();
    assert_ne!(blurred, RestoreOnly(&restores).mark());
    // Who asks further finds that nothing has changed.
    restores.blur();
    assert_eq!(*guarded.get().unwrap(), 1);
    restores.blur();
    assert_eq!(*for_restores.get().unwrap(), 1);
    restores.blur();
    let mark = restores.mark();
    assert_eq!(restores.run(uniqueness), mark);
}

#[test]
fn looks_are_told_apart() {
    let restores = Restores::new();
    let (tell, told) = mpsc::channel();
    restores.before_looks(move |_, look| tell.send(look).unwrap());
    let _ = (restores.glance(), restores.mark());
    assert_eq!(
        told.try_iter().collect::<Vec<_>>(),
        [Look::Glance, Look::Mark]
    );
    restores.before_looks(|_, _| {});
    let _ = restores.glance();
    assert_eq!(told.try_iter().count(), 0, "it was replaced");
}

#[test]
fn without_a_source_no_restore_is_seen_until_one_appears() {
    let restores = Restores::without_source();
    let _scope = restores.scope();
    assert!(!ProcessWide.shows_restores());
    assert!(ProcessWide.verify().unwrap_err().is_absent());
    assert!(ProcessWide.refresh().unwrap_err().is_absent());
    let mut guarded = counting(ProcessWide);
    assert_eq!(*guarded.get().unwrap(), 1);
    restores.restore();
    assert_eq!((*guarded.get().unwrap(), generation().get()), (1, 0));
    restores.fork();
    assert_eq!(*guarded.get().unwrap(), 2);
    assert_ne!(sysgenid::rng().next_u64(), sysgenid::rng().next_u64());
    restores.appear();
    assert_eq!(*guarded.get().unwrap(), 3, "it counts as a change");
    ProcessWide.verify().unwrap();
    restores.appear();
    assert_eq!(*guarded.get().unwrap(), 3);
    restores.restore();
    assert_eq!(*guarded.get().unwrap(), 4);
}

#[test]
fn a_future_is_in_its_world_on_every_thread_and_when_it_is_dropped() {
    struct TellAtDrop(mpsc::Sender<Uniqueness>);

    impl Drop for TellAtDrop {
        fn drop(&mut self) {
            self.0.send(uniqueness()).unwrap();
        }
    }

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let outside = uniqueness();
    let restores = Restores::new();
    let here = restores.mark();
    let (tell, told) = mpsc::channel();
    let at_drop = TellAtDrop(tell.clone());
    let task = runtime.spawn(restores.around(async move {
        for _ in 0..100 {
            tell.send(uniqueness()).unwrap();
            tokio::task::yield_now().await;
        }
        let _at_drop = at_drop;
        std::future::pending::<()>().await;
    }));
    for _ in 0..100 {
        assert_eq!(told.recv().unwrap(), here);
    }
    let other = runtime.spawn(async { uniqueness() });
    assert_eq!(runtime.block_on(other).unwrap(), outside);
    task.abort();
    assert_eq!(told.recv().unwrap(), here);
}

/// The destructors of a thread that left its scope behind.
#[test]
fn the_end_of_a_thread_is_outside_and_a_change() {
    type Build = Box<dyn FnMut(Generation) -> Result<u32, BuildError>>;
    struct AtEnd(Guarded<u32, ProcessWide, Build>, mpsc::Sender<u32>);

    impl Drop for AtEnd {
        fn drop(&mut self) {
            self.1.send(*self.0.get().unwrap()).unwrap();
        }
    }

    thread_local! {
        static AT_END: RefCell<Option<AtEnd>> = const { RefCell::new(None) };
    }

    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        // Registered first, so it is dropped last.
        AT_END.with(|_| ());
        let mut built = 0;
        let build: Build = Box::new(move |_| {
            built += 1;
            Ok(built)
        });
        let mut guarded = Guarded::unwiped(build);
        std::mem::forget(Restores::new().scope());
        assert_eq!(*guarded.get().unwrap(), 1);
        AT_END.set(Some(AtEnd(guarded, tell)));
    })
    .join()
    .unwrap();
    assert_eq!(told.recv().unwrap(), 2);
}
