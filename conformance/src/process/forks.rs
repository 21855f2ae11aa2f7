// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `fork`, and what is in the middle of its work then.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;

use sysgenid::{
    BuildError, Guarded, ProcessWide, RestoreOnly, SharedGuarded, Uniqueness, Witness, uniqueness,
};
use sysgenid_sys::internal::fork;

use super::Subject;
use crate::background::Background;
use crate::cases;
use crate::child::{Child, Role};
use crate::forked::Forked;

cases! { Subject;
    uniqueness_stays_until_something_happens,
    uniqueness_changes_with_a_restore,
    uniqueness_changes_in_a_forked_child,
    uniqueness_of_the_parent_is_left_by_a_fork,
    uniqueness_changes_in_each_child_of_a_child,
    uniqueness_is_the_same_for_all_threads_of_a_child,
    restore_is_seen_by_parent_and_child,
    guarded_value_is_rebuilt_in_a_forked_child,
    guarded_value_that_is_meant_to_be_shared_is_not_rebuilt,
    probe_as_a_witness_sees_a_fork,
    child_forked_during_a_rebuild_of_another_thread_is_not_held_up,
    child_forked_by_a_rebuild_throws_away_what_it_built,
    child_forked_during_the_set_up_sets_itself_up,
    number_of_the_process_changes_with_forks_alone,
    all_that_is_guarded_is_old_once_a_restore_is_assumed,
}

fn uniqueness_stays_until_something_happens(_: &Subject) {
    let before = uniqueness();
    for _ in 0..3 {
        assert_eq!(uniqueness(), before);
        assert_eq!(ProcessWide.mark(), before);
    }
    let elsewhere = thread::spawn(uniqueness).join();
    assert_eq!(
        elsewhere.expect("it returns"),
        before,
        "a thread is no copy"
    );
}

fn uniqueness_changes_with_a_restore(subject: &Subject) {
    let before = uniqueness();
    subject.restore();
    assert_ne!(ProcessWide.glance(), before);
    assert_ne!(uniqueness(), before);
    assert_ne!(uniqueness().generation(), before.generation());
}

fn uniqueness_changes_in_a_forked_child(_: &Subject) {
    let parent = uniqueness();
    let child = Forked::start(|_| expect_new(parent));
    child.finish();
}

/// Never the parent's, not even in the first hurried look; and then always the same.
pub(super) fn expect_new(parent: Uniqueness) {
    assert_ne!(ProcessWide.glance(), parent, "a look in a hurry");
    let own = uniqueness();
    assert_ne!(own, parent);
    assert_eq!(own.generation(), parent.generation(), "it is no restore");
    assert_eq!(uniqueness(), own);
    assert_eq!(ProcessWide.mark(), own);
}

fn uniqueness_of_the_parent_is_left_by_a_fork(_: &Subject) {
    let parent = uniqueness();
    for _ in 0..3 {
        Forked::start(|_| expect_new(parent)).finish();
        assert_eq!(uniqueness(), parent);
    }
}

fn uniqueness_changes_in_each_child_of_a_child(_: &Subject) {
    let parent = uniqueness();
    let child = Forked::start(|_| {
        expect_new(parent);
        let own = uniqueness();
        let grandchild = Forked::start(|_| {
            expect_new(own);
            expect_new(parent);
        });
        grandchild.finish();
        assert_eq!(uniqueness(), own);
    });
    child.finish();
    // One that never looked between the two.
    let child = Forked::start(|_| Forked::start(|_| expect_new(parent)).finish());
    child.finish();
}

fn uniqueness_is_the_same_for_all_threads_of_a_child(_: &Subject) {
    let parent = uniqueness();
    for _ in 0..20 {
        let child = Forked::start(|_| {
            let threads: Vec<_> = (0..4).map(|_| thread::spawn(uniqueness)).collect();
            let own = uniqueness();
            assert_ne!(own, parent);
            for thread in threads {
                assert_eq!(thread.join().expect("it returns"), own);
            }
        });
        child.finish();
    }
}

/// The mapping is inherited.
fn restore_is_seen_by_parent_and_child(subject: &Subject) {
    let parent = uniqueness();
    let child = Forked::start(|steps| {
        let own = uniqueness();
        steps.step();
        assert_ne!(uniqueness(), own);
        assert_ne!(uniqueness().generation(), own.generation());
    });
    child.arrives();
    subject.restore();
    child.go_on();
    child.finish();
    assert_ne!(uniqueness(), parent);
}

fn guarded_value_is_rebuilt_in_a_forked_child(_: &Subject) {
    let mut built = 0;
    let mut guarded = Guarded::unwiped(move |_| {
        built += 1;
        Ok(built)
    });
    assert_eq!(*guarded.get().expect("it is built"), 1);
    let child = Forked::start(|_| {
        assert_eq!(*guarded.get().expect("it is rebuilt"), 2);
        assert_eq!(*guarded.get().expect("it is there"), 2);
    });
    child.finish();
    assert_eq!(*guarded.get().expect("it is there"), 1);
}

fn guarded_value_that_is_meant_to_be_shared_is_not_rebuilt(subject: &Subject) {
    let mut built = 0;
    let mut guarded = Guarded::unwiped_with_witness(RestoreOnly(ProcessWide), move |_| {
        built += 1;
        Ok(built)
    });
    assert_eq!(*guarded.get().expect("it is built"), 1);
    let child = Forked::start(|_| {
        assert_eq!(*guarded.get().expect("it is the parent's"), 1);
        subject.restore();
        assert_eq!(*guarded.get().expect("it is rebuilt"), 2);
    });
    child.finish();
}

