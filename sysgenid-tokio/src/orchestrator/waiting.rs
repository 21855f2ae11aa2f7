// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Waiting for the watchers, which is a blocking call of the source's.
//!
//! A helper makes that call, on a thread of its own and in slices. It is not a thread of the
//! runtime's pool, for three reasons: a wait may take as long as its deadline allows, and the pool
//! may be exhausted by others who wait as well; a runtime that is dropped would wait for it; and a
//! paused clock stands still while the pool works, so that a deadline would never pass.
//!
//! On a broker the wait is a request and its answer, which a runtime could await without a thread. But
//! a paused clock would pass the deadline before the answer is there, and there would be two ways to
//! wait where one does: a wait is rare, and as long as it takes others to rebuild.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use sysgenid::{Deadline, Error, Orchestrator, Result, Settled, adapter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{self, Instant};

use crate::runtime;

/// How long the helper may not notice that nobody waits for it any more.
const SLICE: Duration = Duration::from_millis(100);
/// A slice when the deadline is near, or has passed by the system's clock and not by the runtime's.
const SHORTEST: Duration = Duration::from_millis(5);

/// Whose turn it is to have a helper make a call. The helper has the permit, and gives it back when
/// it ends, whatever has become of the future.
pub(super) struct Turn(Arc<Semaphore>);

impl Turn {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }

    pub(super) async fn take(&self) -> Option<OwnedSemaphorePermit> {
        // It fails only when it was closed, and nobody closes it.
        Arc::clone(&self.0).acquire_owned().await.ok()
    }
}

/// A deadline by both clocks: the system's, which the helper has, and the runtime's, which may be
/// paused and counts.
#[derive(Clone, Copy)]
pub(super) struct Limit {
    system: Deadline,
    runtime: Option<Instant>,
}

impl Limit {
    /// Within a runtime only.
    pub(super) fn new(deadline: Deadline) -> Self {
        // What is beyond the clock never passes.
        let runtime = deadline
            .remaining()
            .and_then(|left| Instant::now().checked_add(left));
        Self {
            system: deadline,
            runtime,
        }
    }

    pub(super) fn has_passed(self) -> bool {
        self.runtime
            .is_some_and(|runtime| runtime <= Instant::now())
    }

    /// What `future` is ready with, or `None` if the deadline passes before.
    pub(super) async fn around<F: Future>(self, future: F) -> Option<F::Output> {
        match self.runtime {
            Some(deadline) => time::timeout_at(deadline, future).await.ok(),
            None => Some(future.await),
        }
    }
}

/// Waits until no tracked watcher is outdated.
pub(super) async fn wait(
    orchestrator: &Arc<Orchestrator>,
    turns: &Turn,
    limit: Limit,
) -> Result<Settled> {
    let source = orchestrator.watcher().source();
    let Some(turn) = limit.around(turns.take()).await else {
        let late = adapter::watchers_timed_out(source);
        return look_without_a_turn(orchestrator, late).await;
    };
    let leash = Arc::new(());
    let (answer, mut answered) = oneshot::channel();
    let helper = Helper {
        orchestrator: Arc::clone(orchestrator),
        turn,
        leash: Arc::downgrade(&leash),
        deadline: limit.system,
        answer,
    };
    thread::Builder::new()
        .name("sysgenid-wait".into())
        .spawn(move || helper.run())
        .map_err(|error| adapter::no_helper(&error, source))?;
    let answer = match limit.around(&mut answered).await {
        Some(answer) => answer,
        None => {
            drop(leash);
            answered.await
        }
    };
    // The helper answers unless it panics.
    answer.unwrap_or_else(|_| Err(adapter::watchers_timed_out(source)))
}

/// Others wait with the same orchestrator. They ask what this one asks, so it need not; but the
/// clock may have passed the deadline before any of them has had an answer.
async fn look_without_a_turn(orchestrator: &Arc<Orchestrator>, late: Error) -> Result<Settled> {
    let looking = Arc::clone(orchestrator);
    let look = runtime::call(None, move || looking.wait_for_watchers(SHORTEST));
    // The pool may be exhausted, and a broker hang.
    time::timeout(2 * SLICE, look).await.unwrap_or(Err(late))
}

struct Helper {
    orchestrator: Arc<Orchestrator>,
    turn: Option<OwnedSemaphorePermit>,
    /// Held by the future until the deadline has passed by the runtime's clock, or it is dropped.
    leash: Weak<()>,
    deadline: Deadline,
    answer: oneshot::Sender<Result<Settled>>,
}

impl Helper {
    fn run(self) {
        let answer = self.wait();
        // In this order: whoever has the turn next, or the answer, has the orchestrator alone.
        drop(self.orchestrator);
        drop(self.turn);
        let _ = self.answer.send(answer);
    }

    fn wait(&self) -> Result<Settled> {
        loop {
            let left = self.deadline.remaining().unwrap_or(SLICE);
            let slice = left.clamp(SHORTEST, SLICE);
            match self.orchestrator.wait_for_watchers(slice) {
                Err(late) if late.is_timeout() || late.is_missing() => {
                    if self.leash.strong_count() == 0 {
                        // Who has acknowledged before the deadline is no straggler, also if the
                        // deadline has passed in no time, as a paused clock's does.
                        return self.orchestrator.wait_for_watchers(SHORTEST);
                    }
                }
                answer => return answer,
            }
        }
    }
}
