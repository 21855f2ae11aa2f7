// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use sysgenid::ThreadGuarded;
use sysgenid::testing::Restores;

#[test]
fn each_thread_has_its_own() {
    static BUILDS: AtomicU32 = AtomicU32::new(0);
    thread_local! {
        static ID: ThreadGuarded<u32> = ThreadGuarded::new(|_| {
            Ok(BUILDS.fetch_add(1, SeqCst))
        });
    }
    let id = || ID.with(|id| id.with(|id| *id).unwrap());
    let mine = id();
    let other = std::thread::spawn(move || (id(), id())).join().unwrap();
    assert_eq!(id(), mine);
    assert_eq!(other.0, other.1);
    assert_ne!(other.0, mine);
}

#[test]
fn a_use_within_a_use_is_a_typed_error() {
    let guarded = ThreadGuarded::with_witness(Restores::new(), |_| Ok(1));
    let inner = guarded.with(|_| guarded.with(|value| *value)).unwrap();
    assert!(inner.unwrap_err().is_reentrant());
    assert_eq!(guarded.with(|value| *value).unwrap(), 1, "and it recovers");
}

#[test]
fn a_use_within_its_build_is_a_typed_error() {
    thread_local! {
        static GUARD: ThreadGuarded<u32> = ThreadGuarded::new(|_| {
            Ok(GUARD.with(|guard| guard.with(|value| *value))?)
        });
    }
    let error = GUARD.with(|guard| guard.with(|value| *value)).unwrap_err();
    assert!(error.is_rebuild());
    let source = std::error::Error::source(&error).unwrap();
    let source = source.downcast_ref::<sysgenid::Error>().unwrap();
    assert!(source.is_reentrant(), "{source}");
}

#[test]
fn a_commit_may_use_the_guard() {
    let world = Restores::new();
    let guarded = ThreadGuarded::with_witness(&world, |_| Ok(0));
    let mut runs = 0;
    let outcome = guarded.transaction(
        |value| {
            runs += 1;
            *value += 1;
            if runs == 1 {
                world.restore();
            }
            *value
        },
        |value| (value, guarded.with(|value| *value).unwrap()),
    );
    assert_eq!((outcome.unwrap(), runs), ((1, 1), 2));
}

#[test]
fn debug_works_during_a_use() {
    let guarded = ThreadGuarded::unwiped_with_witness(Restores::new(), |_| Ok("hunter2"));
    let shown = guarded.with(|_| format!("{guarded:?}")).unwrap();
    assert!(!shown.contains("hunter2"), "{shown}");
}
