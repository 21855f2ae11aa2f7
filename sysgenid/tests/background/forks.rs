// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Real forks. The broker is on a thread of the parent.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::child::assert_in_child;
use crate::scene::{A_MOMENT, LONG, Scene, Stopping, eventually};

#[test]
fn a_child_has_none_and_nothing_to_stop() {
    let scene = Scene::new();
    let background = Stopping(scene.background());
    assert_in_child(|| {
        assert!(!background.0.is_alive() && !background.0.is_watching());
        assert!(background.0.stop(Duration::ZERO));
        std::mem::forget(background.0.clone());
    });
    assert!(background.0.is_alive());
    let generation = scene.trigger();
    eventually("the parent's goes on", || {
        background.0.generation() == Some(generation)
    });
}

#[test]
fn a_child_may_have_one_and_misses_nothing() {
    let scene = Scene::new();
    let seen = scene.note();
    let background = Stopping(scene.background());
    assert_in_child(|| {
        // A change that comes before the child has a watcher of its own.
        let first = scene.trigger();
        let own = scene.background();
        eventually("the first change", || seen.all() == [first]);
        let second = scene.trigger();
        eventually("the second change", || seen.all() == [first, second]);
        assert!(own.stop(LONG));
    });
    eventually("the parent's own", || !seen.all().is_empty());
    assert!(background.0.is_alive());
}

#[test]
fn a_child_handles_what_the_parent_was_handling_at_the_fork() {
    let scene = Scene::new();
    let parent = std::process::id();
    let (release, released) = channel::<()>();
    let (released, begun) = (Mutex::new(released), Arc::new(AtomicBool::new(false)));
    let mark = Arc::clone(&begun);
    scene.after_restore(move |_| {
        if std::process::id() == parent {
            mark.store(true, Ordering::SeqCst);
            let _ = released.lock().unwrap().recv_timeout(LONG);
        }
    });
    let background = Stopping(scene.background());
    let generation = scene.trigger();
    eventually("the parent's hook", || begun.load(Ordering::SeqCst));
    assert_in_child(|| {
        let own = scene.background();
        eventually("the child's run", || own.generation() == Some(generation));
        // The parent's is outdated still.
        eventually("two watchers", || scene.watchers() == (2, 1));
        assert!(own.stop(LONG));
    });
    release.send(()).unwrap();
    eventually("the parent's run", || {
        background.0.generation() == Some(generation)
    });
}

#[test]
fn a_child_runs_nothing_for_what_the_parent_had_handled() {
    let scene = Scene::new();
    let seen = scene.note();
    let background = Stopping(scene.background());
    let generation = scene.trigger();
    eventually("the change", || {
        background.0.generation() == Some(generation)
    });
    assert_in_child(|| {
        let own = scene.background();
        std::thread::sleep(A_MOMENT);
        assert_eq!(seen.all(), [generation]);
        assert!(own.stop(LONG));
    });
}

#[test]
fn a_parent_that_stops_is_not_waited_for_although_a_child_has_its_descriptors() {
    let scene = Scene::new();
    let hold = Arc::new(AtomicBool::new(true));
    let failing = Arc::clone(&hold);
    scene.after_restore(move |_| {
        if failing.load(Ordering::SeqCst) {
            Err("outdated")
        } else {
            Ok(())
        }
    });
    let background = scene.background();
    scene.trigger();
    eventually("the failure", || background.last_error().is_some());
    let _child = Sleeping::fork();
    assert!(background.stop(LONG));
    eventually("nothing is waited for", || scene.watchers() == (0, 0));
}

/// A child that sleeps with copies of all descriptors.
struct Sleeping(libc::pid_t);

impl Sleeping {
    fn fork() -> Self {
        // SAFETY: The child only sleeps, until it is killed.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            loop {
                // SAFETY: As above.
                unsafe { libc::pause() };
            }
        }
        Self(pid)
    }
}

impl Drop for Sleeping {
    fn drop(&mut self) {
        // SAFETY: It is this process's own child, which has not been waited for.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}
