// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Using a guarded value beside using one that nothing guards: alone, from two threads, and while
//! changes come faster than any system is restored.
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot run says why and ends"
)]

use std::fs::OpenOptions;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sysgenid::{
    BuildError, Generation, Guarded, Probe, RestoreOnly, SharedGuarded, SharedReader,
    ThreadGuarded, Witness,
};
use sysgenid_benches::{Bound, Bounds, Measured, REPEATED, ROUNDS, Subject, repeat};
use sysgenid_sys::page::CounterPageMut;

const ADDED: Bound = Bound::AtMost(0.5);
const ADDED_BY_PROCESS: Bound = Bound::AtMost(0.6);
const ADDED_BY_SHARED: Bound = Bound::AtMost(5.0);
const SCALING: Bound = Bound::AtLeast(95.0);

/// Reads of each thread in a round: long enough that starting a thread does not show.
const READS: u64 = 200_000;

fn main() -> ExitCode {
    let subject = Subject::new();
    // As guards in a field or a static have it.
    let build: fn(_) -> _ = build;
    let unguarded = black_box(Box::new(7_u64));
    let lock = RwLock::new(7_u64);
    let locked = || *lock.read().expect("a lock");
    let mut guarded = Guarded::new(build);
    let probe = Probe::open_at(subject.folder()).expect("a probe");
    let mut of_probe = Guarded::with_witness(probe, build);
    let probe = Probe::open_at(subject.folder()).expect("a probe");
    let mut for_restores = Guarded::with_witness(RestoreOnly(probe), build);
    let in_thread = ThreadGuarded::new(build);
    let shared = SharedGuarded::new(build);
    let mut reader = shared.reader();

    let mut criterion = sysgenid_benches::criterion();
    let mut group = criterion.benchmark_group("use a value");
    group.bench_function("unguarded", |b| b.iter(|| *unguarded));
    group.bench_function("sysgenid::Guarded::get", |b| b.iter(|| get(&mut guarded)));
    group.bench_function("sysgenid::Guarded::get, Probe", |b| {
        b.iter(|| get(&mut of_probe));
    });
    group.bench_function("sysgenid::Guarded::get, RestoreOnly", |b| {
        b.iter(|| get(&mut for_restores));
    });
    group.bench_function("sysgenid::SharedReader::get", |b| {
        b.iter(|| *reader.get().expect("a value"));
    });
    group.bench_function("sysgenid::Guarded::with", |b| {
        b.iter(|| guarded.with(|value| *value).expect("a value"));
    });
    group.bench_function("sysgenid::ThreadGuarded::with", |b| {
        b.iter(|| in_thread.with(|value| *value).expect("a value"));
    });
    group.bench_function("sysgenid::SharedGuarded::with", |b| {
        b.iter(|| with(&shared))
    });
    group.bench_function("std::sync::RwLock::read", |b| b.iter(locked));
    group.finish();

    let mut group = criterion.benchmark_group("use a value in two threads");
    group.bench_function("unguarded", |b| {
        b.iter_custom(|reads| in_threads(2, reads, || || *unguarded));
    });
    group.bench_function("sysgenid::SharedReader::get", |b| {
        b.iter_custom(|reads| in_threads(2, reads, || read_by(shared.reader())));
    });
    group.bench_function("sysgenid::SharedGuarded::with", |b| {
        b.iter_custom(|reads| in_threads(2, reads, || || with(&shared)));
    });
    group.bench_function("std::sync::RwLock::read", |b| {
        b.iter_custom(|reads| in_threads(2, reads, || locked));
    });
    group.finish();

    let mut group = criterion.benchmark_group("use a value under change");
    let page = ChangingPage::new(subject.folder());
    let probe = || Probe::open_at(&page.path).expect("a probe");
    let mut changed = Guarded::with_witness(probe(), build);
    let shared_changed = SharedGuarded::with_witness(probe(), build);
    for (name, period) in [
        ("1 kHz", Duration::from_millis(1)),
        ("1 MHz", Duration::from_micros(1)),
    ] {
        group.bench_function(format!("sysgenid::Guarded::with, {name}"), |b| {
            page.change(period, || b.iter(|| changed.with(|value| *value)));
        });
        group.bench_function(format!("sysgenid::SharedGuarded::with, {name}"), |b| {
            page.change(period, || b.iter(|| shared_changed.with(|value| *value)));
        });
    }
    group.finish();
    criterion.final_summary();

    let mut bounds = Bounds::new();
    let mut added = |witness, bound, use_it: &mut dyn FnMut()| {
        let name = format!("`Guarded::get` adds to the use of a value, {witness}");
        bounds.difference(&name, bound, REPEATED, use_it, || repeat(|| *unguarded));
    };
    added("for restores alone", ADDED, &mut || {
        repeat(|| get(&mut for_restores))
    });
    added("for forks as well", Bound::Unbounded, &mut || {
        repeat(|| get(&mut of_probe))
    });
    added("of the whole process", ADDED_BY_PROCESS, &mut || {
        repeat(|| get(&mut guarded))
    });
    bounds.difference(
        "`SharedGuarded::with` adds to the use of a value",
        ADDED_BY_SHARED,
        REPEATED,
        || repeat(|| with(&shared)),
        || repeat(|| *unguarded),
    );
    if bounds.measured() {
        bounds.report(
            "`SharedGuarded::with` in two threads, throughput of each to one alone",
            scaling(|| || with(&shared)),
            SCALING,
            "%",
        );
        bounds.report(
            "the same, each by a `SharedReader` of its own",
            scaling(|| read_by(shared.reader())),
            SCALING,
            "%",
        );
        let control = scaling(|| || *unguarded);
        bounds.fact(
            "two threads on this machine",
            &format!(
                "each reads an unguarded value at {:.1} % of the speed of one alone",
                control.median
            ),
        );
    }
    bounds.verdict()
}

