// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One builder at a time: a lock that is opened whatever happens, is not left shut in a forked child,
//! and ends with an error where waiting would never end.

use std::mem;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, TryLockError};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use rustix::io::Errno;
use rustix::process::getpid;
use rustix::thread::futex::{self, Flags, Timespec};
use rustix::thread::gettid;
use sysgenid::adapter::this_thread;

use super::Guarded;
use crate::errors;

/// How long a signal may stay unnoticed that comes between Python's look for it and the sleep. Only the
/// main thread takes signals. The others sleep until they are woken: a daemon thread that asks for the
/// interpreter when that ends would have the process abort.
const SLICE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// The thread that is building. It is as the lock of the SDK's own guarded values, but that a thread which waits lets
/// others use the interpreter, and obeys signals.
///
/// No instruction of Python's lies between the taking and the opening but those of the build itself, so
/// no signal handler can raise where the lock would stay shut.
pub(crate) struct Turn {
    /// The thread that builds, with its process in the high half; 0 if none does. One word, so that a
    /// thread can tell whether it is this one, and a forked child that it is none of its own.
    builder: AtomicU64,
    /// Which greenlet of that thread.
    greenlet: AtomicUsize,
    /// How often it was opened, which is what threads sleep on.
    opened: AtomicU32,
}

impl Turn {
    pub(super) const fn new() -> Self {
        Self {
            builder: AtomicU64::new(0),
            greenlet: AtomicUsize::new(0),
            opened: AtomicU32::new(0),
        }
    }

    fn builder(&self) -> u64 {
        // SeqCst: two threads that wait for each other both enter that, and then look. One of them is
        // the last to have entered it, and sees all of the circle.
        self.builder.load(Ordering::SeqCst)
    }

    fn sleep_while(&self, opened: u32) {
        let slice = (gettid() == getpid()).then_some(&SLICE);
        match futex::wait(&self.opened, Flags::PRIVATE, opened, slice) {
            Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => {}
            // A sandbox that has no such call.
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }

    fn wake_one(&self) {
        let _ = futex::wake(&self.opened, Flags::PRIVATE, 1);
    }
}

/// The turn, until it is dropped.
#[must_use = "the turn is over when this is dropped"]
pub(super) struct Taken<'a> {
    turn: &'a Turn,
    by: u64,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        // The copy in a forked child opens nothing: another thread there may have taken the turn over.
        if this_thread() == self.by {
            // Release: its partner is the acquire exchange of the next builder.
            self.turn.builder.store(0, Ordering::Release);
            // Release: its partner is the acquire load in `take`. So who has read the number before
            // finds the lock shut, and who sleeps on it is woken.
            self.turn.opened.fetch_add(1, Ordering::Release);
            self.turn.wake_one();
        }
    }
}

/// Waits until no other thread builds this guard's value.
///
/// Raises `ReentrantError` if that will never be: if this thread builds it, or if the one that does
/// waits, directly or not, for a guard that this thread is building. And what a signal handler raises.
pub(super) fn take<'a>(guard: &'a Bound<'_, Guarded>) -> PyResult<Taken<'a>> {
    let py = guard.py();
    let turn = &guard.get().turn;
    let me = this_thread();
    let greenlet = Greenlet::current(py)?;
    loop {
        // Before the builder. Acquire: its partner is the addition when the turn is over.
        let opened = turn.opened.load(Ordering::Acquire);
        let builder = turn.builder();
        if builder == me {
            if turn.greenlet.load(Ordering::Relaxed) == greenlet.id {
                return Err(reentrant(
                    py,
                    "the guard is in use by its own caller: a value cannot be used while it is built",
                ));
            }
            greenlet.let_others_run(py)?;
            continue;
        }
        if process_of(builder) == process_of(me) {
            let waiting = Waiting::for_turn_of(guard, me);
            if waits_for(me, builder) {
                return Err(reentrant(
                    py,
                    "two threads build values that need each other's: neither would ever end",
                ));
            }
            py.detach(|| turn.sleep_while(opened));
            drop(waiting);
            if let Err(raised) = py.check_signals() {
                // It may have been this thread that was woken.
                turn.wake_one();
                return Err(raised);
            }
            continue;
        }
        // It is free, or was left behind in the process that this one is a copy of. Acquire: its partner
        // is the release store when the turn is over.
        let taken = turn
            .builder
            .compare_exchange(builder, me, Ordering::SeqCst, Ordering::Relaxed);
        if taken.is_ok() {
            turn.greenlet.store(greenlet.id, Ordering::Relaxed);
            return Ok(Taken { turn, by: me });
        }
    }
}

