// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tasks that each hold something unique and a watcher for it.

use std::convert::Infallible;
use std::mem::take;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sysgenid_examples::{Failure, random_id};
use sysgenid_tokio::Watcher;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

pub(crate) struct Pool {
    source: PathBuf,
    /// Whether jobs are begun.
    serving: watch::Sender<bool>,
    workers: Vec<Worker>,
}

struct Worker {
    watcher: Arc<Watcher>,
    session: Arc<AtomicU64>,
    task: JoinHandle<Result<Infallible, Failure>>,
}

impl Pool {
    /// The last of them has a job that does not end.
    pub(crate) async fn start(source: PathBuf, workers: usize) -> Result<Self, Failure> {
        let mut pool = Self {
            source,
            serving: watch::Sender::new(true),
            workers: Vec::new(),
        };
        for number in 0..workers {
            let stuck = number + 1 == workers;
            pool.workers.push(pool.worker(stuck).await?);
        }
        Ok(pool)
    }

    async fn worker(&self, stuck: bool) -> Result<Worker, Failure> {
        // Before there is anything to rebuild, so that no change is missed.
        let watcher = Arc::new(Watcher::open_at(&self.source).await?);
        let session = Arc::new(AtomicU64::new(random_id()?));
        let serving = self.serving.subscribe();
        let work = work(Arc::clone(&watcher), Arc::clone(&session), serving, stuck);
        Ok(Worker {
            watcher,
            session,
            task: tokio::spawn(work),
        })
    }

    /// Replaces the workers that have not acknowledged.
    pub(crate) async fn replace_outdated(&mut self) -> Result<(), Failure> {
        for (number, mut worker) in take(&mut self.workers).into_iter().enumerate() {
            if worker.watcher.try_changed()?.is_some() {
                println!("worker {number} is replaced");
                // Only a task that awaits can be aborted: for one that computes for ever, the
                // process has to be replaced. Its watcher goes with it, and is not waited for.
                worker.task.abort();
                let _ = (&mut worker.task).await;
                worker = self.worker(false).await?;
            }
            self.workers.push(worker);
        }
        Ok(())
    }

    /// No job is begun any more. Those that are under way are finished.
    pub(crate) fn pause(&self) {
        self.serving.send_replace(false);
    }

    pub(crate) fn resume(&self) {
        self.serving.send_replace(true);
    }

    pub(crate) fn show(&self, when: &str) {
        for (number, worker) in self.workers.iter().enumerate() {
            let session = worker.session.load(Ordering::Relaxed);
            println!("{when}: worker {number}, session {session:016x}");
        }
    }
}

async fn work(
    watcher: Arc<Watcher>,
    session: Arc<AtomicU64>,
    mut serving: watch::Receiver<bool>,
    stuck: bool,
) -> Result<Infallible, Failure> {
    if stuck {
        std::future::pending::<()>().await; // for an answer that was lost
    }
    let renew = async |_generation| random_id().map(|id| session.store(id, Ordering::Relaxed));
    loop {
        tokio::select! {
            biased; // the change before the next job
            handled = watcher.handle(renew) => drop(handled?),
            // A job is finished before anything else is looked at.
            () = next_job(&mut serving) => job(session.load(Ordering::Relaxed)).await,
        }
    }
}

async fn next_job(serving: &mut watch::Receiver<bool>) {
    let _ = serving.wait_for(|serving| *serving).await;
}

async fn job(_session: u64) {
    sleep(Duration::from_millis(10)).await;
}
