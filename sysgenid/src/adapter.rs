// SPDX-License-Identifier: Apache-2.0 OR MIT
//! For crates that bring the SDK to a runtime, such as `sysgenid-tokio`: the errors of what only
//! they do, so that their callers have one type of error to look at, and what only they ask for.

use std::error::Error as StdError;
use std::io;
use std::ops::ControlFlow;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use sysgenid_sys::internal::fork;

use crate::base::error::{Error, Kind, Result};
use crate::base::{Cause, Generation, interrupt, sync};
use crate::check::{Probe, has_looked_for_sources, unchanged};
use crate::hooks::EndRun;
pub use crate::orchestrate::PendingWait;
use crate::orchestrate::{Orchestrator, Settled};
use crate::source::Source;
pub use crate::watch::changes::Look;
use crate::watch::changes::event::Event;
pub use crate::watch::watcher::{Reconnected, Reconnector};
use crate::watch::{Change, Changes, Watcher, watcher};

/// Nothing can wait here: there is no runtime, or it is shutting down. `message` is a clause that
/// says what to do.
#[must_use]
pub fn no_runtime(message: &'static str, source: Option<&Source>) -> Error {
    locate(Error::new(Kind::Runtime(message)), source)
}

/// What is asked for cannot be done so, though the source works. `message` is a clause that says what
/// to do.
#[must_use]
pub fn unsupported(message: &'static str, source: Option<&Source>) -> Error {
    locate(Error::new(Kind::Unsupported(message)), source)
}

/// The event loop did not take a descriptor.
#[must_use]
pub fn not_registered(error: &io::Error, source: Option<&Source>) -> Error {
    locate(Error::io("registering with the event loop", error), source)
}

/// A helper that waits where the runtime may not could not be started.
#[must_use]
pub fn no_helper(error: &io::Error, source: Option<&Source>) -> Error {
    locate(Error::io("starting a thread", error), source)
}

/// The caller's own rebuild failed.
#[must_use]
pub fn rebuild(
    error: impl Into<Box<dyn StdError + Send + Sync>>,
    source: Option<&Source>,
) -> Error {
    locate(Error::rebuild(error), source)
}

/// Something changed during each of a few attempts to build a value, or to use it.
#[must_use]
pub fn unsettled() -> Error {
    Error::new(Kind::Unsettled(ATTEMPTS))
}

/// How often an attempt is made before it is [`unsettled`].
pub const ATTEMPTS: u32 = unchanged::ATTEMPTS;

/// The deadline passed while tracked watchers had not acknowledged the current generation.
#[must_use]
pub fn watchers_timed_out(source: Option<&Source>) -> Error {
    locate(watcher::watchers_timed_out(), source)
}

/// A waker has [stopped](crate::ChangesWaker::stop) the waits for changes.
#[must_use]
pub fn stopped() -> Error {
    Error::new(Kind::Interrupted)
}

/// The deadline passed before a call that was given up had ended.
#[must_use]
pub fn still_busy(source: Option<&Source>) -> Error {
    let message = "a call that was given up is under way still, because the broker hangs, or is \
                   stopped; look at its process, or try again later";
    locate(Error::new(Kind::TimedOut(message)), source)
}

/// Whether reconnecting may succeed a moment later, after this error of an attempt.
#[must_use]
pub fn may_reconnect(error: &Error) -> bool {
    watcher::may_reconnect(error)
}

/// The descriptor with which an event loop waits for a watcher, if the loop registers another one at each
/// reconnect: see [`resume`]. It is readable when the descriptor of [`AsFd`] is. On the
/// broker it is the connection, for which the other one, an epoll instance, waits: a wake-up costs one step
/// less.
#[must_use]
pub fn events(watcher: &Watcher) -> BorrowedFd<'_> {
    watcher.events()
}

/// [`Watcher::reconnect`] in two steps, for those who may not wait where the watcher is: a thread
/// [connects](Reconnector::connect), which waits for the broker, and the watcher is [resumed](resume)
/// with what came of it.
///
/// # Errors
///
/// [`is_forked`](Error::is_forked) in a forked child.
pub fn reconnector(watcher: &Watcher) -> Result<Reconnector> {
    watcher.reconnector()
}