fn probe_as_a_witness_sees_a_fork(subject: &Subject) {
    let probe = sysgenid::Probe::open_at(&subject.page).expect("it can be opened");
    let parent = probe.mark();
    assert_eq!(probe.mark(), parent);
    let child = Forked::start(|_| {
        assert_ne!(probe.glance(), parent);
        assert_ne!(probe.mark(), parent);
        assert_eq!(probe.mark(), probe.mark());
    });
    child.finish();
}

/// The lock that is held during a rebuild is left behind: its holder is not in the child.
fn child_forked_during_a_rebuild_of_another_thread_is_not_held_up(_: &Subject) {
    static MAY_END: AtomicBool = AtomicBool::new(false);
    MAY_END.store(false, Ordering::SeqCst);
    let (begun, has_begun) = mpsc::channel();
    let first = std::process::id();
    let guarded = std::sync::Arc::new(SharedGuarded::unwiped(move |_| {
        // In the child nobody has to wait, and the channel may be locked.
        if std::process::id() == first {
            let _ = begun.send(());
            while !MAY_END.load(Ordering::SeqCst) {
                thread::yield_now();
            }
        }
        Ok(std::process::id())
    }));
    let shared = std::sync::Arc::clone(&guarded);
    let rebuilding = Background::start_without_waiting(move || {
        shared.with(|value| *value).expect("it is built")
    });
    has_begun.recv().expect("it begins");
    let child = Forked::start(|_| {
        let value = guarded.with(|value| *value).expect("it is built");
        assert_eq!(value, std::process::id());
    });
    child.finish();
    MAY_END.store(true, Ordering::SeqCst);
    let value = rebuilding.finish("the rebuild ends");
    assert_eq!(value, first);
}

/// The thread that rebuilds is the one that forks: what comes out of it in the child was begun in the
/// parent.
fn child_forked_by_a_rebuild_throws_away_what_it_built(_: &Subject) {
    static BUILT: AtomicU32 = AtomicU32::new(0);
    BUILT.store(0, Ordering::SeqCst);
    let (hear, said) = rustix::pipe::pipe().expect("a pipe can be made");
    let first = std::process::id();
    let guarded = SharedGuarded::unwiped(|_| {
        let own = BUILT.fetch_add(1, Ordering::SeqCst);
        if own == 0 {
            // SAFETY: The child allocates, which the C library sees to, and ends below.
            unsafe { libc::fork() };
        }
        Ok(own)
    });
    let value = guarded.with(|value| *value).expect("it is built");
    if std::process::id() != first {
        let _ = rustix::io::write(&said, &[u8::from(value == 1)]);
        // SAFETY: It ends the child and runs nothing of the parent's.
        unsafe { libc::_exit(0) };
    }
    drop(said);
    assert_eq!(value, 0, "nothing has happened to the parent");
    let mut answer = [0];
    assert_eq!(rustix::io::read(&hear, &mut answer), Ok(1));
    assert_eq!(answer, [1], "the child has built anew");
}

/// Again and again in new processes, which set themselves up once.
fn child_forked_during_the_set_up_sets_itself_up(subject: &Subject) {
    for _ in 0..40 {
        let child = Child::start_on(Role::ForkDuringSetUp, &subject.page);
        assert_eq!(child.said(), "ok");
    }
}

fn number_of_the_process_changes_with_forks_alone(_: &Subject) {
    let parent = fork::process();
    fork::advance();
    assert_eq!(fork::process(), parent);
    let child = Forked::start(|_| {
        let own = fork::process();
        assert_ne!(own, parent);
        fork::advance();
        assert_eq!(fork::process(), own);
        Forked::start(|_| assert!(![own, parent].contains(&fork::process()))).finish();
    });
    child.finish();
    assert_eq!(fork::process(), parent);
}

/// By a process that learned of it in another way.
fn all_that_is_guarded_is_old_once_a_restore_is_assumed(subject: &Subject) {
    let probe = sysgenid::Probe::open_at(&subject.page).expect("it can be opened");
    let mut by_probe = Guarded::unwiped_with_witness(&probe, counted());
    let mut owned = Guarded::unwiped(counted());
    let shared = SharedGuarded::unwiped(counted());
    let before = (uniqueness(), probe.mark(), fork::process());
    for built in 1..=3 {
        assert_eq!(*by_probe.get().expect("it is built"), built);
        assert_eq!(*owned.get().expect("it is built"), built);
        let elsewhere = thread::scope(|scope| {
            let with = || shared.with(|value| *value).expect("it is built");
            scope.spawn(with).join().expect("it returns")
        });
        assert_eq!(elsewhere, built);
        sysgenid::assume_restored();
    }
    assert_ne!(uniqueness(), before.0);
    assert_ne!(probe.mark(), before.1);
    assert_eq!(
        fork::process(),
        before.2,
        "a watcher is this process's still"
    );
    assert_eq!(uniqueness().generation(), before.0.generation());
}

/// A build that tells how often it was run.
fn counted() -> impl Fn(sysgenid::Generation) -> Result<u32, BuildError> + Send + Sync {
    let built = AtomicU32::new(0);
    move |_| Ok(built.fetch_add(1, Ordering::Relaxed) + 1)
}
