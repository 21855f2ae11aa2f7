// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Guarded values in a forked child, whose memory is a copy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;

use sysgenid::{
    Bound, BuildError, Gate, Generation, Guarded, Probe, RestoreOnly, SharedGuarded, ThreadGuarded,
    Witness,
};

use super::Subject;
use crate::cases;
use crate::forked::Forked;

cases! { Subject;
    guarded_value_is_built_again_in_a_forked_child,
    value_of_a_thread_is_built_again_in_a_forked_child,
    shared_value_is_built_again_in_a_forked_child,
    guarded_value_for_restores_only_is_had_in_common_with_a_forked_child,
    shared_value_is_built_in_a_forked_child_without_the_thread_that_was_building_it,
    shared_value_is_built_in_a_forked_child_without_the_thread_that_was_using_it,
    bound_value_is_refused_in_a_forked_child,
    gate_is_closed_in_a_forked_child_until_that_has_handled_it,
}

/// The value is the number of the build. In a child the count goes on from where it was.
fn counted() -> (Arc<AtomicU32>, impl Fn() -> Result<u32, BuildError>) {
    let builds = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&builds);
    (builds, move || Ok(counter.fetch_add(1, SeqCst) + 1))
}

/// In the child, and in the parent not.
fn expect_own_in_child(mut value: impl FnMut() -> u32) {
    assert_eq!(value(), 1);
    let child = Forked::start(|_| {
        assert_eq!(value(), 2, "the child has one of its own");
        assert_eq!(value(), 2, "once");
    });
    child.finish();
    assert_eq!(value(), 1, "nothing happened to the parent");
}

fn guarded_value_is_built_again_in_a_forked_child(subject: &Subject) {
    let (_, build) = counted();
    let mut guarded = Guarded::with_witness(subject.probe(), move |_| build());
    expect_own_in_child(|| *guarded.get().unwrap());
}

fn value_of_a_thread_is_built_again_in_a_forked_child(subject: &Subject) {
    let (_, build) = counted();
    let guarded = ThreadGuarded::with_witness(subject.probe(), move |_| build());
    expect_own_in_child(|| guarded.with(|value| *value).unwrap());
}

/// Also where a reader holds the parent's.
fn shared_value_is_built_again_in_a_forked_child(subject: &Subject) {
    let (_, build) = counted();
    let guarded = SharedGuarded::with_witness(subject.probe(), move |_| build());
    let mut reader = guarded.reader();
    expect_own_in_child(|| {
        let read = *reader.get().unwrap();
        assert_eq!(guarded.with(|value| *value).unwrap(), read);
        read
    });
}

fn guarded_value_for_restores_only_is_had_in_common_with_a_forked_child(subject: &Subject) {
    let (builds, build) = counted();
    let mut guarded = Guarded::with_witness(RestoreOnly(subject.probe()), move |_| build());
    assert_eq!(*guarded.get().unwrap(), 1);
    let child = Forked::start(|_| assert_eq!(*guarded.get().unwrap(), 1));
    child.finish();
    subject.change();
    assert_eq!(*guarded.get().unwrap(), 2, "a restore it sees");
    assert_eq!(builds.load(SeqCst), 2);
}

type Build = Box<dyn Fn(Generation) -> Result<u32, BuildError> + Send + Sync>;

fn bound_value_is_refused_in_a_forked_child(subject: &Subject) {
    let probe = subject.probe();
    let mut bound = Bound::with_witness(&probe, probe.mark(), [7_u32]);
    let child = Forked::start(|_| {
        assert!(bound.get().is_err());
        assert!(bound.with(|_| ()).is_err());
    });
    child.finish();
    assert_eq!(
        bound.with(|value| value[0]).unwrap(),
        7,
        "it is the parent's"
    );
    subject.change();
    assert!(bound.with(|_| ()).is_err());
}

fn gate_is_closed_in_a_forked_child_until_that_has_handled_it(subject: &Subject) {
    let gate = Gate::with_witness(subject.probe());
    let child = Forked::start(|_| {
        assert!(!gate.is_open());
        assert!(gate.open(gate.mark()));
        assert!(gate.is_open());
    });
    child.finish();
    assert!(gate.is_open(), "nothing happened to the parent");
    subject.change();
    assert!(!gate.is_open());
}

/// A shared value, and a thread of the parent that is held up where the test wants it.
struct Scene {
    guarded: SharedGuarded<u32, Probe, Build>,
    is_there: Arc<AtomicBool>,
    may_go: Arc<AtomicBool>,
}

impl Scene {
    /// Holds up the first build, if it is to.
    fn new(subject: &Subject, holds_up_build: bool) -> Self {
        let (_, build) = counted();
        let (is_there, may_go) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (there, go) = (Arc::clone(&is_there), Arc::clone(&may_go));
        let build: Build = Box::new(move |_| {
            let number = build()?;
            if number == 1 && holds_up_build {
                hold_up(&there, &go);
            }
            Ok(number)
        });
        let guarded = SharedGuarded::with_witness(subject.probe(), build);
        Self {
            guarded,
            is_there,
            may_go,
        }
    }

    /// Forks while a thread is held up in `use_it`, and expects the child to get a value.
    fn fork_meanwhile(&self, use_it: impl FnOnce() -> u32 + Send) {
        thread::scope(|scope| {
            let user = scope.spawn(use_it);
            while !self.is_there.load(SeqCst) {
                thread::yield_now();
            }
            let child = Forked::start(|_| {
                assert_eq!(self.guarded.with(|value| *value).unwrap(), 2);
                assert_eq!(*self.guarded.reader().get().unwrap(), 2);
            });
            // In the child, which is a copy, it may not.
            self.may_go.store(true, SeqCst);
            child.finish();
            assert_eq!(user.join().unwrap(), 1);
        });
        assert_eq!(self.guarded.with(|value| *value).unwrap(), 1);
    }
}

fn hold_up(is_there: &AtomicBool, may_go: &AtomicBool) {
    is_there.store(true, SeqCst);
    while !may_go.load(SeqCst) {
        thread::yield_now();
    }
}

/// It has the lock under which values are built, and there is no such thread in the child.
fn shared_value_is_built_in_a_forked_child_without_the_thread_that_was_building_it(
    subject: &Subject,
) {
    let scene = Scene::new(subject, true);
    scene.fork_meanwhile(|| scene.guarded.with(|value| *value).unwrap());
}

/// Its use never ends in the child.
fn shared_value_is_built_in_a_forked_child_without_the_thread_that_was_using_it(subject: &Subject) {
    let scene = Scene::new(subject, false);
    scene.fork_meanwhile(|| {
        let use_it = |value: &u32| {
            hold_up(&scene.is_there, &scene.may_go);
            *value
        };
        scene.guarded.with(use_it).unwrap()
    });
}
