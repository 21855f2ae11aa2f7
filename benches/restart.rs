// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How long after a broker was started anew a program that waits for changes is its watcher again, for
//! brokers that were away for different times. One program waits in a thread, another in tokio.
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot run says why and ends"
)]

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use sysgenid::{Changes, ChangesOptions, Deadline, Source};
use sysgenid_benches::{Bound, Bounds, Measured};
use tokio::runtime::Builder;

/// Of each restart, the slower program.
const BACK: Bound = Bound::AtMost(50.0);
const RESTARTS: u32 = 25;
/// Between two looks whether they are back.
const LOOK: Duration = Duration::from_micros(200);
/// Longer than one look at a page, so that pages do not count.
const PERIOD: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let mut bounds = Bounds::new();
    let restarts = if bounds.measured() { RESTARTS } else { 2 };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut broker = Some(sysgenid_broker::spawn(folder.path()).expect("a broker"));
    let source = Source::at(folder.path()).expect("a source");
    let options = Changes::options().on(source.clone()).look_every(PERIOD);
    wait_in_a_thread(&options);
    wait_in_tokio(&options);
    until_back(&source);

    let mut times = Vec::new();
    for restart in 0..restarts {
        drop(broker.take());
        // Up to two seconds, in no order.
        thread::sleep(Duration::from_millis(
            u64::from(restart * 37 % restarts) * 80,
        ));
        // It listens when this returns.
        broker = Some(sysgenid_broker::spawn(folder.path()).expect("a broker"));
        let listens = Instant::now();
        until_back(&source);
        times.push(listens.elapsed().as_secs_f64() * 1e3);
    }
    if bounds.measured() {
        let worst = times.iter().copied().fold(0.0, f64::max);
        let name = "a restarted broker listens to both programs are back";
        bounds.report(name, Measured::of(times), Bound::Unbounded, "ms");
        bounds.report(&format!("{name}, the slowest restart"), worst, BACK, "ms");
    }
    bounds.verdict()
}

fn until_back(source: &Source) {
    let tracked = || {
        let status = source.status(Deadline::NEVER).ok()?;
        status.watchers.map(|watchers| watchers.tracked)
    };
    while tracked() != Some(2) {
        thread::sleep(LOOK);
    }
}

/// Both as long as the bench runs.
fn wait_in_a_thread(options: &ChangesOptions) {
    let changes = options.open();
    thread::spawn(move || changes.for_each(drop));
}

fn wait_in_tokio(options: &ChangesOptions) {
    let mut changes = sysgenid_tokio::Changes::from(options.open());
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    thread::spawn(move || {
        runtime.block_on(async {
            while let Ok(change) = changes.next_change().await {
                drop(change);
            }
        });
    });
}
