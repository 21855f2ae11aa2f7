// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::fmt::Debug;
use std::thread;
use std::time::{Duration, Instant};

use sysgenid_broker::model::{
    Awaited, Ended, Model, Occasion, Outcome, Refusal, Wait, WaitId, WatcherId,
};

use super::device::{Counts, Device, Waited, Watcher};
use super::operation::Operation;
use crate::background::Background;

/// How long a wait lasts that is expected to time out.
const MOMENT: Duration = Duration::from_millis(2);

/// A device and the model of it, at the same point of a sequence.
pub(super) struct Comparison<'a> {
    device: &'a dyn Device,
    /// How long what must happen may take.
    patience: Duration,
    model: Model,
    /// Those that can be called.
    idle: Vec<(WatcherId, Box<dyn Watcher>)>,
    /// Those that wait. One cannot be called meanwhile.
    waiting: Vec<(WaitId, WatcherId, Background<WaitedFor>)>,
}

type WaitedFor = (Waited, Box<dyn Watcher>);
type Result<T = (), E = String> = std::result::Result<T, E>;

impl<'a> Comparison<'a> {
    /// The device without watchers, wherever its counter stands.
    pub(super) fn new(device: &'a dyn Device, patience: Duration) -> Self {
        Self {
            device,
            patience,
            model: Model::new(device.page()),
            idle: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// Does the same to both; the error says where they differ.
    pub(super) fn run(mut self, sequence: &[Operation]) -> Result {
        for operation in sequence {
            self.step(*operation)
                .map_err(|reason| format!("{operation:?}: {reason}"))?;
            same("page", self.device.page(), self.model.generation())?;
            self.check_waiting()?;
        }
        self.check_idle()?;
        // Nobody who waits is outdated, so the waits end when the others have gone.
        while !self.idle.is_empty() {
            self.step(Operation::Close(0))
                .map_err(|reason| format!("closing all: {reason}"))?;
        }
        self.check_waiting()
    }

    fn step(&mut self, operation: Operation) -> Result {
        match operation {
            Operation::Open { tracked } => {
                let id = self.model.open(tracked, None);
                self.idle.push((id, self.device.open(tracked)));
                Ok(())
            }
            Operation::Trigger(minimum) => {
                let min = minimum.number(self.model.generation());
                let ended = self.model.trigger(min, Occasion::default());
                same(
                    "generation",
                    self.device.trigger(min),
                    self.model.generation(),
                )?;
                self.finish(&ended)
            }
            Operation::Count => self.count(),
            Operation::Close(number) => {
                let Some(index) = self.pick(number) else {
                    return Ok(());
                };
                let (id, watcher) = self.idle.swap_remove(index);
                drop(watcher);
                let ended = self.model.close(id);
                self.finish(&ended)
            }
            Operation::Acknowledge(number) => self.acknowledge(number, 0),
            Operation::AcknowledgeStale(number, distance) => self.acknowledge(number, distance),
            Operation::SetTracking(number, tracked) => {
                let Some(index) = self.pick(number) else {
                    return Ok(());
                };
                let (id, watcher) = &self.idle[index];
                watcher.set_tracking(tracked);
                let ended = self
                    .model
                    .set_tracking(*id, tracked)
                    .map_err(|r| r.to_string())?;
                self.finish(&ended)
            }
            Operation::Read(number) => {
                let Some(index) = self.pick(number) else {
                    return Ok(());
                };
                let (id, watcher) = &self.idle[index];
                same("read", watcher.read(), self.model.read(*id))
            }
            Operation::Poll(number) => {
                let Some(index) = self.pick(number) else {
                    return Ok(());
                };
                let (id, watcher) = &self.idle[index];
                same("readiness", watcher.is_ready(), self.model.is_outdated(*id))
            }
            Operation::Wait(number) => self.wait(number),
            Operation::StartWait(number) => self.start_wait(number),
        }
    }

    fn acknowledge(&mut self, number: u8, distance: i8) -> Result {
        let Some(index) = self.pick(number) else {
            return Ok(());
        };
        let (id, watcher) = &self.idle[index];
        let generation = self.model.generation().wrapping_add_signed(distance.into());
        let (accepted, ended) = match self.model.acknowledge(*id, generation) {
            Ok(ended) => (true, ended),
            Err(Refusal::Stale) => (false, Vec::new()),
            Err(refusal) => return Err(refusal.to_string()),
        };
        same("acceptance", watcher.acknowledge(generation), accepted)?;
        self.finish(&ended)
    }

    fn wait(&mut self, number: u8) -> Result {
        let Some(index) = self.pick(number) else {
            return Ok(());
        };
        let (id, watcher) = &mut self.idle[index];
        let wait = self.model.wait(Some(*id), Awaited::Generation);
        let (timeout, expected) = match wait.map_err(|r| r.to_string())? {
            Wait::Ended(outcome) => (self.patience, waited(outcome)),
            Wait::Pending(wait) => {
                self.model.cancel_wait(wait);
                (MOMENT, Waited::TimedOut)
            }
        };
        same("wait", watcher.wait(timeout), expected)
    }

    fn start_wait(&mut self, number: u8) -> Result {
        let Some(index) = self.pick(number) else {
            return Ok(());
        };
        let own = Some(self.idle[index].0);
        let Ok(Wait::Pending(pending)) = self.model.wait(own, Awaited::Generation) else {
            // Over at once, as `Wait` tries.
            return Ok(());
        };
        let (id, mut watcher) = self.idle.swap_remove(index);
        let timeout = 2 * self.patience;
        let wait = Background::start(move || (watcher.wait(timeout), watcher));
        self.waiting.push((pending, id, wait));
        Ok(())
    }

    /// Joins the waits that the model says have ended.
    fn finish(&mut self, ended: &[Ended]) -> Result {
        for end in ended {
            let Some(index) = self.waiting.iter().position(|(it, ..)| *it == end.wait) else {
                return Err(format!("the model ended a wait that nobody began: {end:?}"));
            };
            let (_, id, wait) = self.waiting.swap_remove(index);
            let (result, watcher) =
                wait.finish_within(self.patience, "the model says that the wait is over");
            self.idle.push((id, watcher));
            same("end of a wait", result, waited(end.outcome))?;
        }
        // Whichever ended first, the order of those that can be called is the same in every run.
        self.idle.sort_by_key(|(id, _)| *id);
        Ok(())
    }

    /// That the waits have not ended that the model says have not.
    fn check_waiting(&self) -> Result {
        match self.waiting.iter().find(|(.., wait)| wait.is_finished()) {
            Some((_, id, _)) => Err(format!(
                "the wait of watcher {} is over too early",
                id.number()
            )),
            None => Ok(()),
        }
    }

    fn check_idle(&self) -> Result {
        for (id, watcher) in &self.idle {
            let which = format!("at the end, watcher {}", id.number());
            same(&which, watcher.read(), self.model.read(*id))?;
            same(&which, watcher.is_ready(), self.model.is_outdated(*id))?;
        }
        Ok(())
    }

    /// A broker reads acknowledgements and the end of a connection a moment later.
    fn count(&self) -> Result {
        let expected = Counts {
            total: self.model.watchers(),
            tracked: self.model.tracked(),
            outdated: self.model.outdated(),
        };
        let end = Instant::now() + self.patience;
        loop {
            match self.device.counts() {
                None => return Ok(()),
                Some(counts) if counts == expected => return Ok(()),
                Some(counts) if Instant::now() > end => return same("counts", counts, expected),
                Some(_) => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    fn pick(&self, number: u8) -> Option<usize> {
        usize::from(number).checked_rem(self.idle.len())
    }
}

impl Drop for Comparison<'_> {
    /// Ends the waits that a failed sequence leaves: they would disturb the next one.
    fn drop(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        self.device.trigger(0);
        for (.., wait) in self.waiting.drain(..) {
            wait.give_up(self.patience);
        }
    }
}

fn same<T: PartialEq + Debug>(what: &str, device: T, model: T) -> Result {
    if device == model {
        return Ok(());
    }
    Err(format!(
        "{what}: the device says {device:?}, the model says {model:?}"
    ))
}

fn waited(outcome: Outcome) -> Waited {
    match outcome {
        Outcome::Done => Waited::Done,
        Outcome::Outdated => Waited::Outdated,
    }
}