/// Goes on with a connection that a [`reconnector`] of this watcher has made. Never waits.
///
/// If there is another connection, `register` is given the descriptor of [`events`] that the watcher will
/// have, while it still has the old one, so that the old one can be taken out of an event loop by its
/// number.
///
/// # Errors
///
/// [`is_unsupported`](Error::is_unsupported) if the connection was made for a watcher of another source;
/// the error of `epoll_ctl`; [`is_forked`](Error::is_forked) in a forked child; those of `register`. The
/// watcher then is as it was.
pub fn resume(
    watcher: &mut Watcher,
    connected: Reconnected,
    register: impl FnOnce(BorrowedFd<'_>) -> Result<()>,
) -> Result<()> {
    watcher.resume_with(connected, register)
}

/// [`Watcher::try_changed`] for an event loop to which [`events`] was reported as readable and not as hung
/// up: it saves the system call that asks for a hang-up.
///
/// # Errors
///
/// As [`Watcher::try_changed`]. If the broker was lost after that event, a change is still returned, and the
/// next event or call reports the loss.
pub fn try_changed_at_event(watcher: &Watcher) -> Result<Option<Generation>> {
    watcher.try_changed_at_event()
}

/// Why the generation that a watcher has told of changed, as
/// [`Change::cause`](crate::Change::cause) says it. Never waits.
#[must_use]
pub fn cause(watcher: &Watcher, generation: Generation) -> Option<Cause> {
    Cause::of(watcher.cause(generation)?)
}

/// For those who wait for the next *event* while `seen` is not acknowledged, as a stream does: to be
/// called each time before waiting, when [`Watcher::try_changed`] has told `seen` again. Never waits.
///
/// It makes the watcher's descriptor tell of the next change although it is readable already, and
/// says whether the broker is there still, which [`Watcher::try_changed`] does not tell as long as
/// there is a change to handle.
///
/// # Errors
///
/// [`is_lost`](Error::is_lost); the error of `poll`.
pub fn await_next(watcher: &Watcher, seen: Generation) -> Result<()> {
    watcher.await_next(seen)
}

/// Looks whether there is a change. Never waits for a broker.
///
/// `is_open` says that an event since the last look was one of a
/// [connection](ChangesEvent::is_connection) that was not hung up: it saves the system call that asks for
/// a hang-up. If the broker was lost after that event, the next event or look shows it.
pub fn look_at_changes(changes: &mut Changes, is_open: bool) -> Look {
    changes.look_for_a_loop(is_open)
}

/// As [`look_at_changes`] with no event, for a loop that waits until a descriptor is readable:
/// [`changes_fd`], which is not readable any more afterwards, until something is to be looked at.
pub fn look_at_changes_and_arm(changes: &mut Changes) -> Look {
    changes.look_and_arm()
}

/// The descriptor that [`look_at_changes_and_arm`] has prepared. It stays open as long as the changes do; in a
/// forked child there is another one after the next look. `None` if the process has none left: then it is
/// looked at from time to time.
#[must_use]
pub fn changes_fd(changes: &Changes) -> Option<BorrowedFd<'_>> {
    changes.poll_fd()
}

/// Has a change reported again as if it was dropped, for a language in which objects are dropped at some time.
/// It may be acknowledged all the same.
pub fn let_go(change: &Change) {
    change.let_go();
}

/// Whether orchestrators may wait for an acknowledgement of these changes. Never waits.
#[must_use]
pub fn owes_acknowledgement(changes: &Changes) -> bool {
    changes.is_outdated()
}

/// Whether the process has looked for its sources: then it takes no others that
/// [`SYSGENID_SOURCE`](crate::SOURCE_VARIABLE) names later.
#[must_use]
pub fn has_looked() -> bool {
    has_looked_for_sources()
}

/// A number that is another one each time that there are other [events](changes_events) to wait for.
#[must_use]
pub fn changes_layout(changes: &Changes) -> u64 {
    changes.layout()
}

/// What to wait for before the next look.
#[must_use]
pub fn changes_events(changes: &Changes) -> Vec<ChangesEvent> {
    changes.events().into_iter().map(ChangesEvent).collect()
}

