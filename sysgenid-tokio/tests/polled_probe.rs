// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A probe and a timer, on tokio's paused clock: it stands still while something runs, and jumps to
//! the next look while everything waits.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sysgenid::{Generation, Probe};
use sysgenid_tokio::PolledProbe;
use tempfile::TempDir;
use tokio::time::{Instant, advance, sleep, timeout};
use tokio_stream::StreamExt;

const PERIOD: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_change_is_seen_by_the_next_look() {
    let page = Page::new();
    let mut probe = page.polled();
    for (number, delay) in [(1, 3), (2, 5), (7, 1), (u64::from(u32::MAX), 9)] {
        let (start, delay) = (Instant::now(), Duration::from_secs(delay));
        let store = async {
            sleep(delay).await;
            page.store(number);
        };
        let ((), seen) = tokio::join!(store, probe.changed());
        assert_eq!(seen, Generation::new(number));
        assert_eq!(start.elapsed(), PERIOD, "after {delay:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_is_told_of_once() {
    let page = Page::new();
    let mut probe = page.polled();
    page.store(1);
    assert_eq!(probe.changed().await, Generation::new(1));
    assert_eq!(probe.generation(), Generation::new(1));
    assert!(timeout(10 * PERIOD, probe.changed()).await.is_err());
    // Several are one, and one that is taken back is none.
    for number in [2, 3, 4] {
        page.store(number);
    }
    assert_eq!(probe.changed().await, Generation::new(4));
    page.store(5);
    page.store(4);
    assert!(timeout(10 * PERIOD, probe.changed()).await.is_err());
}

/// No burst of looks, and none soon after another.
#[tokio::test(start_paused = true)]
async fn looks_that_were_missed_are_not_made_up_for() {
    let page = Page::new();
    let mut probe = page.polled();
    // Nobody polls for a long time.
    advance(PERIOD * 7 + PERIOD / 2).await;
    // The look that is late is made at once, and the next one a period after it.
    let start = Instant::now();
    let store = async {
        sleep(SHORT).await;
        page.store(1);
    };
    let ((), seen) = tokio::join!(store, probe.changed());
    assert_eq!(seen, Generation::new(1));
    assert_eq!(start.elapsed(), PERIOD);
}

/// A loop with a deadline of its own, or a `select!`, drops it again and again.
#[tokio::test(start_paused = true)]
async fn a_future_that_is_dropped_loses_neither_a_change_nor_time() {
    let page = Page::new();
    let mut probe = page.polled();
    let start = Instant::now();
    let mut stored = false;
    loop {
        if let Ok(seen) = timeout(SHORT, probe.changed()).await {
            assert_eq!(seen, Generation::new(1));
            break;
        }
        if !stored && start.elapsed() >= 4 * SHORT {
            page.store(1);
            stored = true;
        }
        assert!(start.elapsed() <= PERIOD, "it is put off by each");
    }
}

#[tokio::test(start_paused = true)]
async fn the_stream_yields_each_change_it_sees() {
    let page = Page::new();
    let probe = page.polled();
    let host = tokio::spawn(async move {
        for number in [1, 2, 3] {
            sleep(2 * PERIOD).await;
            page.store(number);
        }
        page
    });
    let seen: Vec<_> = probe.take(3).map(Generation::get).collect().await;
    assert_eq!(seen, [1, 2, 3]);
    drop(host.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_period_that_makes_no_sense_is_no_panic() {
    let page = Page::new();
    let error = PolledProbe::every(Duration::ZERO, page.probe()).unwrap_err();
    assert!(error.is_unsupported(), "{error}");
    assert_eq!(error.path(), Some(page.path.as_path()));

    let mut probe = PolledProbe::every(Duration::MAX, page.probe()).unwrap();
    assert!(timeout(1000 * PERIOD, probe.changed()).await.is_err());
    // Whoever polls looks.
    page.store(1);
    assert_eq!(probe.changed().await, Generation::new(1));
    // Beyond the look that is due once in so long.
    advance(probe.period() + PERIOD).await;
    assert!(timeout(PERIOD, probe.changed()).await.is_err());
}

#[test]
fn without_a_runtime_is_an_error() {
    let page = Page::new();
    let error = PolledProbe::every(PERIOD, page.probe()).unwrap_err();
    assert!(error.is_runtime(), "{error}");
    assert_eq!(error.path(), Some(page.path.as_path()));
}

/// A change that is there already needs no timer.
#[test]
#[should_panic = "shutdown"]
fn outliving_the_runtime_is_a_panic_once_it_has_to_wait() {
    let page = Page::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let mut probe = runtime.block_on(async { page.polled() });
    drop(runtime);
    let mut context = Context::from_waker(Waker::noop());
    page.store(1);
    let change = probe.poll_changed(&mut context);
    if change != Poll::Ready(Generation::new(1)) {
        return;
    }
    let _ = probe.poll_changed(&mut context);
}

#[test]
fn everything_can_be_sent_and_moved() {
    fn check<T: Send + Sync + Unpin>() {}
    fn check_future<T: Future + Send + Sync>(_: T) {}
    check::<PolledProbe>();
    let _ = |probe: &'static mut PolledProbe| check_future(probe.changed());
}

/// A page file, whose counter the test is.
struct Page {
    file: File,
    path: PathBuf,
    _folder: TempDir,
}

impl Page {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page");
        let file = File::create_new(&path).unwrap();
        file.set_len(4096).unwrap();
        Self {
            file,
            path,
            _folder: folder,
        }
    }

    fn store(&self, number: u64) {
        self.file.write_all_at(&number.to_ne_bytes(), 0).unwrap();
    }

    fn probe(&self) -> Probe {
        Probe::open_at(&self.path).unwrap()
    }

    fn polled(&self) -> PolledProbe {
        PolledProbe::every(PERIOD, self.probe()).unwrap()
    }
}
