// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls that may wait: without the GIL, and so that Ctrl-C ends them.

use std::cell::Cell;
use std::error::Error as StdError;
use std::ops::ControlFlow;
use std::time::Duration;

use pyo3::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::getpid;
use rustix::thread::gettid;
use sysgenid::adapter::{self, Reconnected, Reconnector};
use sysgenid::{Deadline, Error, Generation, Result, Watcher};

use crate::errors::raise;
use crate::handle::{Closing, Wake, closed};
use crate::hub::Hub;

/// How long a signal may stay unnoticed that comes between Python's look for it and the sleep.
const SLICE: Duration = Duration::from_secs(1);

/// The same for a call that asks a broker, which gets as long for one answer as it does when a watcher
/// is opened. To ask again sooner would give up the place among those who wait for an answer.
const ANSWER_SLICE: Duration = Duration::from_secs(5);

/// How long one look may last where greenlets of the same thread wait to run, and how long they run
/// then.
const LOOK: Duration = Duration::from_millis(5);
const PAUSE: Duration = Duration::from_millis(20);

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

/// Makes a call that calls Python functions on its way, and may wait for another thread.
pub(crate) fn run<T: Send>(py: Python<'_>, run: impl FnOnce() -> T + Send) -> PyResult<T> {
    call(py, || Ok(run()))
}

/// What a handler of a signal raised, if it is that which ended a wait with this error.
pub(crate) fn ending(error: Option<&(dyn StdError + Send + Sync + 'static)>) -> Option<PyErr> {
    let error: &Error = error?.downcast_ref()?;
    error.is_interrupted().then(|| RAISED.take()).flatten()
}

/// Waits until a watcher is outdated, until the deadline at most, or until it is closed.
pub(crate) fn change(
    py: Python<'_>,
    deadline: Deadline,
    watcher: &Watcher,
    handle: &dyn Closing,
) -> PyResult<Generation> {
    py.check_signals()?;
    let hub = Hub::installed(py)?;
    let mut wake = None;
    loop {
        if let Some(generation) = watcher.try_changed().map_err(|error| raise(py, &error))? {
            return Ok(generation);
        }
        if deadline.has_passed() {
            // Which finds the same, and says so.
            return watcher.wait(deadline).map_err(|error| raise(py, &error));
        }
        let wake = match &mut wake {
            Some(wake) => wake,
            none => none.insert(Wake::when_closed(handle)?),
        };
        // Only the main thread takes signals.
        let slice = match deadline.remaining() {
            left if gettid() != getpid() => left,
            left => Some(left.map_or(SLICE, |left| left.min(SLICE))),
        };
        match &hub {
            Some(hub) => hub.wait(watcher, wake.fd(), slice)?,
            None => py.detach(|| sleep(watcher, wake, slice))?,
        }
        py.check_signals()?;
        wake.check()?;
    }
}

/// Waits until one of the two is readable, a signal has come, or the time is over.
fn sleep(watcher: &Watcher, wake: &Wake<'_>, time: Option<Duration>) -> std::io::Result<()> {
    let mut fds = [
        PollFd::new(watcher, PollFlags::IN),
        PollFd::new(wake.fd(), PollFlags::IN),
    ];
    // Rounded up, so that a wait is not over before its time.
    let time = time.and_then(|time| Timespec::try_from(time + Duration::from_nanos(1)).ok());
    match poll(&mut fds, time.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Makes a call that waits for the watchers, until the deadline at most, or until it is closed.
pub(crate) fn wait<T: Send>(
    py: Python<'_>,
    deadline: Deadline,
    handle: &dyn Closing,
    wait: impl Fn(Deadline) -> Result<T> + Send + Sync,
) -> PyResult<T> {
    let is_too_soon = |error: &Error| error.is_timeout() || error.is_missing();
    in_slices(py, deadline, SLICE, Some(handle), is_too_soon, wait)
}

/// Waits for a change of whichever source there is, until the deadline at most.
pub(crate) fn look<T: Send>(
    py: Python<'_>,
    deadline: Deadline,
    look: impl Fn(Deadline) -> Result<T> + Send + Sync,
) -> PyResult<T> {
    in_slices(py, deadline, SLICE, None, Error::is_timeout, look)
}

/// Asks a broker what may be asked again, until the deadline at most.
pub(crate) fn ask<T: Send>(
    py: Python<'_>,
    deadline: Deadline,
    ask: impl Fn(Deadline) -> Result<T> + Send + Sync,
) -> PyResult<T> {
    // Natively, also where greenlets wait to run: it is answered at once, or by a broker that hangs.
    in_slices_of(
        py,
        None,
        deadline,
        ANSWER_SLICE,
        None,
        Error::is_timeout,
        ask,
    )
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
    in_slices(py, deadline, ANSWER_SLICE, None, is_too_soon, connect)?
}

/// Makes a call again and again, each time for a slice of the time, as long as it fails with what may
/// be otherwise at the end of the next one. A thread that takes no signals makes it once, unless there
/// is something that may be closed meanwhile.
///
/// Where greenlets of the same thread wait to run, they run between short slices.
fn in_slices<T: Send>(
    py: Python<'_>,
    deadline: Deadline,
    length: Duration,
    handle: Option<&dyn Closing>,
    is_too_soon: impl Fn(&Error) -> bool,
    call: impl Fn(Deadline) -> Result<T> + Send + Sync,
) -> PyResult<T> {
    let hub = Hub::installed(py)?;
    let length = if hub.is_some() { LOOK } else { length };
    in_slices_of(py, hub, deadline, length, handle, is_too_soon, call)
}

fn in_slices_of<T: Send>(
    py: Python<'_>,
    hub: Option<Hub<'_>>,
    deadline: Deadline,
    length: Duration,
    handle: Option<&dyn Closing>,
    is_too_soon: impl Fn(&Error) -> bool,
    call: impl Fn(Deadline) -> Result<T> + Send + Sync,
) -> PyResult<T> {
    let is_main = gettid() == getpid();
    loop {
        py.check_signals()?;
        if handle.is_some_and(Closing::is_closed) {
            return Err(closed());
        }
        let slice = match deadline.remaining() {
            Some(left) if left <= length => deadline,
            _ if is_main || handle.is_some() || hub.is_some() => Deadline::after(length),
            _ => deadline,
        };
        match py.detach(|| adapter::interruptible(on_signal, || call(slice))) {
            Err(error) if is_too_soon(&error) && slice != deadline && !deadline.has_passed() => {
                if let Some(hub) = &hub {
                    hub.sleep(PAUSE)?;
                }
            }
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
