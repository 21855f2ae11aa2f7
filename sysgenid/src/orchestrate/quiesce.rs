// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::time::Duration;

use sysgenid_sys::wire::{Awaited, Op, Phase, Request};

use super::orchestrator::{LONGEST_PAUSE, SHORTEST_PAUSE};
use super::{Orchestrator, Straggler};
use crate::base::error::{Error, Kind, Result};
use crate::base::{Deadline, Generation};
use crate::source::connection::{LOOK_TIME, accepted};

/// The programs that run hooks are asked to come to rest, because a snapshot is about to be taken. Made by
/// [`Orchestrator::quiesce`].
///
/// When it is dropped, they are told to resume, and nothing waits for that.
#[derive(Debug)]
#[must_use = "programs are told to resume when it is dropped: wait, take the snapshot, then `resume`"]
pub struct Quiescing<'a> {
    orchestrator: &'a Orchestrator,
    number: u32,
    /// It is not to be ended by the drop.
    is_left: bool,
}

/// What a wait has found: every program that was to follow the phase has done so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parked {
    /// The generation at that time.
    pub generation: Generation,
    /// How many tracked watchers follow the phase. All of them have acknowledged it.
    pub watchers: u32,
    /// How many tracked watchers do not, and were not asked.
    pub others: u32,
}

