// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use sysgenid::{Guarded, Probe, Result, SharedGuarded, SharedReader, ThreadGuarded};

use super::Build;

/// How many uses go by between two looks at the clock.
const ROUND: u32 = 64;

/// What became of the uses of one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Which.
    pub name: &'static str,
    /// Values and results that were handed out.
    pub uses: u64,
    /// Results that a change overtook, so that they were not handed out.
    pub thrown_away: u64,
    /// Uses that were given up, because changes overtook each attempt.
    pub unsettled: u64,
    /// Values of before a change that was to be seen when they were asked for, and results that
    /// were computed across one.
    pub stale: u64,
    /// Effects that there should not have been, or that were missing.
    pub wrong_effects: u64,
    /// Other errors; there should be none.
    pub errors: u64,
    /// How often a value was built, where a thread has its own.
    pub builds: u64,
}

/// The tallies of all threads, added up.
pub(super) fn add(tallies: Vec<Vec<Tally>>) -> Vec<Tally> {
    let mut sums: Vec<Tally> = Vec::new();
    for (index, tally) in tallies
        .iter()
        .flat_map(|tallies| tallies.iter().enumerate())
    {
        match sums.get_mut(index) {
            None => sums.push(tally.clone()),
            Some(sum) => {
                sum.uses += tally.uses;
                sum.thrown_away += tally.thrown_away;
                sum.unsettled += tally.unsettled;
                sum.stale += tally.stale;
                sum.wrong_effects += tally.wrong_effects;
                sum.errors += tally.errors;
                sum.builds += tally.builds;
            }
        }
    }
    sums
}

/// A thread with guards of each kind.
pub(super) struct Worker<'a> {
    probe: &'a Arc<Probe>,
    owned: Guarded<u64, Arc<Probe>, Build>,
    owned_builds: Arc<AtomicU64>,
    shared: &'a SharedGuarded<u64, Arc<Probe>, Build>,
    reader: SharedReader<'a, u64, Arc<Probe>, Build>,
    thread: ThreadGuarded<u64, Arc<Probe>, Build>,
    thread_builds: Arc<AtomicU64>,
}

/// What a computation returns: the value, and what the page showed while it ran.
type Seen = (u64, u64);

impl<'a> Worker<'a> {
    pub(super) fn new(
        probe: &'a Arc<Probe>,
        shared: &'a SharedGuarded<u64, Arc<Probe>, Build>,
    ) -> Self {
        let (owned_builds, owned) = counted();
        let (thread_builds, thread) = counted();
        Self {
            probe,
            owned: Guarded::with_witness(Arc::clone(probe), owned),
            owned_builds,
            shared,
            reader: shared.reader(),
            thread: ThreadGuarded::with_witness(Arc::clone(probe), thread),
            thread_builds,
        }
    }

    pub(super) fn run(mut self, deadline: Instant) -> Vec<Tally> {
        let mut tallies = [
            "Guarded::get",
            "Guarded::with",
            "Guarded::transaction",
            "SharedGuarded::with",
            "SharedReader::get",
            "SharedReader::with",
            "ThreadGuarded::with",
        ]
        .map(|name| Tally {
            name,
            ..Tally::default()
        });
        let [get, with, transaction, shared, reader_get, reader, thread] = &mut tallies;
        let probe = self.probe;
        while Instant::now() < deadline {
            for _ in 0..ROUND {
                get.take(probe, || self.owned.get().map(|value| *value));
                with.compute(probe, |compute| self.owned.with(|value| compute(*value)));
                let mut effects = 0;
                let done = transaction.compute(probe, |compute| {
                    let prepare = |value: &mut u64| compute(*value);
                    self.owned.transaction(prepare, |seen| {
                        effects += 1;
                        seen
                    })
                });
                transaction.wrong_effects += u64::from(effects != u32::from(done));
                shared.compute(probe, |compute| self.shared.with(|value| compute(*value)));
                reader_get.take(probe, || self.reader.get().copied());
                reader.compute(probe, |compute| self.reader.with(|value| compute(*value)));
                thread.compute(probe, |compute| self.thread.with(|value| compute(*value)));
            }
        }
        with.builds = self.owned_builds.load(Ordering::Relaxed);
        thread.builds = self.thread_builds.load(Ordering::Relaxed);
        tallies.into()
    }
}

impl Tally {
    /// Checks a value that is handed out as it is.
    fn take(&mut self, probe: &Probe, take: impl FnOnce() -> Result<u64>) {
        let before = probe.generation().get();
        match take() {
            Ok(value) => {
                self.uses += 1;
                let after = probe.generation().get();
                self.stale += u64::from(!(before..=after).contains(&value));
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Checks a computation: the value it is given, and the result that comes of it. Says whether
    /// one came.
    fn compute(
        &mut self,
        probe: &Probe,
        with: impl FnOnce(&mut dyn FnMut(u64) -> Seen) -> Result<Seen>,
    ) -> bool {
        let before = probe.generation().get();
        let (mut runs, mut stale) = (0, 0);
        let outcome = with(&mut |value| {
            runs += 1;
            stale += u64::from(value < before);
            (value, probe.generation().get())
        });
        self.stale += stale;
        match outcome {
            Ok((value, meanwhile)) => {
                self.uses += 1;
                self.thrown_away += runs - 1;
                // Between the two checks nothing changed, so it showed this all the time.
                self.stale += u64::from(value != meanwhile);
                true
            }
            Err(error) => {
                self.thrown_away += runs;
                self.fail(&error);
                false
            }
        }
    }

    fn fail(&mut self, error: &sysgenid::Error) {
        if error.is_unsettled() {
            self.unsettled += 1;
        } else {
            self.errors += 1;
        }
    }
}

/// A build whose value is the generation it is for, and the number of its calls.
fn counted() -> (Arc<AtomicU64>, Build) {
    let builds = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&builds);
    let build: Build = Box::new(move |generation| {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(generation.get())
    });
    (builds, build)
}
