// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is asked of the runtime: to wait for a descriptor, and for calls that may wait.

use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use sysgenid::adapter::{self, Reconnected, Reconnector};
use sysgenid::{Deadline, Error, Result, Source};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

const NO_RUNTIME: &str = "there is no tokio runtime here; call this within `Runtime::block_on` or a \
                          task, or use the crate sysgenid without a runtime";
const SHUTTING_DOWN: &str =
    "the tokio runtime is shutting down, so nothing can wait in it any more";

/// The runtime that this code runs in.
pub(crate) fn current(source: Option<&Source>) -> Result<Handle> {
    Handle::try_current().map_err(|_| adapter::no_runtime(NO_RUNTIME, source))
}

/// Has the current runtime wait for it to be readable. Gives it back if it cannot.
pub(crate) fn register<T: AsRawFd>(
    what: T,
    source: Option<&Source>,
) -> Result<AsyncFd<T>, (T, Error)> {
    if let Err(error) = current(source) {
        return Err((what, error));
    }
    #[expect(
        deprecated,
        reason = "its successor has the caller vouch for what types that give away or change their \
                  descriptor break; those of this project own one, and keep it while registered"
    )]
    AsyncFd::try_with_interest(what, Interest::READABLE).map_err(|refused| {
        let (what, error) = refused.into_parts();
        (what, not_registered(&error, source))
    })
}

/// The runtime has ended, or is about to.
pub(crate) fn shutting_down() -> Error {
    adapter::no_runtime(SHUTTING_DOWN, None)
}

/// Why the runtime does not wait for a descriptor, or does not any more.
pub(crate) fn not_registered(error: &io::Error, source: Option<&Source>) -> Error {
    match error.raw_os_error() {
        Some(_) => adapter::not_registered(error, source),
        // No system call failed: the runtime says so itself.
        None => adapter::no_runtime(SHUTTING_DOWN, source),
    }
}

/// Has a thread of the runtime's make a call that may wait, though for seconds at most. If the
/// future is dropped, the call goes on to its end, and its result is dropped there.
///
/// It is the pool of the runtime, and no thread of our own, because a paused clock stands still
/// while the pool works: otherwise each timeout around such a call would pass at once.
pub(crate) async fn call<T: Send + 'static>(
    source: Option<&Source>,
    call: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match current(source)?.spawn_blocking(call).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(adapter::no_runtime(SHUTTING_DOWN, source)),
    }
}

/// The longest that an attempt to reconnect goes on when nobody waits for it any more.
const ATTEMPT: Duration = Duration::from_secs(1);

/// Connects to a broker again, until the deadline, in attempts that each end soon.
pub(crate) async fn reconnect(
    source: Option<&Source>,
    deadline: Deadline,
    mut reconnector: Reconnector,
) -> Result<Reconnected> {
    loop {
        // Counted from now on, also if the call must wait for a thread.
        let until = Instant::now() + deadline.remaining().unwrap_or(ATTEMPT).min(ATTEMPT);
        let connected;
        (reconnector, connected) = call(source, move || {
            let connected = reconnector.connect(until);
            Ok((reconnector, connected))
        })
        .await?;
        match connected {
            Err(error) if adapter::may_reconnect(&error) && !deadline.has_passed() => {}
            outcome => return outcome,
        }
    }
}
