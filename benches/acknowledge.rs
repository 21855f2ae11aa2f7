// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Acknowledging on the broker beside a write and a read of an eventfd, which is the least that
//! two processes can say to each other; and beside the reading of a packet, which is the least that a
//! client of the broker can do.
//!
//! What a client pays is asked for, each time for a change that it has been told of, while nobody
//! waits for the others.
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot run says why and ends"
)]

use std::process::ExitCode;
use std::thread;

use criterion::{BatchSize, Criterion, Throughput};
use rustix::event::{EventfdFlags, eventfd};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};
use sysgenid::{Orchestrator, Watcher};
use sysgenid_benches::{Bound, Bounds, send_notice, timed};
use sysgenid_sys::wire::Notice;

/// Most of it is to read the notice: a packet of a unix socket, which alone takes twice as long as both
/// calls on the eventfd. Nothing cheaper is known that a client cannot block the broker with.
const TO_EVENTFD: Bound = Bound::AtMost(4.0);
/// What we add to that.
const TO_PACKET: Bound = Bound::AtMost(1.7);

/// Watchers that acknowledge one change, each once.
const BATCH: usize = 100;

fn main() -> ExitCode {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let _broker = sysgenid_broker::spawn(folder.path()).expect("a broker");
    let watchers: Vec<_> = (0..BATCH)
        .map(|_| Watcher::open_at(folder.path()).expect("a watcher"))
        .collect();
    let orchestrator = Orchestrator::open_at(folder.path()).expect("an orchestrator");
    let change = || {
        orchestrator.trigger().expect("a change");
    };
    let acknowledge = || {
        for watcher in &watchers {
            watcher
                .acknowledge(watcher.generation())
                .expect("the current generation");
        }
    };
    let event = eventfd(0, EventfdFlags::NONBLOCK).expect("an eventfd");
    let signal = || {
        for _ in 0..BATCH {
            rustix::io::write(&event, &1_u64.to_ne_bytes()).expect("a write");
            rustix::io::read(&event, &mut [0_u8; 8]).expect("a read");
        }
    };
    // One pair for each watcher: reading from one socket again and again would find it in the caches.
    let pairs: Vec<_> = (0..BATCH)
        .map(|_| {
            let kind = (AddressFamily::UNIX, SocketType::SEQPACKET);
            socketpair(kind.0, kind.1, SocketFlags::CLOEXEC, None).expect("a pair of sockets")
        })
        .collect();
    // Another thread, as the broker is one: what it leaves in its processor's caches is fetched from there.
    let send_notices = || {
        let send_all = || pairs.iter().for_each(|(theirs, _)| send_notice(theirs));
        thread::scope(|scope| drop(scope.spawn(send_all)));
    };
    let read_notices = || {
        for (_, ours) in &pairs {
            recv(ours, &mut [0_u8; Notice::LEN], RecvFlags::DONTWAIT).expect("a packet");
        }
    };

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("acknowledge");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("eventfd write and read", |bencher| bencher.iter(signal));
    group.bench_function("packet read", |bencher| {
        bencher.iter_batched(&send_notices, |()| read_notices(), BatchSize::PerIteration);
    });
    group.bench_function("Watcher::acknowledge on the broker", |bencher| {
        bencher.iter_batched(&change, |()| acknowledge(), BatchSize::PerIteration);
    });
    group.finish();
    criterion.final_summary();

    let mut bounds = Bounds::new();
    bounds.ratio(
        "acknowledge to eventfd write and read",
        TO_EVENTFD,
        change,
        acknowledge,
        signal,
    );
    bounds.ratio_of(
        "acknowledge to reading a packet",
        TO_PACKET,
        || {
            change();
            timed(acknowledge)
        },
        || {
            send_notices();
            timed(read_notices)
        },
    );
    bounds.verdict()
}
