// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::env;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sysgenid::Background;

use crate::scene::{A_MOMENT, LONG, Scene, Stopping, eventually};

/// The descriptors with which threads wait. The sockets are those of a broker as well, which is on a thread
/// of this process and closes them when it likes.
fn waiting() -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    let names = descriptors.filter_map(|it| std::fs::read_link(it.unwrap().path()).ok());
    let waits = ["anon_inode:[eventpoll]", "anon_inode:[eventfd]"];
    names
        .filter(|name| waits.iter().any(|it| name.as_os_str() == *it))
        .count()
}

#[test]
fn it_stops_at_once_and_keeps_nothing_open() {
    let scene = Scene::new();
    // What a first call of the crate opens for the whole process stays.
    assert!(scene.background().stop(LONG));
    let before = waiting();
    let background = scene.background();
    assert!(background.stop(LONG));
    assert!(
        background.stop(Duration::ZERO),
        "a second call does no harm"
    );
    assert!(!background.is_alive());
    assert_eq!(waiting(), before);
    eventually("the broker has noticed", || scene.watchers().0 == 0);
}

#[test]
fn it_goes_on_when_its_handle_is_dropped() {
    let scene = Scene::new();
    let seen = scene.note();
    drop(scene.background());
    let generation = scene.trigger();
    eventually("the change", || seen.all() == [generation]);
    drop(Stopping(scene.background()));
}

#[test]
fn it_waits_for_a_hook_until_the_deadline_and_does_not_acknowledge_afterwards() {
    let scene = Scene::new();
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let begun = Arc::new(AtomicBool::new(false));
    let mark = Arc::clone(&begun);
    scene.after_restore(move |_| {
        mark.store(true, Ordering::SeqCst);
        let _ = released.lock().unwrap().recv_timeout(LONG);
        Err::<(), _>("not rebuilt")
    });
    let background = scene.background();
    let generation = scene.trigger();
    eventually("the hook", || begun.load(Ordering::SeqCst));
    assert!(!background.stop(A_MOMENT), "it waits for the hook");
    assert!(background.is_alive());
    release.send(()).unwrap();
    assert!(background.stop(LONG));
    assert_ne!(background.generation(), Some(generation));
}

#[test]
fn a_hook_may_stop_it() {
    let scene = Scene::new();
    let handle: Arc<Mutex<Option<Background>>> = Arc::default();
    let outcome = Arc::new(Mutex::new(None));
    let (own, noted) = (Arc::clone(&handle), Arc::clone(&outcome));
    scene.after_restore(move |_| {
        let background = own.lock().unwrap().clone().unwrap();
        *noted.lock().unwrap() = Some(background.stop(LONG));
    });
    let background = scene.background();
    *handle.lock().unwrap() = Some(background.clone());
    scene.trigger();
    eventually("the end", || !background.is_alive());
    assert_eq!(*outcome.lock().unwrap(), Some(false), "it ran still");
}

#[test]
fn a_stop_ends_the_wait_for_a_source_that_is_not_there() {
    let scene = Scene::empty();
    let background = scene.background();
    assert!(background.stop(LONG));
}

/// Set in the process whose end is not held up.
const CHILD: &str = "SYSGENID_TEST_CHILD";

#[test]
fn it_never_holds_up_the_end_of_the_process() {
    const NAME: &str = "stopping::it_never_holds_up_the_end_of_the_process";
    if env::var_os(CHILD).is_some() {
        end_while_a_hook_hangs();
    }
    let began = Instant::now();
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(CHILD, "")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("a hook hangs"),
        "{child:?}"
    );
    assert!(began.elapsed() < LONG);
}

fn end_while_a_hook_hangs() -> ! {
    let scene = Scene::new();
    let begun = Arc::new(AtomicBool::new(false));
    let mark = Arc::clone(&begun);
    scene.after_restore(move |_| {
        mark.store(true, Ordering::SeqCst);
        std::thread::sleep(10 * LONG);
    });
    let _background = scene.background();
    scene.trigger();
    eventually("the hook", || begun.load(Ordering::SeqCst));
    println!("a hook hangs");
    std::process::exit(0);
}
