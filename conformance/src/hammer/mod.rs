// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Guards while the generation changes a million times a second.
//!
//! Another process changes a page, and threads use guards whose value is the generation that it was
//! built for. The numbers only grow, so whatever a guard hands out can be compared with what the
//! page showed just before and just after.

mod outcome;
mod worker;

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use sysgenid::{BuildError, Generation, Probe, SharedGuarded};

pub use self::outcome::Outcome;
use self::worker::Worker;
use crate::child::{Child, Role};
use crate::suite::Case;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long.
    pub duration: Duration,
    /// How many threads use guards.
    pub threads: u32,
}

/// A build that counts.
type Build = Box<dyn Fn(Generation) -> Result<u64, BuildError> + Send + Sync>;

/// A value for all threads: the generation that it was built for.
struct Shared {
    guarded: SharedGuarded<u64, Arc<Probe>, Build>,
    builds: Arc<AtomicU64>,
    /// Builds for a generation that had been built for.
    repeated: Arc<AtomicU64>,
}

impl Shared {
    fn new(probe: &Arc<Probe>) -> Self {
        let builds = Arc::new(AtomicU64::new(0));
        let repeated = Arc::new(AtomicU64::new(0));
        let (counted, again) = (Arc::clone(&builds), Arc::clone(&repeated));
        let last = Mutex::new(None);
        let build: Build = Box::new(move |generation| {
            counted.fetch_add(1, Ordering::Relaxed);
            let number = generation.get();
            let last = last
                .lock()
                .expect("no thread panics with it")
                .replace(number);
            if last.is_some_and(|last| number <= last) {
                again.fetch_add(1, Ordering::Relaxed);
            }
            Ok(number)
        });
        Self {
            guarded: SharedGuarded::with_witness(Arc::clone(probe), build),
            builds,
            repeated,
        }
    }
}

/// The cases that say what came of a run.
pub fn cases() -> impl Iterator<Item = &'static Case<Outcome>> {
    outcome::CASES.iter()
}

/// Runs the threads beside the process that changes the page.
///
/// # Errors
///
/// If there can be no page, or no other process.
pub fn run(options: &Options) -> Result<Outcome, Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("page");
    fs::write(&path, [0; 4096])?;
    let probe = Arc::new(Probe::open_at(&path)?);
    let shared = Shared::new(&probe);

    let changer = Child::start_on(Role::ChangePage, &path);
    if changer.said() != "ok" {
        return Err(format!("the page cannot be changed: {}", changer.said()).into());
    }
    let (first, start) = (probe.generation(), Instant::now());
    let deadline = start + options.duration;
    let tallies = thread::scope(|scope| {
        let workers: Vec<_> = (0..options.threads)
            .map(|_| scope.spawn(|| Worker::new(&probe, &shared.guarded).run(deadline)))
            .collect();
        workers
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect::<Result<Vec<_>, _>>()
    });
    let (last, elapsed) = (probe.generation(), start.elapsed());
    drop(changer);

    let tallies = tallies.map_err(|_panic| "a thread panicked")?;
    Ok(Outcome {
        elapsed,
        changes: last.get() - first.get(),
        shared_builds: shared.builds.load(Ordering::Relaxed),
        shared_repeated: shared.repeated.load(Ordering::Relaxed),
        kinds: worker::add(tallies),
    })
}
