// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the thread does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use super::running::Running;
use super::{BackgroundError, BackgroundEvent, Report};
use crate::base::{Deadline, Generation};
use crate::hooks::runner::run_for;
use crate::watch::{Acknowledged, Change, Changes};

/// How long to leave a system alone that has no memory to wait with.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) fn work(
    running: &Running,
    changes: Changes,
    first: Option<Change>,
    report: Option<&Report>,
) {
    let mut watching = Watching {
        changes,
        _end: End(running),
    };
    let worker = Worker { running, report };
    let mut next = first;
    while !running.is_stopping() {
        let change = match next.take() {
            Some(change) => Ok(change),
            None => watching
                .changes
                .wait_with(Deadline::NEVER, |changes| worker.note(changes)),
        };
        match change {
            Ok(change) => worker.handle(change),
            // By `stop`.
            Err(error) if error.is_interrupted() => {}
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
    report: Option<&'a Report>,
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
    fn handle(&self, change: Change) {
        let generation = change.generation();
        let ran = match run_for(&change) {
            Ok(ran) => ran,
            Err(errors) => return self.fail(generation, BackgroundError::hooks_failed(errors)),
        };
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
