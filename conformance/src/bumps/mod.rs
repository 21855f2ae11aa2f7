// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A million changes against watchers in a tokio runtime of several threads.
//!
//! Tasks wait for changes and handle them, with delays of any length; drop their futures, and their
//! handling half-way; move their watchers from one registration to another, and from one watcher to the
//! next. The changes come in bursts of random length. After each burst nothing changes until
//! every watcher has got to its last generation: the next change would wake a task again whose
//! wake-up was lost, and nobody would know.

mod changer;
mod follower;
mod outcome;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sysgenid::{Orchestrator, Source, SourceKind};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::changer::Changer;
use self::follower::Follower;
pub use self::outcome::Outcome;
use self::outcome::Tally;
use crate::background::PATIENCE;
use crate::child::{Child, Role};
use crate::random::Random;
use crate::suite::Case;
use crate::typed::number;

/// More than the processors of most machines that this runs on, so that threads are interrupted.
const THREADS: usize = 4;
/// A burst is at most this long.
const BURST: u32 = 1024;
/// How often to look whether all have caught up.
const LOOK: Duration = Duration::from_micros(50);

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The source; without one, a broker is started, in a process of its own.
    pub path: Option<PathBuf>,
    /// How many changes.
    pub changes: u32,
    /// How many watchers, each with a task.
    pub watchers: u32,
    /// Where the random numbers begin.
    pub seed: u64,
}

/// The cases that say what came of a run.
pub fn cases() -> impl Iterator<Item = &'static Case<Outcome>> {
    outcome::CASES.iter()
}

/// Changes the generation until it has been changed so often, or a watcher does not catch up.
///
/// # Errors
///
/// If there can be no broker, no watcher or no runtime.
pub fn run(options: &Options) -> Result<Outcome, Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let (path, _broker) = match &options.path {
        Some(path) => (path.as_path(), None),
        None => (folder.path(), Some(start_broker(folder.path())?)),
    };
    let mut random = Random::new(options.seed);
    let mut changer = match Source::at(path)?.kind() {
        SourceKind::Broker => Changer::of_broker(path)?,
        _ => Changer::of_device(Orchestrator::open_at(path)?),
    };
    let followers = Followers::start(path, options.watchers, &mut random)?;

    let start = Instant::now();
    let (mut changes, mut bursts, mut lost) = (0, 0, 0);
    while changes < options.changes && lost == 0 {
        // Short ones more often: each ends in a moment in which a wake-up can be lost for good.
        let longest = 1 << random.below(BURST.ilog2() + 1);
        let length = (1 + random.below(longest)).min(options.changes - changes);
        let last = changer.change(length)?;
        changes += length;
        bursts += 1;
        lost = followers.expect_all_at(last);
    }
    let elapsed = start.elapsed();
    let tallies = followers.finish()?;
    // The one that changes is an overseer of its own, on the kernel driver, and must not be waited for.
    drop(changer);
    let orchestrator = Orchestrator::open_at(path)?;
    Ok(Outcome {
        elapsed,
        wanted: options.changes,
        changes,
        bursts,
        lost,
        stragglers: orchestrator.wait_for_watchers(PATIENCE).is_err(),
        tallies,
    })
}

fn start_broker(folder: &Path) -> Result<Child, Box<dyn std::error::Error>> {
    let broker = Child::start_on(Role::ServeFolder, folder);
    if broker.said() != "ok" {
        return Err(format!("the broker cannot start: {}", broker.said()).into());
    }
    Ok(broker)
}

/// The tasks, each with its watcher.
struct Followers {
    runtime: Runtime,
    tasks: Vec<JoinHandle<Tally>>,
    /// The generation that each has got to.
    places: Arc<[AtomicU32]>,
    end: watch::Sender<bool>,
}

impl Followers {
    /// Starts them, and returns when each has its watcher.
    fn start(
        path: &Path,
        count: u32,
        random: &mut Random,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .enable_all()
            .build()?;
        let places: Arc<[AtomicU32]> = (0..count).map(|_| AtomicU32::new(0)).collect();
        let (end, ended) = watch::channel(false);
        let mut tasks = Vec::new();
        for index in 0..places.len() {
            let watcher = runtime.block_on(sysgenid_tokio::Watcher::open_at(path))?;
            let follower = Follower::new(path, watcher, random.split(), &places, index);
            tasks.push(runtime.spawn(follower.run(ended.clone())));
        }
        Ok(Self {
            runtime,
            tasks,
            places,
            end,
        })
    }

    /// Waits until each has got to this generation. How many have not when nobody moves any more.
    fn expect_all_at(&self, last: u32) -> usize {
        let end = Instant::now() + PATIENCE;
        loop {
            let behind = self
                .places
                .iter()
                .filter(|place| place.load(Ordering::Acquire) != last)
                .count();
            if behind == 0 || Instant::now() > end {
                return behind;
            }
            thread::sleep(LOOK);
        }
    }

    /// The watchers are left open until then, so that an orchestrator can be asked about them.
    fn finish(self) -> Result<Vec<Tally>, Box<dyn std::error::Error>> {
        self.end.send(true)?;
        let mut tallies = Vec::new();
        for task in self.tasks {
            tallies.push(self.runtime.block_on(task)?);
        }
        Ok(tallies)
    }
}
