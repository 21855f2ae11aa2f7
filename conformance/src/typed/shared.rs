// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A cached secret that threads share, and one that each thread has for itself.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;

use sysgenid::{BuildError, Generation, Probe, SharedGuarded, ThreadGuarded, Zeroize};

use super::Subject;
use crate::cases;

cases! { Subject;
    shared_value_is_built_once_for_all_threads,
    shared_value_is_built_once_for_a_change,
    shared_result_is_not_of_a_generation_that_changed_meanwhile,
    shared_value_is_wiped_by_its_last_user,
    shared_transaction_is_committed_once_or_not_at_all,
    failed_rebuild_leaves_no_shared_value,
    value_of_a_thread_is_built_again_after_a_change,
}

const THREADS: usize = 4;

/// The generation that it was built in, until it is wiped.
struct Value(Option<Generation>, Arc<AtomicU32>);

impl Zeroize for Value {
    fn zeroize(&mut self) {
        self.0 = None;
        self.1.fetch_add(1, Relaxed);
    }
}

type Build = Box<dyn Fn(Generation) -> Result<Value, BuildError> + Send + Sync>;

/// Builds what it is told to, and counts.
struct Secret {
    guarded: SharedGuarded<Value, Probe, Build>,
    builds: Arc<AtomicU32>,
    wiped: Arc<AtomicU32>,
}

impl Secret {
    /// `disturb` is called in each build, with the number of the build.
    fn new(
        subject: &Subject,
        disturb: impl Fn(u32) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let builds = Arc::new(AtomicU32::new(0));
        let wiped = Arc::new(AtomicU32::new(0));
        let (counter, fate) = (Arc::clone(&builds), Arc::clone(&wiped));
        let build: Build = Box::new(move |generation| {
            disturb(counter.fetch_add(1, Relaxed) + 1)?;
            Ok(Value(Some(generation), Arc::clone(&fate)))
        });
        let guarded = SharedGuarded::with_witness(subject.probe(), build);
        Self {
            guarded,
            builds,
            wiped,
        }
    }

    fn use_it(&self) -> Option<Generation> {
        self.guarded.with(|value| value.0).unwrap()
    }

    /// What several threads use, each in both ways.
    fn use_in_threads(&self) -> Vec<Option<Generation>> {
        thread::scope(|scope| {
            let users = [(); THREADS]
                .map(|()| scope.spawn(|| [self.use_it(), self.guarded.reader().get().unwrap().0]));
            users
                .into_iter()
                .flat_map(|user| user.join().unwrap())
                .collect()
        })
    }

    fn builds(&self) -> u32 {
        self.builds.load(Relaxed)
    }
}

/// When it is first used.
fn shared_value_is_built_once_for_all_threads(subject: &Subject) {
    let secret = Secret::new(subject, |_| Ok(()));
    assert_eq!(secret.builds(), 0);
    let generation = subject.probe().generation();
    for used in secret.use_in_threads() {
        assert_eq!(used, Some(generation));
    }
    assert_eq!(secret.builds(), 1);
}

/// However many threads see it.
fn shared_value_is_built_once_for_a_change(subject: &Subject) {
    let secret = Secret::new(subject, |_| Ok(()));
    secret.use_it();
    for builds in 2..5 {
        let generation = subject.change();
        for used in secret.use_in_threads() {
            assert_eq!(used, Some(generation));
        }
        assert_eq!(secret.builds(), builds);
    }
}

/// A result that was computed across a change is computed again, from a new value.
fn shared_result_is_not_of_a_generation_that_changed_meanwhile(subject: &Subject) {
    let secret = Secret::new(subject, |_| Ok(()));
    let mut uses = 0;
    let result = secret.guarded.with(|value| {
        uses += 1;
        if uses < 3 {
            subject.change();
        }
        value.0
    });
    assert_eq!(result.unwrap(), Some(subject.probe().generation()));
    assert_eq!((uses, secret.builds()), (3, 3));
}

/// Who is in the middle of it finishes with what it has.
fn shared_value_is_wiped_by_its_last_user(subject: &Subject) {
    let secret = Secret::new(subject, |_| Ok(()));
    let old = subject.probe().generation();
    let mut uses = 0;
    let result = secret.guarded.with(|value| {
        uses += 1;
        if uses == 1 {
            let new = subject.change();
            assert_eq!(secret.use_it(), Some(new));
            assert_eq!(secret.wiped.load(Relaxed), 0);
            assert_eq!(value.0, Some(old));
        }
        value.0
    });
    assert_eq!(result.unwrap(), Some(subject.probe().generation()));
    assert_eq!(secret.wiped.load(Relaxed), 1);
}

/// Once, with what no change overtook.
fn shared_transaction_is_committed_once_or_not_at_all(subject: &Subject) {
    let secret = Secret::new(subject, |_| Ok(()));
    let (mut preparations, mut committed) = (0, Vec::new());
    let prepare = |value: &Value| {
        preparations += 1;
        if preparations < 3 {
            subject.change();
        }
        value.0
    };
    let done = secret
        .guarded
        .transaction(prepare, |used| committed.push(used));
    done.unwrap();
    assert_eq!(committed, [Some(subject.probe().generation())]);

    let overtaken = |_: &Value| subject.change();
    let error = secret
        .guarded
        .transaction(overtaken, |used| panic!("it committed {used}"))
        .unwrap_err();
    assert!(error.is_unsettled(), "{error}");
}

/// The old one must not be had instead.
fn failed_rebuild_leaves_no_shared_value(subject: &Subject) {
    let secret = Secret::new(subject, |build| match build {
        2 | 3 => Err(io::Error::other("no entropy")),
        _ => Ok(()),
    });
    secret.use_it();
    let generation = subject.change();
    for _ in 0..2 {
        let error = secret
            .guarded
            .with(|value| panic!("it got {:?}", value.0))
            .unwrap_err();
        assert!(error.is_rebuild(), "{error}");
    }
    assert_eq!(secret.wiped.load(Relaxed), 1);
    assert_eq!(secret.use_it(), Some(generation));
    assert_eq!(secret.builds(), 4);
}

/// And it cannot be used while it is in use.
fn value_of_a_thread_is_built_again_after_a_change(subject: &Subject) {
    let guarded = ThreadGuarded::unwiped_with_witness(subject.probe(), Ok);
    let old = subject.probe().generation();
    assert_eq!(guarded.with(|value| *value).unwrap(), old);
    let new = subject.change();
    assert_eq!(guarded.with(|value| *value).unwrap(), new);
    let within = guarded.with(|_| guarded.with(|value| *value)).unwrap();
    assert!(within.unwrap_err().is_reentrant());
}
