// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Waiting for the watchers.
//!
//! On a broker the wait is a request, and the runtime awaits the answer on a connection of its own. On
//! the kernel device it is a call that blocks, and a helper thread makes it: see [`Helper`].
//!
//! The deadline is the runtime's clock. When it passes, the source is looked at once more, by a thread
//! of the pool, because a clock that is paused passes it before any answer can be there, and stands still
//! while the pool works.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use sysgenid::{Deadline, Error, Orchestrator, Result, Settled, adapter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{self, Instant};

use crate::runtime;

/// How long the last look may take: a little more than the tenth of a second that a broker has for it.
const LAST_LOOK: Duration = Duration::from_millis(200);
/// The deadline of a look that is given no time.
const AT_ONCE: Duration = Duration::from_millis(5);

/// Before the next attempt, if watchers are missing or the broker takes no connection yet.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Whose turn it is to use the orchestrator on a thread. The thread has the permit, and gives it back when
/// it is done, whatever has become of the future.
pub(super) struct Turn(Arc<Semaphore>);

impl Turn {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }

    pub(super) async fn take(&self) -> Option<OwnedSemaphorePermit> {
        // It fails only when it was closed, and nothing closes it.
        Arc::clone(&self.0).acquire_owned().await.ok()
    }

    fn try_take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

/// A deadline by both clocks: the system's, which a thread has, and the runtime's, which may be paused
/// and counts.
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
    let waited = limit.around(wait_without_end(orchestrator, turns, limit.system));
    match waited.await {
        Some(outcome) => outcome,
        None => last_look(orchestrator, turns).await,
    }
}

async fn wait_without_end(
    orchestrator: &Arc<Orchestrator>,
    turns: &Turn,
    deadline: Deadline,
) -> Result<Settled> {
    let mut pause = SHORTEST_PAUSE;
    loop {
        let waited = match adapter::begin_wait(orchestrator) {
            Ok(Some(wait)) => answer(wait, orchestrator).await,
            Ok(None) => return call_in_a_thread(orchestrator, turns, deadline).await,
            Err(error) => Err(error),
        };
        match waited {
            // Watchers are yet to come, or the broker has many connections to accept.
            Err(error) if error.is_missing() || error.is_timeout() => {}
            outcome => return outcome,
        }
        time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// What a wait on a broker comes to.
async fn answer(wait: adapter::PendingWait, orchestrator: &Orchestrator) -> Result<Settled> {
    let source = orchestrator.watcher().source();
    let wait = runtime::register(wait, source).map_err(|(_, error)| error)?;
    loop {
        let ready = wait.readable().await;
        let mut ready = ready.map_err(|error| runtime::not_registered(&error, source))?;
        if let Some(settled) = adapter::try_end_wait(wait.get_ref(), orchestrator)? {
            return Ok(settled);
        }
        ready.clear_ready();
    }
}

/// After the deadline, by a clock that may have passed it in no time: a watcher that acknowledged before
/// is no straggler.
async fn last_look(orchestrator: &Arc<Orchestrator>, turns: &Turn) -> Result<Settled> {
    let source = orchestrator.watcher().source();
    let looking = Arc::clone(orchestrator);
    let turn = turns.try_take();
    let look = runtime::call(None, move || {
        let settled = looking.wait_for_watchers(AT_ONCE);
        // In this order: whoever has the turn next has the orchestrator alone.
        drop(looking);
        drop(turn);
        settled
    });
    // The pool may be exhausted, and a broker hang.
    let looked = time::timeout(LAST_LOOK, look).await;
    looked.unwrap_or_else(|_| Err(adapter::watchers_timed_out(source)))
}

/// Has a helper make the call of the kernel device.
async fn call_in_a_thread(
    orchestrator: &Arc<Orchestrator>,
    turns: &Turn,
    deadline: Deadline,
) -> Result<Settled> {
    let source = orchestrator.watcher().source();
    let leash = Arc::new(());
    let (answer, answered) = oneshot::channel();
    let helper = Helper {
        turn: turns.take().await,
        orchestrator: Arc::clone(orchestrator),
        leash: Arc::downgrade(&leash),
        deadline,
        answer,
    };
    thread::Builder::new()
        .name("sysgenid-wait".into())
        .spawn(move || helper.run())
        .map_err(|error| adapter::no_helper(&error, source))?;
    // It answers unless it panics.
    let gave_up = |_| Err(adapter::watchers_timed_out(source));
    answered.await.unwrap_or_else(gave_up)
}

/// A thread that waits on the kernel device, in calls that end by themselves: none but a signal to this
/// very thread would end one early.
///
/// It is not a thread of the runtime's pool: a wait may take as long as its deadline allows, and the pool
/// may be exhausted by others who wait as well; a runtime that is dropped would wait for it; and a paused
/// clock stands still while the pool works, so that a deadline would never pass.
struct Helper {
    orchestrator: Arc<Orchestrator>,
    turn: Option<OwnedSemaphorePermit>,
    /// Held by the future until it is ready or dropped.
    leash: Weak<()>,
    deadline: Deadline,
    answer: oneshot::Sender<Result<Settled>>,
}

/// How long a call of the helper takes at least and at most, if it is not answered.
const SHORTEST_CALL: Duration = Duration::from_millis(50);
const LONGEST_CALL: Duration = Duration::from_secs(2);

impl Helper {
    fn run(self) {
        let answer = self.wait();
        // In this order: whoever has the turn next, or the answer, has the orchestrator alone.
        drop(self.orchestrator);
        drop(self.turn);
        if let Some(answer) = answer {
            let _ = self.answer.send(answer);
        }
    }

    /// `None` if it is not waited for any more.
    fn wait(&self) -> Option<Result<Settled>> {
        let began = std::time::Instant::now();
        loop {
            // So that a wait which is given up is over after as much time again, and one that takes
            // long is no work.
            let length = began.elapsed().clamp(SHORTEST_CALL, LONGEST_CALL);
            let left = self.deadline.remaining().unwrap_or(length);
            match self
                .orchestrator
                .wait_for_watchers(left.clamp(AT_ONCE, length))
            {
                Err(late) if is_too_soon(&late) && self.leash.strong_count() > 0 => {}
                Err(late) if is_too_soon(&late) => return None,
                answer => return Some(answer),
            }
        }
    }
}

/// The next call may come to something else. Whether it is too late is for the runtime's clock to say.
fn is_too_soon(error: &Error) -> bool {
    error.is_timeout() || error.is_missing()
}
