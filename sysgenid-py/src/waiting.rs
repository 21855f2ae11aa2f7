// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls that may wait: without the GIL, and so that Ctrl-C ends them.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::time::Duration;

use pyo3::prelude::*;
use rustix::process::getpid;
use rustix::thread::gettid;
use sysgenid::adapter::{self, Reconnected, Reconnector};
use sysgenid::{Deadline, Error, Result};

use crate::errors::raise;

/// How long a signal may stay unnoticed that comes between Python's look for it and the sleep.
const SLICE: Duration = Duration::from_secs(1);

/// The same for a call that asks a broker, which gets as long for one answer as it does when a watcher
/// is opened. To ask again sooner would give up the place among those who wait for an answer.
const ANSWER_SLICE: Duration = Duration::from_secs(5);

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

/// Makes a call that waits until the deadline at most: for a change, or for the watchers.
pub(crate) fn wait<T: Send>(
    py: Python<'_>,
    deadline: Deadline,
    wait: impl Fn(Deadline) -> Result<T> + Send + Sync,
) -> PyResult<T> {
    let is_too_soon = |error: &Error| error.is_timeout() || error.is_missing();
    in_slices(py, deadline, SLICE, is_too_soon, wait)
}

/// Asks a broker what may be asked again, until the deadline at most.
pub(crate) fn ask<T: Send>(
    py: Python<'_>,
    deadline: Deadline,
    ask: impl Fn(Deadline) -> Result<T> + Send + Sync,
) -> PyResult<T> {
    in_slices(py, deadline, ANSWER_SLICE, Error::is_timeout, ask)
}

/// Tries to connect to a broker again, until the deadline at most. The watcher is not held meanwhile:
/// `reconnector` says what to connect, or that the watcher was closed.
pub(crate) fn reconnect(
    py: Python<'_>,
    deadline: Deadline,
    reconnector: impl Fn() -> PyResult<Result<Reconnector>> + Send + Sync,
) -> PyResult<Reconnected> {
    let is_too_soon = |error: &Error| error.is_timeout() || error.is_lost();
    let connect = |slice: Deadline| match reconnector() {
        Ok(reconnector) => reconnector?.connect(slice).map(Ok),
        Err(closed) => Ok(Err(closed)),
    };
    in_slices(py, deadline, ANSWER_SLICE, is_too_soon, connect)?
}

/// Makes a call again and again, each time for a slice of the time, as long as it fails with what may
/// be otherwise at the end of the next one. A thread that takes no signals makes it once.
fn in_slices<T: Send>(
    py: Python<'_>,
    deadline: Deadline,
    length: Duration,
    is_too_soon: impl Fn(&Error) -> bool,
    call: impl Fn(Deadline) -> Result<T> + Send + Sync,
) -> PyResult<T> {
    let is_main = gettid() == getpid();
    loop {
        py.check_signals()?;
        let slice = match deadline.remaining() {
            Some(left) if left <= length => deadline,
            _ if is_main => Deadline::after(length),
            _ => deadline,
        };
        match py.detach(|| adapter::interruptible(on_signal, || call(slice))) {
            Err(error) if is_too_soon(&error) && slice != deadline && !deadline.has_passed() => {}
            outcome => return outcome.map_err(|error| raised(py, &error)),
        }
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