#[expect(clippy::unnecessary_wraps, reason = "as guards take it")]
fn build(_: Generation) -> Result<u64, BuildError> {
    Ok(7)
}

fn get<W: Witness>(guarded: &mut Guarded<u64, W>) -> u64 {
    *guarded.get().expect("a value")
}

fn with(shared: &SharedGuarded<u64>) -> u64 {
    shared.with(|value| *value).expect("a value")
}

fn read_by(mut reader: SharedReader<'_, u64>) -> impl FnMut() -> u64 {
    move || *reader.get().expect("a value")
}

/// How long each of some threads takes for so many reads, when all read at once. Each has a way to
/// read of its own.
fn in_threads<T, R: FnMut() -> T>(
    threads: usize,
    reads: u64,
    reader: impl Fn() -> R + Sync,
) -> Duration {
    let waiting = AtomicUsize::new(threads);
    let run = || {
        let mut read = reader();
        // What is done at a thread's first use is not its speed.
        black_box(read());
        waiting.fetch_sub(1, Ordering::Relaxed);
        while waiting.load(Ordering::Relaxed) > 0 {}
        let start = Instant::now();
        for _ in 0..reads {
            black_box(read());
        }
        start.elapsed()
    };
    let total: Duration = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a thread"))
            .sum()
    });
    total / u32::try_from(threads).expect("a few threads")
}

/// The throughput of each of two threads, in percent of that of one alone.
fn scaling<T, R: FnMut() -> T>(reader: impl Fn() -> R + Sync) -> Measured {
    let seconds = |threads| in_threads(threads, READS, &reader).as_secs_f64();
    let round = |_| 100.0 * seconds(1) / seconds(2);
    Measured::of((0..ROUNDS).map(round).collect())
}

/// A page file whose counter changes all the time.
struct ChangingPage {
    path: PathBuf,
    page: CounterPageMut,
}

impl ChangingPage {
    fn new(folder: &Path) -> Self {
        let path = folder.join("changing");
        std::fs::write(&path, [0; 4096]).expect("a page");
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let page = CounterPageMut::map(file.expect("the page")).expect("a mapping");
        Self { path, page }
    }

    /// Changes the counter once in each period until `work` is done.
    fn change(&self, period: Duration, work: impl FnOnce()) {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut next = Instant::now();
                while !done.load(Ordering::Relaxed) {
                    self.page.store(self.page.load().wrapping_add(1));
                    next += period;
                    while Instant::now() < next {}
                }
            });
            work();
            done.store(true, Ordering::Relaxed);
        });
    }
}