impl Orchestrator {
    /// Asks every program to come to rest at a safe point before a snapshot: their
    /// [background threads](crate::background) run the hooks of
    /// [`before_snapshot`](crate::hooks::before_snapshot). Then [wait](Quiescing::wait) for them, take the
    /// snapshot, and [resume](Quiescing::resume).
    ///
    /// This is for the broker, and it is the broker's: another orchestrator that asks joins in, and the first
    /// one to resume ends it for both.
    ///
    /// ```
    /// use std::time::Duration;
    /// use sysgenid::{Background, Changes, Orchestrator, hooks};
    ///
    /// let broker = sysgenid_broker::testing::Broker::start()?;
    /// // A program, which stands for all of them.
    /// hooks::before_snapshot(|_| println!("closing connections"));
    /// hooks::after_restore(|_| println!("opening connections"));
    /// let changes = Changes::options().at(broker.path());
    /// let background = Background::options().changes(changes).start()?;
    ///
    /// let orchestrator = Orchestrator::options().require_watchers(1).open_at(broker.path())?;
    /// let quiescing = orchestrator.quiesce()?;
    /// quiescing.wait(Duration::from_secs(5))?;
    /// // … take the snapshot …
    /// quiescing.resume(Duration::from_secs(5))?;
    /// # background.stop(Duration::from_secs(5));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # What is not guaranteed
    ///
    /// Only programs that run the background thread are asked; [`Parked::others`] counts the watchers that
    /// were not. A program at rest resumes by itself when the generation changes, when the broker ends,
    /// and when it loses the connection to the broker.
    ///
    /// # Errors
    ///
    /// [`is_unsupported`](Error::is_unsupported) if the source is not a broker;
    /// [`is_permission`](Error::is_permission) if it belongs to another user; [`is_lost`](Error::is_lost) if
    /// it has ended; [`is_timeout`](Error::is_timeout) if it does not answer
    /// [in time](super::OrchestratorOptions::answer_within): programs may yet be asked then, so call
    /// [`resume`](Self::resume). [`is_forked`](Error::is_forked) in a forked child.
    pub fn quiesce(&self) -> Result<Quiescing<'_>> {
        let deadline = Deadline::after(self.answer_time());
        Ok(Quiescing {
            orchestrator: self,
            number: self.set_phase(Phase::Quiesce, deadline)?,
            is_left: false,
        })
    }

    /// Resumes the programs that were asked to [come to rest](Self::quiesce), by whichever orchestrator, and
    /// waits until they have resumed: until the hooks of [`after_restore`](crate::hooks::after_restore) have succeeded in each
    /// of them. Does nothing if none was asked.
    ///
    /// # Errors
    ///
    /// As [`quiesce`](Self::quiesce), and as [`Quiescing::wait`], but never
    /// [`is_missing`](Error::is_missing). If it is [`is_outdated`](Error::is_outdated) or a timeout of the
    /// wait, programs have been told to resume, and it is not known whether they have: after a restore, the
    /// orchestrator [settles](Self::settle) first.
    pub fn resume(&self, deadline: impl Into<Deadline>) -> Result<Parked> {
        let deadline = deadline.into();
        let number = self.set_phase(Phase::Running, self.answer_by(deadline))?;
        self.wait_for_running(number, deadline)
    }

    /// A program that has ended in the meantime is not missed.
    fn wait_for_running(&self, number: u32, deadline: Deadline) -> Result<Parked> {
        self.wait_for_phase(Phase::Running, number, 0, deadline)
    }

    /// When to have an answer in a call that may take until `deadline`.
    fn answer_by(&self, deadline: Deadline) -> Deadline {
        deadline.at_most(self.answer_time()).at_least(LOOK_TIME)
    }

    /// Returns the number of the phase.
    fn set_phase(&self, phase: Phase, deadline: Deadline) -> Result<u32> {
        self.watcher().check_broker()?;
        let mut request = Request::new(Op::SetPhase, 0);
        request.arguments = [phase as u32, 0];
        let ask = || {
            let reply = self.source().control(deadline)?.ask(&request, deadline)?;
            accepted(&reply)?;
            Ok(reply.phase_number)
        };
        ask().map_err(|error: Error| error.at(self.source().path()))
    }

    /// Waits until all have acknowledged the phase with this number.
    fn wait_for_phase(
        &self,
        phase: Phase,
        number: u32,
        required: u32,
        deadline: Deadline,
    ) -> Result<Parked> {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let found = self.watcher().wait_parking(phase, number, deadline)?;
            if found.parking >= required {
                return Ok(Parked {
                    generation: Generation::from(found.generation),
                    watchers: found.parking,
                    others: found.tracked.saturating_sub(found.parking),
                });
            }
            if deadline.has_passed() {
                let found = found.parking;
                let missing = Error::new(Kind::Missing { found, required });
                return Err(missing.at(self.source().path()));
            }
            // Nothing tells of a watcher that is opened. A change ends the pause.
            self.watcher().sleep(deadline.at_most(pause))?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl Quiescing<'_> {
    /// Waits until every tracked watcher that follows the phase has acknowledged it: until the hooks of
    /// [`before_snapshot`](crate::hooks::before_snapshot) have succeeded in each program. May be called again.
    ///
    /// # Errors
    ///
    /// [`is_timeout`](Error::is_timeout) if the deadline passed: [`stragglers`](Self::stragglers) tells who is
    /// missing. [`is_missing`](Error::is_missing) if fewer follow the phase than the orchestrator
    /// [requires](super::OrchestratorOptions::require_watchers). [`is_outdated`](Error::is_outdated) if the
    /// generation has changed, and the orchestrator's own watcher has not acknowledged that: programs that
    /// handle a change have resumed. [`is_stale`](Error::is_stale) if another orchestrator has ended the
    /// phase; [`is_lost`](Error::is_lost) if the broker has ended. Do not take the snapshot then.
    pub fn wait(&self, deadline: impl Into<Deadline>) -> Result<Parked> {
        let required = self.orchestrator.required();
        self.orchestrator
            .wait_for_phase(Phase::Quiesce, self.number, required, deadline.into())
    }

    /// Names the tracked watchers that have not acknowledged the phase.
    ///
    /// # Errors
    ///
    /// As [`Orchestrator::stragglers`].
    pub fn stragglers(&self) -> Result<Vec<Straggler>> {
        self.orchestrator.stragglers_for(Awaited::Phase)
    }

    /// Resumes the programs, and waits until they have resumed, as [`Orchestrator::resume`].
    ///
    /// # Errors
    ///
    /// As that; and [`is_stale`](Error::is_stale) if the phase had ended before this call, so that programs
    /// may not have been at rest when the snapshot was taken.
    pub fn resume(mut self, deadline: impl Into<Deadline>) -> Result<Parked> {
        let deadline = deadline.into();
        let answer_by = self.orchestrator.answer_by(deadline);
        let look = self.orchestrator.watcher();
        let look = look.wait_parking(Phase::Quiesce, self.number, Duration::ZERO.into());
        let number = self.orchestrator.set_phase(Phase::Running, answer_by)?;
        self.is_left = true;
        let running = self.orchestrator.wait_for_running(number, deadline)?;
        match look {
            Err(ended) if ended.is_stale() => Err(ended),
            // It stood after the snapshot, whatever else the look found.
            _ => Ok(running),
        }
    }

    /// Leaves the programs at rest, for another process that resumes them with [`Orchestrator::resume`].
    pub fn leave(mut self) {
        self.is_left = true;
    }
}

impl Drop for Quiescing<'_> {
    fn drop(&mut self) {
        if !self.is_left {
            // In a forked child this fails, and the parent's programs stay at rest.
            let at_once = Deadline::after(LOOK_TIME);
            let _ = self.orchestrator.set_phase(Phase::Running, at_once);
        }
    }
}
