// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The thread that listens to the followers, and how the broker hears of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use sysgenid_sys::wire::{Cause, Followers};

use super::decide::{Act, Decision, Sign};
use super::gvisor::{Checkpoint, Said};
use super::kmsg::{Heard, Log};
use super::saved::{Found, Handled, Saved};
use super::vmclock::Clock;
use super::vmgenid::Counter;
use super::{Barrier, Opened, renounce_privileges};
use crate::Error;

/// How often a counter is looked at whose hypervisor notifies of nothing.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What the broker is told.
pub(crate) enum Event {
    /// The generation is to change. Something is sent once it has.
    Change(Cause, SyncSender<()>),
    /// A follower follows no more.
    Failed(Followers, String),
    /// The entropy barrier has failed.
    BarrierFailed(String),
}

/// The broker's end of the thread, which ends when this is dropped.
pub(crate) struct Listening {
    /// `None` at the end, so that the thread waits for no answer.
    events: Option<Receiver<Event>>,
    /// Readable while there are events.
    bell: Bell,
    stop: Bell,
    thread: Option<JoinHandle<()>>,
}

impl Listening {
    /// Listens to followers. `file` is what is kept for the next broker. `is_fresh` says that no
    /// process can have learned of an earlier generation.
    pub(crate) fn start(opened: Opened, file: OwnedFd, is_fresh: bool) -> Result<Self, Error> {
        let failed = |error: Errno| Error::system("listen to followers", error);
        let [bell, stop, inner_bell] = [Bell::new(), Bell::new(), Bell::new()];
        let (bell, stop, inner_bell) = (
            bell.map_err(failed)?,
            stop.map_err(failed)?,
            inner_bell.map_err(failed)?,
        );
        let (events, receiver) = channel();
        let (notes, inner) = channel();
        let followers = opened.followers();
        let notes = Notes {
            sender: notes,
            bell: inner_bell.clone(),
        };
        if let Some(checkpoint) = opened.checkpoint {
            follow(checkpoint, notes.clone())
                .map_err(|error| Error::system("start a follower's thread", error))?;
        }
        let decision = Decision::new(
            opened.patience,
            opened.log.is_some(),
            opened.barrier.is_some(),
        );
        let mut listener = Listener {
            followers,
            log: opened.log,
            clock: opened.clock.map(Counted::new),
            counter: opened.counter.map(Counted::new),
            decision,
            saved: Saved::new(file),
            barrier: opened.barrier,
            barriers: 0,
            barrier_runs: false,
            notes,
            inner,
            inner_bell,
            stop: stop.clone(),
            out: Out {
                events,
                bell: bell.clone(),
                followers,
            },
        };
        // Here, and not on the thread: what is told from now on counts.
        let first = listener.go_on(is_fresh);
        let thread = std::thread::Builder::new()
            .name("sysgenid-follow".into())
            .spawn(move || listener.run(first))
            .map_err(|error| Error::system("start the followers' thread", error))?;
        Ok(Self {
            events: Some(receiver),
            bell,
            stop,
            thread: Some(thread),
        })
    }

    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.0.as_fd()
    }

    /// The next event that is there. Never waits.
    pub(crate) fn next(&self) -> Option<Event> {
        // First: an event that comes from here on rings again.
        self.bell.silence();
        self.events.as_ref()?.try_recv().ok()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.events = None;
        self.stop.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An eventfd that several threads have.
#[derive(Clone)]
struct Bell(Arc<OwnedFd>);

impl Bell {
    fn new() -> Result<Self, Errno> {
        let fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self(Arc::new(fd)))
    }

    fn ring(&self) {
        // It fails only when the counter is full, and then it is readable.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    fn silence(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

/// What other threads tell the listening one.
enum Note {
    Checkpoint(Said),
    /// gVisor's file cannot be read any more.
    CheckpointFailed(String),
    /// The barrier with this number has ended.
    BarrierEnded(u64, Result<(), String>),
}

#[derive(Clone)]
struct Notes {
    sender: Sender<Note>,
    bell: Bell,
}

impl Notes {
    /// Whether the listening thread is there to know.
    fn tell(&self, note: Note) -> bool {
        let is_there = self.sender.send(note).is_ok();
        self.bell.ring();
        is_there
    }
}

/// Follows gVisor's file on a thread that nothing but the end of the process can end while it reads.
fn follow(checkpoint: Checkpoint, notes: Notes) -> std::io::Result<()> {
    let follow = move || {
        let _ = renounce_privileges();
        let said = |said| notes.tell(Note::Checkpoint(said));
        let followed = catch_unwind(AssertUnwindSafe(|| checkpoint.follow(said)));
        let why = match followed {
            Ok(Ok(())) => return,
            Ok(Err(why)) => why,
            Err(_) => "its thread has panicked".into(),
        };
        notes.tell(Note::CheckpointFailed(why));
    };
    let thread = std::thread::Builder::new().name("sysgenid-gvisor".into());
    thread.spawn(follow).map(drop)
}

/// A counter of the hypervisor, and what it has shown.
struct Counted<T> {
    counter: T,
    seen: u64,
    /// What it showed when the generation changed last.
    handled: u64,
}

trait Load {
    fn load(&self) -> u64;
}

impl Load for Clock {
    fn load(&self) -> u64 {
        Clock::load(self)
    }
}

impl Load for Counter {
    fn load(&self) -> u64 {
        Counter::load(self)
    }
}

impl<T: Load> Counted<T> {
    fn new(counter: T) -> Self {
        let seen = counter.load();
        Self {
            counter,
            seen,
            handled: seen,
        }
    }

    /// An earlier broker has dealt with this number.
    fn go_on_from(&mut self, handled: u64) {
        (self.seen, self.handled) = (handled, handled);
    }

    /// Whether it shows another number than before.
    fn has_changed(&mut self) -> bool {
        let now = self.counter.load();
        std::mem::replace(&mut self.seen, now) != now
    }
}

/// Where events go. If the thread panics, the broker is told that its followers have failed.
struct Out {
    events: Sender<Event>,
    bell: Bell,
    followers: Followers,
}

impl Out {
    fn send(&self, event: Event) -> Option<()> {
        self.events.send(event).ok()?;
        self.bell.ring();
        Some(())
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for follower in self.followers.each() {
                self.send(Event::Failed(follower, "its thread has panicked".into()));
            }
        }
    }
}

struct Listener {
    /// Those that have not failed.
    followers: Followers,
    log: Option<Log>,
    clock: Option<Counted<Clock>>,
    counter: Option<Counted<Counter>>,
    decision: Decision,
    saved: Saved,
    barrier: Option<Barrier>,
    /// How many were begun.
    barriers: u64,
    barrier_runs: bool,
    notes: Notes,
    inner: Receiver<Note>,
    inner_bell: Bell,
    stop: Bell,
    out: Out,
}

impl Listener {
    /// Until the broker ends or no follower is left.
    fn run(mut self, first: Act) {
        // It is needed no more. Where it cannot be given up, it does no harm here.
        let _ = renounce_privileges();
        // `None` means that the broker has ended.
        let _ = self.listen(first);
    }

    fn listen(&mut self, first: Act) -> Option<()> {
        self.act(first)?;
        while !self.followers.is_empty() {
            self.look()?;
            if self.wait() {
                return None;
            }
        }
        Some(())
    }

    /// Goes on where the last broker has ended. Returns what is to be done about that.
    fn go_on(&mut self, is_fresh: bool) -> Act {
        let found = self.saved.found();
        let handled = match found {
            Found::Handled(handled) => handled,
            Found::OtherBoot | Found::Unknown => Handled::default(),
        };
        let mut is_known = false;
        if let (Some(clock), Some(number)) = (&mut self.clock, handled.vmclock) {
            clock.go_on_from(number);
            is_known = true;
        }
        if let (Some(counter), Some(number)) = (&mut self.counter, handled.vmgenid) {
            counter.go_on_from(number);
            is_known = true;
        }
        match (&mut self.log, handled.kmsg) {
            (Some(log), Some(next)) => {
                log.go_on_from(next);
                is_known = true;
            }
            (Some(log), None) => {
                // The next reading tells of the same.
                let _ = log.skip();
            }
            (None, _) => {}
        }
        // No process of an earlier boot is left, and none has seen a page that is new.
        if is_known || is_fresh || found == Found::OtherBoot {
            return Act::Nothing;
        }
        self.decision.sign(Sign::Missed, Instant::now())
    }

    /// Takes what the followers show, and does what follows from it.
    fn look(&mut self) -> Option<()> {
        self.inner_bell.silence();
        while let Ok(note) = self.inner.try_recv() {
            self.take(note)?;
        }
        if let Some(Err(why)) = self.clock.as_mut().map(|it| it.counter.hear()) {
            self.clock = None;
            self.failed(Followers::VMCLOCK, why)?;
        }
        let heard = match self.log.as_mut().map(Log::read) {
            None => Heard::default(),
            Some(Ok(heard)) => heard,
            Some(Err(why)) => {
                self.log_failed(why)?;
                Heard::default()
            }
        };
        // After the log, so that they show each restore that it has told of, unless the hypervisor is
        // late. Both, whatever the first shows.
        let clock = self.clock.as_mut().is_some_and(Counted::has_changed);
        let counter = self.counter.as_mut().is_some_and(Counted::has_changed);
        let is_counted = clock || counter;
        let now = Instant::now();
        if heard.is_reseeded {
            let foretold = is_counted;
            let act = self.decision.sign(Sign::Reseeded { foretold }, now);
            self.act(act)?;
        } else {
            if is_counted {
                let act = self.decision.sign(Sign::Counted, now);
                self.act(act)?;
            }
            if heard.is_missing {
                let act = self.decision.sign(Sign::Missed, now);
                self.act(act)?;
            }
        }
        let act = self.decision.tick(now);
        self.act(act)?;
        self.save();
        Some(())
    }

    fn take(&mut self, note: Note) -> Option<()> {
        let now = Instant::now();
        let act = match note {
            Note::Checkpoint(Said::Restored) => self.decision.sign(Sign::Restored, now),
            Note::Checkpoint(Said::Unclear) => self.decision.sign(Sign::Missed, now),
            Note::Checkpoint(Said::Resumed) => Act::Nothing,
            Note::CheckpointFailed(why) => return self.failed(Followers::GVISOR, why),
            Note::BarrierEnded(number, ended) => {
                self.barrier_runs = false;
                let is_last = number == self.barriers;
                let success = ended.is_ok();
                if let Err(why) = ended {
                    self.out.send(Event::BarrierFailed(why))?;
                }
                match is_last {
                    true => self.decision.barrier_ended(success),
                    false => Act::Nothing,
                }
            }
        };
        self.act(act)
    }

    fn act(&mut self, act: Act) -> Option<()> {
        match act {
            Act::Nothing => Some(()),
            Act::Change(cause) => {
                let (done, is_done) = sync_channel(1);
                self.out.send(Event::Change(cause, done))?;
                // So that nothing is saved before the page has it.
                is_done.recv().ok()?;
                self.save();
                Some(())
            }
            Act::Barrier => {
                if self.begin_barrier() {
                    return Some(());
                }
                let act = self.decision.barrier_ended(false);
                self.act(act)
            }
        }
    }

    /// Runs the barrier on a thread of its own, unless the last one hangs there.
    fn begin_barrier(&mut self) -> bool {
        let Some(barrier) = self.barrier.clone().filter(|_| !self.barrier_runs) else {
            return false;
        };
        self.barriers += 1;
        let (notes, number) = (self.notes.clone(), self.barriers);
        let run = move || {
            let ended = catch_unwind(AssertUnwindSafe(|| barrier()));
            let ended = ended.unwrap_or_else(|_| Err("it has panicked".into()));
            notes.tell(Note::BarrierEnded(number, ended));
        };
        let thread = std::thread::Builder::new().name("sysgenid-barrier".into());
        self.barrier_runs = thread.spawn(run).is_ok();
        self.barrier_runs
    }

    fn log_failed(&mut self, why: String) -> Option<()> {
        self.log = None;
        self.decision.log_failed();
        self.failed(Followers::KMSG, why)
    }

    /// Tells of a follower that has failed. What it would have told last is not known.
    fn failed(&mut self, follower: Followers, why: String) -> Option<()> {
        self.followers = self.followers.without(follower);
        self.out.followers = self.followers;
        self.out.send(Event::Failed(follower, why))?;
        let act = self.decision.sign(Sign::Missed, Instant::now());
        self.act(act)
    }

    fn save(&mut self) {
        if !self.decision.is_pending() {
            if let Some(clock) = &mut self.clock {
                clock.handled = clock.seen;
            }
            if let Some(counter) = &mut self.counter {
                counter.handled = counter.seen;
            }
        }
        self.saved.write(Handled {
            kmsg: self.log.as_ref().and_then(Log::next),
            vmclock: self.clock.as_ref().map(|clock| clock.handled),
            vmgenid: self.counter.as_ref().map(|counter| counter.handled),
        });
    }

    /// Waits until there is something to look at. Returns whether the broker has ended.
    fn wait(&self) -> bool {
        let bell = self.clock.as_ref().and_then(|clock| clock.counter.bell());
        let is_timed = self.counter.is_some() || self.clock.is_some() && bell.is_none();
        let now = Instant::now();
        let due = [
            is_timed.then_some(now + LOOK_EVERY),
            self.decision.deadline(),
        ];
        let due = due.into_iter().flatten().min();
        let timeout =
            due.and_then(|due| Timespec::try_from(due.saturating_duration_since(now)).ok());
        let stop = self.stop.0.as_fd();
        let each = [
            Some(stop),
            Some(self.inner_bell.0.as_fd()),
            self.log.as_ref().map(AsFd::as_fd),
            bell,
        ];
        let mut fds: Vec<_> = each
            .into_iter()
            .flatten()
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        match poll(&mut fds, timeout.as_ref()) {
            // It is no error of a follower's, and looking at all of them is right in any case.
            Ok(_) | Err(_) => fds.first().is_some_and(|fd| !fd.revents().is_empty()),
        }
    }
}
