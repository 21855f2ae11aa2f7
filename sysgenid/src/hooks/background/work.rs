// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the thread does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use super::parking::{Parking, Step};
use super::running::Running;
use super::{BackgroundError, BackgroundEvent, Report};
use crate::base::Generation;
use crate::hooks::runner::{run_after_snapshot, run_before_snapshot, run_for};
use crate::watch::{Acknowledged, Change, Changes};

/// How long to leave a system alone that has no memory to wait with.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) fn work(
    running: &Running,
    changes: Changes,
    first: Option<Change>,
    limit: Option<Duration>,
    report: Option<&Report>,
) {
    let mut watching = Watching {
        changes,
        _end: End(running),
    };
    let mut worker = Worker {
        running,
        limit,
        report,
        parking: Parking::new(running.is_parked()),
    };
    let mut next = first;
    while !running.is_stopping() {
        let changes = &mut watching.changes;
        let change = match next.take() {
            Some(change) => Ok(Some(change)),
            None => changes.wait_with(worker.parking.deadline(), |changes| {
                worker.note(changes);
                worker.parking.next(changes).is_some()
            }),
        };
        match change {
            Ok(Some(change)) => worker.handle(change),
            Ok(None) => {
                if let Some(step) = worker.parking.next(changes) {
                    worker.take(step, changes);
                }
            }
            // By `stop`, or because it is time to try a step again.
            Err(error) if error.is_interrupted() || error.is_timeout() => {}
            Err(error) => {
                running.set_error(Some(BackgroundError::source_failed(error)));
                thread::sleep(PAUSE);
            }
        }
    }
}

/// Is dropped whichever way the thread ends: what is open is closed when the end is told of.
struct Watching<'a> {
    changes: Changes,
    _end: End<'a>,
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.changes.resign();
    }
}

struct End<'a>(&'a Running);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.set_ended();
    }
}

struct Worker<'a> {
    running: &'a Running,
    limit: Option<Duration>,
    report: Option<&'a Report>,
    parking: Parking,
}

impl Worker<'_> {
    fn note(&self, changes: &Changes) {
        match self.running.note(changes) {
            Some(true) => self.report(&BackgroundEvent::Lost),
            Some(false) => self.report(&BackgroundEvent::Found),
            None => {}
        }
    }

    /// Acknowledges if all hooks have succeeded. A change that is dropped is told of again.
    fn handle(&mut self, change: Change) {
        let generation = change.generation();
        let ran = match run_for(&change, self.limit) {
            Ok(ran) => ran,
            Err(errors) => return self.fail(generation, BackgroundError::hooks_failed(errors)),
        };
        // They have undone what those before a snapshot had prepared.
        self.unpark();
        match change.acknowledge() {
            Ok(Acknowledged::Yes) => {
                self.running.set_error(None);
                let ran = &ran;
                self.report(&BackgroundEvent::Handled { generation, ran });
            }
            // The newer one is told of next.
            Ok(Acknowledged::Overtaken) => {}
            Err(error) => self.fail(generation, BackgroundError::source_failed(error)),
        }
    }

    /// Follows the broker's phase. A step that fails is taken again.
    fn take(&mut self, step: Step, changes: &Changes) {
        let is_taken = match step {
            Step::Rest(number) => self.rest(number, changes),
            Step::GoOn => self.go_on(),
            Step::Acknowledge(number) => match changes.acknowledge_phase(number) {
                Ok(()) => true,
                // Nobody waits for what the next broker does not ask for.
                Err(error) => error.is_lost(),
            },
        };
        if is_taken {
            self.parking.succeeded();
        } else {
            self.parking.failed(step);
        }
    }

    fn rest(&mut self, number: u32, changes: &Changes) -> bool {
        // Before they run: whatever becomes of them, those after a restore are to follow.
        self.parking.park(number);
        self.running.set_parked(true);
        let ran = run_before_snapshot().map_err(BackgroundError::hooks_failed);
        let done = ran.and_then(|ran| {
            let told = changes.acknowledge_phase(number);
            told.map_err(BackgroundError::source_failed)?;
            Ok(ran)
        });
        match done {
            Ok(ran) => {
                self.running.set_error(None);
                self.report(&BackgroundEvent::Resting { ran: &ran });
                true
            }
            Err(error) => {
                self.running.set_error(Some(error.clone()));
                self.report(&BackgroundEvent::NotResting { error: &error });
                false
            }
        }
    }

    fn go_on(&mut self) -> bool {
        let generation = self.running.handled().generation();
        let generation = generation.unwrap_or_else(crate::check::generation);
        match run_after_snapshot(generation) {
            Ok(ran) => {
                self.unpark();
                self.running.set_error(None);
                let ran = &ran;
                self.report(&BackgroundEvent::Handled { generation, ran });
                true
            }
            Err(errors) => {
                self.fail(generation, BackgroundError::hooks_failed(errors));
                false
            }
        }
    }

    fn unpark(&mut self) {
        self.parking.unpark();
        self.running.set_parked(false);
    }

    fn fail(&self, generation: Generation, error: BackgroundError) {
        self.running.set_error(Some(error.clone()));
        let error = &error;
        self.report(&BackgroundEvent::Failed { generation, error });
    }

    fn report(&self, event: &BackgroundEvent<'_>) {
        if let Some(report) = self.report {
            // The thread goes on, whatever becomes of the log.
            let _ = catch_unwind(AssertUnwindSafe(|| report(event)));
        }
    }
}
