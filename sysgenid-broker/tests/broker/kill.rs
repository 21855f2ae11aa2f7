// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A broker that is killed again and again.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use sysgenid_sys::page::CounterPage;
use sysgenid_sys::wire::{CONTROL_SOCKET, OPEN_RESUME, OPEN_TRACKED, Op, PAGE_FILE, WATCH_SOCKET};

use crate::child::Process;
use crate::client::{Client, PATIENCE, Page, readable};

const KILLS: u64 = 80;
const CHANGES_OF_SHORT_LIVES: usize = 10;
/// How long a watcher waits before it connects again.
const BACK_OFF: Duration = Duration::from_millis(5);
const WATCHERS: usize = 4;

#[test]
fn a_broker_that_is_killed_a_hundred_times_never_goes_back_and_no_watcher_misses_a_change() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let mut broker = Process::serve(dir);
    let page = File::open(dir.join(PAGE_FILE)).unwrap();
    let page = Page(CounterPage::map(&page).unwrap());
    let (killed, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    let acknowledged: [AtomicU32; WATCHERS] = Default::default();
    std::thread::scope(|scope| {
        let _ends = [SetWhenDropped(&killed), SetWhenDropped(&ended)];
        let observer = scope.spawn(|| observe(&page, &ended));
        let triggers = scope.spawn(|| trigger_until(dir, &killed));
        for acknowledged in &acknowledged {
            scope.spawn(|| watch_until(dir, &ended, acknowledged));
        }
        for round in 0..KILLS {
            // Another moment each time: from one that is starting to one that is busy.
            std::thread::sleep(Duration::from_micros(round * 7_919 % 12_000));
            broker.kill();
            broker = Process::serve(dir);
        }
        killed.store(true, Ordering::SeqCst);
        let triggers = triggers.join().expect("the triggers");

        // A change that the next change does not hide, and that comes before most watchers do.
        let mut last = 0;
        for _ in 0..CHANGES_OF_SHORT_LIVES {
            broker.kill();
            broker = Process::serve(dir);
            last = Client::control(dir).trigger(0).generation;
            broker.kill();
            broker = Process::serve(dir);
            let end = Instant::now() + PATIENCE;
            let has_last = |it: &AtomicU32| it.load(Ordering::SeqCst) == last;
            while !acknowledged.iter().all(has_last) {
                assert!(Instant::now() < end, "{acknowledged:?}, not {last}");
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(page.load(), last);
        }
        ended.store(true, Ordering::SeqCst);
        let observed = observer.join().expect("the observer");
        eprintln!("{triggers} triggers were answered, the generation is {last}, {observed} seen");
        assert!(last > triggers, "one that was answered is in the page");
    });
}

/// So that a failure ends the other threads as well.
struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Each generation that is seen in the page is the one that was seen before, or a later one.
fn observe(page: &Page, ended: &AtomicBool) -> u32 {
    let (mut last, mut changes) = (page.load(), 0);
    while !ended.load(Ordering::SeqCst) {
        let now = page.load();
        assert!(now >= last, "from {last} back to {now}");
        changes += u32::from(now != last);
        last = now;
        std::thread::yield_now();
    }
    changes
}

/// Returns how many were answered.
fn trigger_until(dir: &Path, killed: &AtomicBool) -> u32 {
    let (mut answered, mut last) = (0, 0);
    while !killed.load(Ordering::SeqCst) {
        let Ok(mut control) = Client::connect(dir, CONTROL_SOCKET) else {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        };
        while !killed.load(Ordering::SeqCst) && control.try_send(Op::Trigger, [0, 0]).is_ok() {
            let Ok((crate::client::Packet::Reply(reply), _)) = control.try_receive() else {
                break;
            };
            assert!(reply.generation > last, "{} after {last}", reply.generation);
            last = reply.generation;
            answered += 1;
        }
    }
    answered
}

/// Acknowledges whatever comes, over all brokers.
fn watch_until(dir: &Path, ended: &AtomicBool, acknowledged: &AtomicU32) {
    while !ended.load(Ordering::SeqCst) {
        let Ok(client) = Client::connect(dir, WATCH_SOCKET) else {
            std::thread::sleep(BACK_OFF);
            continue;
        };
        let last = acknowledged.load(Ordering::SeqCst);
        let Ok(Ok(mut watcher)) = client.try_into_watcher(OPEN_TRACKED | OPEN_RESUME, last) else {
            continue;
        };
        let hung_up = loop {
            if ended.load(Ordering::SeqCst) {
                return;
            }
            // Without a notice it looks at nothing, so that a change without a notice is missed.
            if !readable(&watcher.client.socket, Duration::from_millis(20)) {
                continue;
            }
            let generation = watcher.map.load();
            match watcher.try_acknowledge(generation) {
                Ok(Ok(())) => acknowledged.store(generation, Ordering::SeqCst),
                Ok(Err(_stale)) => {}
                Err(error) => break error,
            }
        };
        let is_end = matches!(hung_up, Errno::PIPE | Errno::CONNRESET);
        assert!(is_end, "{hung_up}");
    }
}