fn process_of(thread: u64) -> u32 {
    (thread >> 32) as u32
}

fn reentrant(py: Python<'_>, message: &str) -> PyErr {
    errors::make(py, "ReentrantError", message)
}

/// Which of a thread's greenlets this is, where something switches between them.
struct Greenlet<'py> {
    /// 0 without greenlets.
    id: usize,
    /// gevent's or eventlet's module.
    hub: Option<Bound<'py, PyAny>>,
}

impl<'py> Greenlet<'py> {
    fn current(py: Python<'py>) -> PyResult<Self> {
        let modules = py.import("sys")?.getattr("modules")?;
        let loaded = |name: &str| modules.get_item(name).ok();
        let hub = loaded("gevent").or_else(|| loaded("eventlet"));
        let id = match (&hub, loaded("greenlet")) {
            (Some(_), Some(greenlet)) => greenlet.call_method0("getcurrent")?.as_ptr() as usize,
            _ => 0,
        };
        Ok(Self { id, hub })
    }

    /// The thread is one, so that to sleep would keep the builder from its end.
    fn let_others_run(&self, py: Python<'py>) -> PyResult<()> {
        if let Some(hub) = &self.hub {
            hub.call_method1("sleep", (0.001,))?;
        }
        py.check_signals()
    }
}

/// The threads that wait for a turn, with the guards that they wait for. A guard without such threads is
/// in no list.
///
/// It is held by threads that are attached to the interpreter, for a few instructions in which no code of
/// Python's runs. So under the interpreter's lock no fork finds it held. Without that lock one may; in
/// such a child it is not waited for, and circles are not found.
static WAITING: Mutex<Vec<Wait>> = Mutex::new(Vec::new());

struct Wait {
    thread: u64,
    guard: Py<Guarded>,
}

/// How often the list is tried for: others hold it for some nanoseconds.
const TRIES: u32 = 1_000;

fn with_waiting<R>(look: impl FnOnce(&mut Vec<Wait>) -> R) -> Option<R> {
    for _ in 0..TRIES {
        match WAITING.try_lock() {
            Ok(mut waiting) => return Some(look(&mut waiting)),
            Err(TryLockError::Poisoned(poisoned)) => return Some(look(&mut poisoned.into_inner())),
            Err(TryLockError::WouldBlock) => thread::yield_now(),
        }
    }
    None
}

/// Whether a thread waits for a turn of `me`, or for one of a thread that does.
fn waits_for(me: u64, thread: u64) -> bool {
    let circle = |waiting: &mut Vec<Wait>| {
        let mut thread = thread;
        for _ in 0..=waiting.len() {
            if thread == me {
                return true;
            }
            let Some(wait) = waiting.iter().find(|wait| wait.thread == thread) else {
                return false;
            };
            thread = wait.guard.get().turn.builder();
        }
        false
    };
    with_waiting(circle).unwrap_or(false)
}

/// In the list until it is dropped.
struct Waiting {
    thread: u64,
}

impl Waiting {
    fn for_turn_of(guard: &Bound<'_, Guarded>, thread: u64) -> Self {
        let guard = guard.clone().unbind();
        let stale = with_waiting(|waiting| {
            let all = mem::take(waiting);
            let is_stale = |wait: &Wait| process_of(wait.thread) != process_of(thread);
            // Those of the process that this one is a copy of.
            let (stale, live): (Vec<_>, Vec<_>) = all.into_iter().partition(is_stale);
            *waiting = live;
            waiting.push(Wait { thread, guard });
            stale
        });
        // Not under the lock: a guard that is dropped may run code of Python's.
        drop(stale);
        Self { thread }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let ended = with_waiting(|waiting| {
            let at = waiting.iter().position(|wait| wait.thread == self.thread);
            at.map(|at| waiting.swap_remove(at))
        });
        drop(ended);
    }
}
