// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A change that up to ten thousand async watchers acknowledge: from the request for it until the
//! orchestrator, who waits for all of them, is released.
//!
//! The broker is a process of its own, and so are those that watch: each has a runtime of one
//! thread, and a task for each watcher.
//!
//! Changes are rare, and in between others use the processors. So before each the caches are filled
//! with something else. Without that, when one change follows the other, those of the processor
//! hold everything that belongs to a thousand watchers, but not to ten thousand.
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot run says why and ends"
)]

use std::io::Error;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use sysgenid::{Orchestrator, Source};
use sysgenid_benches::process::{self, Process};
use sysgenid_benches::{Bound, Bounds, Measured, ROUNDS};
use sysgenid_tokio::Watcher;
use tokio::runtime::Builder;

/// Evenly spread on a logarithmic scale.
const POINTS: [u32; 5] = [100, 316, 1_000, 3_162, 10_000];
/// Microseconds for each watcher, where they take longest. Nearly all of it is the kernel's: three
/// quarters of the samples are in the system calls that send a packet to each connection and receive
/// it there, the wake-up included. A pipe for each watcher took half as long, and a client that held
/// one could hang the broker with it.
const EACH: Bound = Bound::AtMost(10.0);
/// For each where there are most, to each where they take least. If a watcher cost the more the
/// more others there are, it would be tens of times.
const GROWTH: Bound = Bound::AtMost(2.0);

/// More than what a processor has for itself alone.
const CACHE: usize = 32 << 20;

/// The role of those that watch.
const CLIENT: &str = "client";
/// What a watcher takes of its client's descriptors: the connection and the readiness. The broker has
/// the other end of the connection.
const DESCRIPTORS: u64 = 2;
/// What a client has open besides.
const OTHERS: u64 = 100;
/// What the orchestrator takes of the broker's room: its watcher, and its requests.
const ORCHESTRATOR: u64 = 2;

fn main() -> ExitCode {
    match process::role() {
        Some((role, folder)) if role == CLIENT => return watch(&folder),
        Some((_, folder)) => return process::serve(&folder),
        None => {}
    }
    let mut bounds = Bounds::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (_broker, capacity) = Process::broker(folder.path());
    let orchestrator = Orchestrator::open_at(folder.path()).expect("an orchestrator");
    let wanted = if bounds.measured() {
        &POINTS[..]
    } else {
        &[1, 10]
    };
    let room = u32::try_from(capacity.saturating_sub(ORCHESTRATOR)).unwrap_or(u32::MAX);
    let mut points: Vec<u32> = wanted.iter().map(|wanted| room.min(*wanted)).collect();
    points.dedup();
    let most = points.last().copied().unwrap_or_default();
    let mut clients = Clients::start(folder.path(), most);
    if points != wanted {
        let limit = process::raise_descriptor_limit();
        let short = format!(
            "{most} and not 10,000: the broker may open {limit} files here, and takes one for each"
        );
        bounds.fact("most watchers that are measured", &short);
    }

    let (mut rested, mut at_once) = (Vec::new(), Vec::new());
    let mut caches = Caches::new();
    for count in points {
        clients.become_so_many(count);
        // Once as an exercise.
        change(&orchestrator);
        if !bounds.measured() {
            continue;
        }
        let each = || change(&orchestrator).as_secs_f64() * 1e6 / f64::from(count);
        let rounds = (0..ROUNDS).map(|_| {
            // They have told, and go to sleep.
            thread::sleep(Duration::from_millis(2) + count * Duration::from_micros(4));
            caches.fill();
            each()
        });
        rested.push((count, Measured::of(rounds.collect())));
        at_once.push((count, Measured::of((0..ROUNDS).map(|_| each()).collect())));
        assert_eq!(waited_for(folder.path()), count, "all are there");
    }
    for (series, found, growth) in [
        ("after a rest", rested, GROWTH),
        ("one after the other", at_once, Bound::Unbounded),
    ] {
        for (count, each) in &found {
            bounds.point("many watchers", series, *count, *each, EACH, "µs");
        }
        let by_time = |a: &Measured, b: &Measured| a.median.total_cmp(&b.median);
        let mut found: Vec<_> = found.into_iter().map(|(_, each)| each).collect();
        if let Some(worst) = found.iter().copied().max_by(by_time) {
            let name = format!("a change that many async watchers acknowledge, for each, {series}");
            bounds.report(&name, worst, EACH, "µs");
        }
        let most = found.pop();
        if let (Some(most), Some(least)) = (most, found.into_iter().min_by(by_time)) {
            let name = "the same for each of the most, to each of the number where it is least";
            bounds.report(name, most.to(&least), growth, "times");
        }
    }
    bounds.verdict()
}

/// Memory with which to fill the caches of each processor.
struct Caches(Vec<Vec<u8>>);

impl Caches {
    fn new() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self(vec![vec![0; CACHE]; processors])
    }

    fn fill(&mut self) {
        thread::scope(|scope| {
            for memory in &mut self.0 {
                scope.spawn(|| {
                    for line in memory.chunks_mut(64) {
                        line.fill(line.first().map_or(0, |byte| byte.wrapping_add(1)));
                    }
                });
            }
        });
    }
}

/// From the request for a change until everybody has acknowledged it.
fn change(orchestrator: &Orchestrator) -> Duration {
    let start = Instant::now();
    orchestrator.trigger().expect("a change");
    orchestrator.acknowledge().expect("our own acknowledgement");
    orchestrator
        .wait_for_watchers(Duration::from_secs(60))
        .expect("the acknowledgements of the others");
    start.elapsed()
}

/// How many watchers the orchestrator waits for.
fn waited_for(folder: &Path) -> u32 {
    let source = Source::at(folder).expect("the broker");
    let status = source.status(Duration::from_secs(60));
    let watchers = status.expect("the broker's status").watchers;
    watchers.map_or(0, |watchers| watchers.tracked)
}

/// The processes that watch.
struct Clients(Vec<Process>);

impl Clients {
    /// As many as it takes for so many watchers, and two at least.
    fn start(folder: &Path, most: u32) -> Self {
        let room = process::raise_descriptor_limit().saturating_sub(OTHERS) / DESCRIPTORS;
        let processes = u64::from(most).div_ceil(room.max(1)).max(2);
        let start = |_| Process::start(CLIENT, folder);
        Self((0..processes).map(start).collect())
    }

    fn become_so_many(&mut self, count: u32) {
        let mut left = count;
        let mut clients = u32::try_from(self.0.len()).expect("a few");
        for client in &mut self.0 {
            let share = left / clients;
            client.tell(&share.to_string());
            left -= share;
            clients -= 1;
        }
        for client in &mut self.0 {
            let _ = client.hear();
        }
    }
}

/// Is one of those that watch: has as many watchers as each line of its input says.
fn watch(folder: &Path) -> ExitCode {
    process::raise_descriptor_limit();
    let runtime = Builder::new_current_thread().enable_io().build();
    let runtime = runtime.expect("a runtime");
    let handle = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    let _context = handle.enter();
    let mut watchers = 0;
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let wanted = line.parse().expect("a number of watchers");
        for _ in watchers..wanted {
            let watcher = sysgenid::Watcher::open_at(folder).expect("a watcher");
            let watcher = Watcher::new(watcher).expect("a place in the runtime");
            handle.spawn(async move {
                let rebuild = async |_| Ok::<_, Error>(());
                while watcher.handle(rebuild).await.is_ok() {}
            });
        }
        watchers = wanted;
        println!("{watchers}");
    }
    ExitCode::SUCCESS
}
