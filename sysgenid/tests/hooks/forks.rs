// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sysgenid::hooks;

use crate::scene::{LONG, Log, Scene, run};

/// Whether `work` is true in a forked child, which is killed if it hangs.
fn holds_in_child(work: impl FnOnce() -> bool) -> bool {
    // SAFETY: The child calls nothing but `work`, on its only thread, and ends without running
    // destructors or exit handlers. It allocates, which glibc and musl allow in a child.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // SAFETY: It takes numbers only.
        unsafe {
            libc::alarm(LONG.as_secs().try_into().unwrap_or(30));
            libc::_exit(i32::from(!work()));
        }
    }
    let mut status = 0;
    // SAFETY: The pointer is that of a local variable.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    status == 0
}

#[test]
fn a_child_has_its_parents_hooks() {
    let (scene, log) = (Scene::new(), Log::default());
    let own = log.clone();
    scene.keep(hooks::after_restore(move |_| own.note("ran")));
    assert!(holds_in_child(|| run().is_ok() && log.take() == ["ran"]));
    assert!(log.take().is_empty());
}

#[test]
fn a_child_never_waits_for_a_run_of_its_parents() {
    let scene = Scene::new();
    let (parent, begun) = (std::process::id(), AtomicBool::new(false));
    let begun = Arc::new(begun);
    let (release, released) = channel::<()>();
    let (mark, released) = (Arc::clone(&begun), Mutex::new(released));
    scene.keep(hooks::after_restore(move |_| {
        mark.store(true, Ordering::SeqCst);
        if std::process::id() == parent {
            let _ = released.lock().unwrap().recv_timeout(LONG);
        }
    }));
    thread::scope(|scope| {
        let running = scope.spawn(|| run().is_ok());
        while !begun.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        assert!(holds_in_child(|| run().is_ok_and(|ran| ran.count() == 1)));
        release.send(()).unwrap();
        assert!(running.join().unwrap());
    });
}

#[test]
fn a_child_calls_a_hook_that_hangs_in_its_parent() {
    let scene = Scene::new();
    let parent = std::process::id();
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let hook = hooks::options().deadline(Duration::from_millis(20));
    scene.keep(hook.after_restore(move |_| {
        if std::process::id() == parent {
            let _ = released.lock().unwrap().recv_timeout(LONG);
        }
    }));
    assert!(run().unwrap_err().failures()[0].is_timeout());
    // Its deadline may pass on a busy machine, but it is called.
    let is_called = || run().map_or_else(|errors| errors.failures()[0].is_timeout(), |_| true);
    assert!(holds_in_child(is_called));
    assert!(run().unwrap_err().failures()[0].is_still_running());
    release.send(()).unwrap();
}

#[test]
fn a_child_that_a_hook_forks_may_run_hooks_itself() {
    let scene = Scene::new();
    let parent = std::process::id();
    scene.keep(hooks::after_restore(move |_| {
        if std::process::id() != parent {
            return Ok(());
        }
        match holds_in_child(|| run().is_ok()) {
            true => Ok(()),
            false => Err("the child could not"),
        }
    }));
    run().unwrap();
}
