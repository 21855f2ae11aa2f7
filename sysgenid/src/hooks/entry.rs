// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One registered function, and how it is called so that neither a panic nor a hang gets out.

use std::any::Any;
use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use sysgenid_sys::internal::fork;

use super::context::HookContext;
use super::failure::{BoxError, Reason};
use super::options::OnFailure;
use crate::base::{Deadline, interrupt};
#[cfg(feature = "testing")]
use crate::check::world::{Home, carried};
use crate::check::{ProcessWide, Uniqueness, Witness};

/// How long a signal may stay unnoticed by a caller that asked to be told of signals.
const SLICE: Duration = Duration::from_millis(100);

thread_local! {
    /// The process in which this thread runs a hook; 0 if it does not. A child that was forked by a
    /// hook has another number, and runs hooks itself if it likes.
    static RUNS_IN: Cell<u32> = const { Cell::new(0) };
}

/// Whether the calling thread is inside a hook.
pub(super) fn is_in_hook() -> bool {
    RUNS_IN.get() == fork::process()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    BeforeSnapshot,
    AfterRestore,
}

pub(super) type Function = Box<dyn Fn(&HookContext) -> Result<(), BoxError> + Send + Sync>;

pub(super) struct Entry {
    pub(super) name: Cow<'static, str>,
    pub(super) kind: Kind,
    pub(super) limit: Option<Duration>,
    pub(super) on_failure: OnFailure,
    pub(super) function: Function,
    /// Relaxed: a hook that is unregistered while others run is skipped from some moment on, and
    /// no other memory is published with it.
    pub(super) is_registered: AtomicBool,
    /// The process in which a thread runs the function past its deadline, or may come to do so; 0 if
    /// none does. A forked child does not have that thread.
    pub(super) runs_in: AtomicU32,
    /// What the process saw when this was registered, or when a call of it that succeeded began.
    pub(super) seen: ArcSwap<Uniqueness>,
    #[cfg(feature = "testing")]
    pub(super) home: Home,
}

impl Entry {
    /// Whether something but a fork has happened since.
    pub(super) fn has_missed(&self) -> bool {
        self.seen.load().without_fork() != ProcessWide.mark().without_fork()
    }

    /// Calls the function, and returns at its deadline whether or not it has ended. One without a deadline
    /// has `limit`.
    pub(super) fn run(
        self: &Arc<Self>,
        mut context: HookContext,
        limit: Option<Duration>,
    ) -> Result<(), Reason> {
        let seen = ProcessWide.mark();
        let ran = match self.limit.or(limit) {
            None => self.call(&context),
            Some(limit) => {
                context.deadline = Deadline::after(limit);
                self.run_on_a_thread(context)
            }
        };
        if ran.is_ok() {
            self.seen.store(Arc::new(seen));
        }
        ran
    }

    fn run_on_a_thread(self: &Arc<Self>, context: HookContext) -> Result<(), Reason> {
        let process = fork::process();
        // Relaxed, here: only the run, of which there is one, ever sets it in this process.
        if self.runs_in.load(Ordering::Relaxed) == process {
            return Err(Reason::StillRunning);
        }
        self.runs_in.store(process, Ordering::Relaxed);
        let deadline = context.deadline;
        let (sender, receiver) = sync_channel(1);
        let entry = Arc::clone(self);
        let work = move || {
            let outcome = entry.call(&context);
            // Before the outcome: a run that has been told of it may run the hook again.
            entry.is_done(process);
            // The run may not wait for it any more.
            let _ = sender.send(outcome);
        };
        #[cfg(feature = "testing")]
        let work = carried(work);
        let started = thread::Builder::new()
            .name("sysgenid-hook".to_owned())
            .spawn(work);
        match started {
            Ok(_detached) => await_outcome(&receiver, deadline),
            Err(error) => {
                self.is_done(process);
                Err(Reason::NoThread(error))
            }
        }
    }

    fn is_done(&self, process: u32) {
        // If the hook forked, the copy of its thread ends in the child, where another thread may
        // run the function by now.
        if fork::process() == process {
            self.runs_in.store(0, Ordering::Relaxed);
        }
    }

    /// Calls the function on this thread.
    fn call(&self, context: &HookContext) -> Result<(), Reason> {
        struct Restore(u32);
        impl Drop for Restore {
            fn drop(&mut self) {
                RUNS_IN.set(self.0);
            }
        }
        let _restore = Restore(RUNS_IN.replace(fork::process()));
        match catch_unwind(AssertUnwindSafe(|| (self.function)(context))) {
            Ok(outcome) => outcome.map_err(Reason::Failed),
            Err(payload) => Err(Reason::Panicked(message_of(payload))),
        }
    }
}

/// Until the hook has ended, or its deadline; a signal ends the wait if the caller said so.
fn await_outcome(outcome: &Receiver<Result<(), Reason>>, deadline: Deadline) -> Result<(), Reason> {
    loop {
        let left = deadline.remaining();
        let slice = match left {
            Some(left) if !interrupt::is_asked() => left,
            Some(left) => left.min(SLICE),
            None => SLICE,
        };
        match outcome.recv_timeout(slice) {
            Ok(outcome) => return outcome,
            // It cannot be: the thread sends, whatever the function does.
            Err(RecvTimeoutError::Disconnected) => return Err(Reason::StillRunning),
            Err(RecvTimeoutError::Timeout) if deadline.has_passed() => {
                return Err(Reason::TimedOut);
            }
            Err(RecvTimeoutError::Timeout) => {
                interrupt::signalled().map_err(|error| Reason::Interrupted(Box::new(error)))?;
            }
        }
    }
}

/// What a panic said.
fn message_of(payload: Box<dyn Any + Send>) -> String {
    let message = payload
        .downcast_ref::<&str>()
        .map(|message| (*message).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned());
    // The destructor of a payload may panic as well.
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(another);
    }
    message.unwrap_or_else(|| "without a message".to_owned())
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}