/// A descriptor that becomes readable when changes are to be looked at. It stays open as long as this is
/// there, so an event loop may take it out by its number.
///
/// It may stay readable after the look, so it is for those who wait for edges.
#[derive(Clone, Debug)]
pub struct ChangesEvent(Event);

impl ChangesEvent {
    /// Whether the two are the same descriptor.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.0.is(&other.0)
    }

    /// Whether it is the connection to a broker.
    #[must_use]
    pub fn is_connection(&self) -> bool {
        matches!(self.0, Event::Connection(_))
    }
}

impl AsFd for ChangesEvent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for ChangesEvent {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Begins to wait for the watchers as [`Orchestrator::wait_for_watchers`] does, for an event loop: a wait
/// whose descriptor becomes readable when it may be over. Dropping it ends it. `None` on the kernel
/// device, whose wait only a thread can make. Never waits itself.
///
/// # Errors
///
/// As [`Orchestrator::wait_for_watchers`]. [`is_timeout`](Error::is_timeout) says that the broker has
/// many connections to accept yet: begin again a moment later.
pub fn begin_wait(orchestrator: &Orchestrator) -> Result<Option<PendingWait>> {
    orchestrator.begin_wait()
}

/// What a [begun](begin_wait) wait has come to, if it is over. Never waits.
///
/// # Errors
///
/// As [`Orchestrator::wait_for_watchers`]. [`is_missing`](Error::is_missing) may be otherwise for a wait
/// that is begun a moment later.
pub fn try_end_wait(wait: &PendingWait, orchestrator: &Orchestrator) -> Result<Option<Settled>> {
    wait.try_end(orchestrator)
}

/// Makes a call of this crate's that a signal may end: whenever one has ended a sleep of the call,
/// `on_signal` is asked whether to go on. For a runtime whose own signal handlers only leave a note,
/// such as an interpreter's.
///
/// A signal that comes just before a sleep ends none. Whoever must not miss it gives the call short
/// deadlines, and repeats it.
///
/// # Errors
///
/// As the call's, and [`is_interrupted`](Error::is_interrupted) if `on_signal` broke it off. What was
/// waited for may come all the same, as after a deadline.
pub fn interruptible<T>(
    on_signal: fn() -> ControlFlow<()>,
    call: impl FnOnce() -> Result<T>,
) -> Result<T> {
    interrupt::with(on_signal, call)
}

/// As [`Watcher::reopen`], for those who share the watcher and cannot change it: one of this
/// process's own, to put in its place. The parent's stays open until it is dropped.
///
/// # Errors
///
/// As [`Watcher::reopen`].
pub fn reopened(watcher: &Watcher) -> Result<Watcher> {
    watcher.reopened()
}

/// The same for an orchestrator, whose own watcher is reopened.
///
/// # Errors
///
/// As [`Watcher::reopen`].
pub fn reopened_orchestrator(orchestrator: &Orchestrator) -> Result<Orchestrator> {
    orchestrator.reopened()
}

/// An error with which a hook ends the run that it is part of: the hooks that come next are not
/// called, and the run fails, whatever the hook's policy is. For a language in which something comes
/// through all calls at once, such as an interrupt from the keyboard.
/// [`HookFailure::error`](crate::hooks::HookFailure::error) is `error` again.
#[must_use]
pub fn end_run(
    error: impl Into<Box<dyn StdError + Send + Sync>>,
) -> Box<dyn StdError + Send + Sync> {
    Box::new(EndRun(error.into()))
}

/// A number for the calling thread that no other thread of this process has or had, nor of one that this
/// process is a copy of. It is never 0, and has a number of the process, which changes by nothing but a
/// fork, in its high half. For a lock that a forked child must not find held. Makes a system call.
#[must_use]
pub fn this_thread() -> u64 {
    sync::this_thread(fork::process())
}

/// Where the counter of a probe is mapped, and how many bytes it has, for a language that has its own
/// views of memory. It is there as long as the probe is, may only be read, and changes at any time.
#[must_use]
pub fn counter(probe: &Probe) -> (*const u8, usize) {
    probe.counter()
}

fn locate(error: Error, source: Option<&Source>) -> Error {
    match source {
        Some(source) => error.at(source.path()),
        None => error,
    }
}
