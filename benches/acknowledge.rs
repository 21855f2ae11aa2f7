// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Acknowledging on the broker beside a write and a read of an eventfd, which is the least that
//! two processes can say to each other.
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot run says why and ends"
)]

use std::process::ExitCode;

use criterion::{BatchSize, Criterion, Throughput};
use rustix::event::{EventfdFlags, eventfd};
use sysgenid::Watcher;
use sysgenid_benches::Bounds;

const BOUND: f64 = 3.0;

/// Acknowledgements that fit the broker's queue: what a client pays is asked for, not how much the
/// broker takes in a second.
const BATCH: u32 = 100;

fn main() -> ExitCode {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let _broker = sysgenid_broker::spawn(folder.path()).expect("a broker");
    let watcher = Watcher::open_at(folder.path()).expect("a watcher");
    let generation = watcher.generation();
    let acknowledge =
        || (0..BATCH).for_each(|_| watcher.acknowledge(generation).expect("an empty queue"));
    // Answered after all that was sent before it, so the queue is empty then.
    let settle = || watcher.set_tracking(true).expect("an answer");
    let event = eventfd(0, EventfdFlags::NONBLOCK).expect("an eventfd");
    let signal = || {
        for _ in 0..BATCH {
            rustix::io::write(&event, &1_u64.to_ne_bytes()).expect("a write");
            rustix::io::read(&event, &mut [0_u8; 8]).expect("a read");
        }
    };

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("acknowledge");
    group.throughput(Throughput::Elements(u64::from(BATCH)));
    group.bench_function("eventfd write and read", |bencher| bencher.iter(signal));
    group.bench_function("Watcher::acknowledge on the broker", |bencher| {
        bencher.iter_batched(settle, |()| acknowledge(), BatchSize::PerIteration);
    });
    group.finish();
    criterion.final_summary();

    let mut bounds = Bounds::new();
    bounds.ratio(
        "acknowledge to eventfd write and read",
        BOUND,
        settle,
        acknowledge,
        signal,
    );
    bounds.verdict()
}
