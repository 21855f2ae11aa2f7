// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls that may wait: without the GIL, and so that Ctrl-C ends them.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::time::Duration;

use pyo3::prelude::*;
use rustix::process::getpid;
use rustix::thread::gettid;
use sysgenid::{Deadline, Error, Result, adapter};

use crate::errors::raise;

/// How long a signal may stay unnoticed that comes between Python's look for it and the sleep.
const SLICE: Duration = Duration::from_secs(1);

thread_local! {
    /// What Python's handler of a signal raised.
    static RAISED: Cell<Option<PyErr>> = const { Cell::new(None) };
}

/// Python's own handler of a signal is called by the main thread only, and between its instructions:
/// the handler in C has left a note.
fn on_signal() -> ControlFlow<()> {
    Python::attach(|py| match py.check_signals() {
        Ok(()) => ControlFlow::Continue(()),
        Err(raised) => {
            RAISED.set(Some(raised));
            ControlFlow::Break(())
        }
    })
}

/// Makes a call that waits for nothing but an answer.
pub(crate) fn call<T: Send>(
    py: Python<'_>,
    call: impl FnOnce() -> Result<T> + Send,
) -> PyResult<T> {
    py.check_signals()?;
    py.detach(|| adapter::interruptible(on_signal, call))
        .map_err(|error| raised(py, &error))
}

/// Makes a call that waits until the deadline at most.
pub(crate) fn wait<T: Send>(
    py: Python<'_>,
    deadline: Deadline,
    wait: impl Fn(Deadline) -> Result<T> + Send + Sync,
) -> PyResult<T> {
    loop {
        py.check_signals()?;
        let slice = slice_of(deadline);
        match py.detach(|| adapter::interruptible(on_signal, || wait(slice))) {
            Err(error) if error.is_timeout() && slice != deadline && !deadline.has_passed() => {}
            outcome => return outcome.map_err(|error| raised(py, &error)),
        }
    }
}

/// The whole time for a thread that takes no signals.
fn slice_of(deadline: Deadline) -> Deadline {
    let is_main = gettid() == getpid();
    match deadline.remaining() {
        Some(left) if left <= SLICE => deadline,
        _ if is_main => Deadline::after(SLICE),
        _ => deadline,
    }
}

fn raised(py: Python<'_>, error: &Error) -> PyErr {
    if error.is_interrupted() {
        if let Some(raised) = RAISED.take() {
            return raised;
        }
    }
    raise(py, error)
}
