// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sysgenid::Generation;
use sysgenid_tokio::Watcher;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::number;
use super::outcome::Tally;
use crate::random::Random;

/// A task that follows the generation with its watcher.
pub(super) struct Follower {
    path: PathBuf,
    watcher: Option<Watcher>,
    random: Random,
    places: Arc<[AtomicU32]>,
    index: usize,
    /// The last generation that was handled, whether or not it was the current one still when that
    /// was acknowledged. It must not be told again.
    handled: Option<Generation>,
    tally: Tally,
}

impl Follower {
    /// Of a watcher that is up to date, before the first change.
    pub(super) fn new(
        path: &Path,
        watcher: Watcher,
        random: Random,
        places: &Arc<[AtomicU32]>,
        index: usize,
    ) -> Self {
        let mut follower = Self {
            path: path.to_owned(),
            watcher: None,
            random,
            places: Arc::clone(places),
            index,
            handled: None,
            tally: Tally::default(),
        };
        follower.is_at(watcher.generation());
        follower.watcher = Some(watcher);
        follower
    }

    /// Whoever waits for this follower is told.
    fn is_at(&mut self, generation: Generation) {
        self.handled = Some(generation);
        // Its partner is the load of whoever waits until all are there.
        self.places[self.index].store(number(generation), Ordering::Release);
    }

    pub(super) async fn run(mut self, mut ended: watch::Receiver<bool>) -> Tally {
        while let Some(watcher) = self.watcher.take() {
            let watcher = self.move_about(watcher).await;
            // No timer ends this: a wake-up that is lost is lost.
            let told = tokio::select! {
                told = self.told(&watcher) => told,
                _ = ended.changed() => break,
            };
            self.handle(&watcher, told).await;
            self.watcher = Some(watcher);
        }
        self.tally
    }

    async fn told(&mut self, watcher: &Watcher) -> sysgenid::Result<Generation> {
        let drops = self.random.below(8).saturating_sub(4);
        for _ in 0..drops {
            let is_slow = self.random.once_in(16);
            let other = async {
                match is_slow {
                    true => sleep(Duration::from_millis(1)).await,
                    false => yield_now().await,
                }
            };
            tokio::select! {
                told = watcher.changed() => return told,
                () = other => self.tally.futures_dropped += 1,
            }
        }
        watcher.changed().await
    }

    async fn handle(&mut self, watcher: &Watcher, told: sysgenid::Result<Generation>) {
        let Ok(generation) = told else {
            self.tally.errors += 1;
            return;
        };
        self.tally.wakes += 1;
        self.tally.duplicates += u64::from(self.handled == Some(generation));
        match self.random.below(64) {
            0 => sleep(Duration::from_millis(self.random.below(3).into())).await,
            1..16 => yield_now().await,
            16..32 => (0..self.random.below(2000)).for_each(|_| std::hint::spin_loop()),
            _ => {}
        }
        if self.random.once_in(32) {
            self.tally.handlings_dropped += 1;
            return;
        }
        self.tally.handled += 1;
        match watcher.acknowledge(generation) {
            Ok(()) => {
                self.tally.acks += 1;
                self.is_at(generation);
            }
            Err(error) if error.is_stale() => {
                self.handled = Some(generation);
                self.tally.stale += 1;
            }
            Err(_) => self.tally.errors += 1,
        }
    }

    /// Into another registration, or to another watcher, whatever this one has been told.
    async fn move_about(&mut self, watcher: Watcher) -> Watcher {
        match self.random.below(256) {
            0 => self.open_another(watcher).await,
            1..32 => {
                self.tally.registered_again += 1;
                Watcher::new(watcher.into()).expect("there is a runtime")
            }
            _ => watcher,
        }
    }

    /// It begins up to date, so it is told of later changes only.
    async fn open_another(&mut self, watcher: Watcher) -> Watcher {
        self.tally.opened_again += 1;
        let before = watcher.generation();
        drop(watcher);
        let opened = Watcher::open_at(&self.path).await;
        let watcher = opened.expect("a watcher can be opened");
        let after = watcher.generation();
        // Which one it began with is certain if nothing has changed. Else it is made so.
        if before == after || watcher.acknowledge(after).is_ok() {
            self.is_at(after);
        }
        watcher
    }
}
