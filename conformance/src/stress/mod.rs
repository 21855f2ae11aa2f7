// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Everything at once: threads that make system calls at random on the same open files and
//! mappings, interrupted by signals, for a bounded time.
//!
//! It is not for what each call returns, which the other suites look at, but for what only a
//! kernel with detectors sees while they race. What must hold whatever the order of things is
//! looked at during the run and after it, as cases of a suite.

mod announcer;
mod children;
mod mappings;
mod operations;
mod outcome;
mod signals;
mod worker;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;

use self::announcer::Announcer;
use self::operations::Operation;
use self::outcome::Outcome;
use self::worker::Worker;
use crate::random::Random;
use crate::raw::{Mapping, Node};
use crate::suite::Case;

/// Open files that are shared by all threads. More are never open, but for one per thread that is
/// still in use when its slot gets another.
const FILES: usize = 24;

/// Mappings of them.
const MAPPINGS: usize = 12;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The node.
    pub node: Node,
    /// How long.
    pub duration: Duration,
    /// How many threads.
    pub threads: u32,
    /// Where the random numbers begin. What they lead to depends on the order in which the
    /// threads run, so the same seed gives the same mixture and not the same run.
    pub seed: u64,
    /// The parameters of the test module that announces restores, if it is to do so meanwhile.
    pub announcer: Option<PathBuf>,
}

/// Everything that the threads share.
struct Shared {
    node: Node,
    operations: Vec<Operation>,
    /// How often each was made.
    counts: Vec<AtomicU64>,
    files: Vec<Mutex<Option<Arc<OwnedFd>>>>,
    mappings: Vec<Mutex<Option<Mapping>>>,
    triggers: AtomicU32,
    waits: Waits,
    /// What must not happen, in words.
    faults: Mutex<Vec<String>>,
}

/// How waits for the watchers ended.
#[derive(Default)]
struct Waits {
    settled: AtomicU64,
    interrupted: AtomicU64,
    timed_out: AtomicU64,
}

impl Shared {
    fn fault(&self, what: String) {
        // A thread that panicked is reported by itself.
        let mut faults = self.faults.lock().unwrap_or_else(|held| held.into_inner());
        // One fault may show at every step.
        if faults.len() < 10 {
            faults.push(what);
        }
    }
}

/// The cases that say what came of a run.
pub fn cases() -> impl Iterator<Item = &'static Case<Outcome>> {
    outcome::CASES.iter()
}

/// Runs the threads, and closes everything that they left open.
#[must_use]
pub fn run(options: &Options) -> Outcome {
    let before = options.node.generation();
    let operations = operations::of(options.node.dialect());
    let shared = Shared {
        node: options.node.clone(),
        counts: operations.iter().map(|_| AtomicU64::new(0)).collect(),
        operations,
        files: (0..FILES).map(|_| Mutex::default()).collect(),
        mappings: (0..MAPPINGS).map(|_| Mutex::default()).collect(),
        triggers: AtomicU32::new(0),
        waits: Waits::default(),
        faults: Mutex::default(),
    };
    signals::handle();
    let announcer = options.announcer.as_ref().map(Announcer::start);
    let deadline = Instant::now() + options.duration;
    let mut random = Random::new(options.seed);
    let (address, addresses) = mpsc::channel();
    let signals_sent = thread::scope(|scope| {
        let workers: Vec<_> = (0..options.threads)
            .map(|_| {
                let mut worker = Worker::new(&shared, random.split());
                let address = address.clone();
                scope.spawn(move || {
                    let sent = address.send(signals::address());
                    sent.expect("the main thread waits for it");
                    worker.run(deadline);
                })
            })
            .collect();
        // Also after the deadline: a thread may sleep in a read that nothing but a signal ends.
        signals::send_until_ended(&workers, &addresses, &mut random)
    });

    let announced = announcer.map(Announcer::stop);
    let triggered = shared.triggers.into_inner();
    let counts = shared.operations.iter().zip(&shared.counts);
    let counts = counts.map(|(operation, count)| (operation.name, count.load(Ordering::Relaxed)));
    Outcome {
        node: shared.node,
        counts: counts
            .chain([("signal", signals_sent)])
            .chain(announced.map(|count| ("announcement", count.into())))
            .collect(),
        waits: [
            ("settled", shared.waits.settled.into_inner()),
            ("interrupted", shared.waits.interrupted.into_inner()),
            ("timed out", shared.waits.timed_out.into_inner()),
        ],
        expected: before
            .wrapping_add(triggered)
            .wrapping_add(announced.unwrap_or(0)),
        faults: shared
            .faults
            .into_inner()
            .expect("no thread panics with it"),
    }
}
