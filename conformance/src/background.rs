// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls that block, on a thread of their own.

use std::fs;
use std::os::unix::thread::JoinHandleExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::thread::gettid;

use crate::suite::reason;

/// How long to wait for what must happen. Generous: only a failed case waits for so long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long to look for what must not happen. A slow machine makes such a check weaker, not wrong.
pub const GLANCE: Duration = Duration::from_millis(150);

/// A call under way.
pub(crate) struct Background<T> {
    thread: JoinHandle<()>,
    tid: i32,
    result: Receiver<Result<T, String>>,
}

impl<T: Send + 'static> Background<T> {
    /// Starts `call`, and returns once it sleeps in the kernel or has returned.
    pub(crate) fn start(call: impl FnOnce() -> T + Send + 'static) -> Self {
        let background = Self::start_without_waiting(call);
        background.wait_until_asleep();
        background
    }

    /// Starts `call`.
    pub(crate) fn start_without_waiting(call: impl FnOnce() -> T + Send + 'static) -> Self {
        let (tell_tid, tid) = mpsc::channel();
        let (tell_result, result) = mpsc::channel();
        let thread = thread::spawn(move || {
            let _ = tell_tid.send(gettid().as_raw_nonzero().get());
            let ended = catch_unwind(AssertUnwindSafe(call)).map_err(|payload| reason(&*payload));
            let _ = tell_result.send(ended);
        });
        let tid = tid.recv().expect("the thread starts");
        Self {
            thread,
            tid,
            result,
        }
    }

    /// That the call has not returned yet, and does not while one glances at it.
    pub(crate) fn expect_blocked(&self, why: &str) {
        match self.result.recv_timeout(GLANCE) {
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => panic!("a blocked call vanished: {why}"),
            Ok(Ok(_)) => panic!("a call returned that should block: {why}"),
            Ok(Err(reason)) => panic!("a call panicked that should block ({why}): {reason}"),
        }
    }

    /// What the call returns, which must be soon.
    pub(crate) fn finish(self, why: &str) -> T {
        self.finish_within(PATIENCE, why)
    }

    pub(crate) fn finish_within(self, patience: Duration, why: &str) -> T {
        match self.result.recv_timeout(patience) {
            Ok(result) => result.unwrap_or_else(|reason| panic!("{why}: {reason}")),
            Err(error) => panic!("a call is blocked after {patience:?} ({error}): {why}"),
        }
    }

    /// Whether the call has returned.
    pub(crate) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Lets it end, if it does soon.
    pub(crate) fn give_up(self, patience: Duration) {
        let _ = self.result.recv_timeout(patience);
    }

    /// Sends the thread a signal that is caught.
    pub(crate) fn signal(&self, signal: Signal) {
        catch_signals();
        // SAFETY: The thread has not been joined or detached, so its handle names it or what is
        // left of it, and the signal has a handler.
        let code = unsafe { libc::pthread_kill(self.thread.as_pthread_t(), signal.number()) };
        assert!(
            code == 0 || code == libc::ESRCH,
            "pthread_kill: error {code}"
        );
    }

    /// Sends signals until the call returns, and returns what it does. One could come just before
    /// the call sleeps.
    pub(crate) fn signal_until_finished(self, signal: Signal, why: &str) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            self.signal(signal);
            match self.result.recv_timeout(Duration::from_millis(20)) {
                Ok(result) => return result.unwrap_or_else(|reason| panic!("{why}: {reason}")),
                Err(RecvTimeoutError::Timeout) if Instant::now() < end => {}
                Err(error) => panic!("signals do not end the call ({error}): {why}"),
            }
        }
    }

    /// Best effort: it makes the checks stronger, and none depends on it.
    fn wait_until_asleep(&self) {
        let stat = format!("/proc/self/task/{}/stat", self.tid);
        let asleep = || {
            // The state comes after the command's name, which is in parentheses.
            fs::read_to_string(&stat).is_ok_and(|text| {
                text.rsplit(')')
                    .next()
                    .is_some_and(|rest| rest.starts_with(" S"))
            })
        };
        // Twice, because the thread may sleep a moment for another reason before.
        let mut seen = 0;
        let end = Instant::now() + Duration::from_secs(2);
        while seen < 2 && !self.thread.is_finished() && Instant::now() < end {
            thread::sleep(Duration::from_millis(2));
            seen = if asleep() { seen + 1 } else { 0 };
        }
    }
}

/// How a call that was interrupted goes on, if the kernel's driver leaves that to the caller.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    /// It ends.
    Ends,
    /// It is restarted.
    Restarts,
}

impl Signal {
    fn number(self) -> libc::c_int {
        match self {
            Self::Ends => libc::SIGUSR1,
            Self::Restarts => libc::SIGUSR2,
        }
    }

    fn flags(self) -> libc::c_int {
        match self {
            Self::Ends => 0,
            Self::Restarts => libc::SA_RESTART,
        }
    }
}

/// Makes the signals interrupt system calls, and do nothing else.
fn catch_signals() {
    extern "C" fn ignore(_signal: libc::c_int) {}
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for signal in [Signal::Ends, Signal::Restarts] {
            // SAFETY: All zeros is a valid `sigaction`, with an empty mask. The handler does
            // nothing, so it is safe at any moment.
            let code = unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as libc::sighandler_t;
                action.sa_flags = signal.flags();
                libc::sigaction(signal.number(), &raw const action, std::ptr::null_mut())
            };
            assert_eq!(code, 0, "sigaction: {}", std::io::Error::last_os_error());
        }
    });
}
