// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Changes of whichever source there is, through restarts and replacements. What is done about a change
//! belongs to the layers above and to the caller.

mod change;
mod core;
pub(crate) mod event;
mod member;
mod options;
mod poller;
mod service;
mod shared;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Instant;

use rustix::fd::BorrowedFd;

pub use self::change::{Acknowledged, Change};
use self::core::Core;
use self::event::Event;
pub use self::options::ChangesOptions;
use self::poller::Poller;
pub(crate) use self::service::Handled;
pub use self::shared::ChangesWaker;
use crate::base::Deadline;
use crate::base::error::{Error, Kind, Result};
use crate::source::Source;

/// The changes of whichever source there is, from now on: [`Changes::options`] with the defaults.
///
/// ```no_run
/// # fn rotate_keys() {}
/// for change in sysgenid::changes() {
///     rotate_keys();
///     change.acknowledge()?;
/// }
/// # Ok::<(), sysgenid::Error>(())
/// ```
#[must_use]
pub fn changes() -> Changes {
    Changes::options().open()
}

/// Waits for changes of the generation, each of which is to be handled and
/// [acknowledged](Change::acknowledge).
///
/// It watches what [discovery](Source) finds, and a counter that the hypervisor writes beside it, and
/// goes on whatever becomes of them. No call fails because a source is not there, is lost or hangs.
///
/// ```
/// use std::time::Duration;
/// use sysgenid::{Changes, Source};
///
/// let broker = sysgenid_broker::testing::Broker::start()?;
/// let source = Source::at(broker.path())?;
/// let mut changes = Changes::options().on(source.clone()).open();
///
/// let generation = source.trigger(Duration::from_secs(5))?;
/// let change = changes.wait(Duration::from_secs(5))?;
/// assert_eq!(change.generation(), generation);
/// println!("rebuilding for generation {generation}");
/// change.acknowledge()?;
/// assert!(changes.try_next()?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What counts as a change
///
/// - The generation of a source that is watched is another one.
/// - A source appears, or takes the place of another: nothing tells what happened before. The sources
///   that are there when the `Changes` is opened are what it begins with, so they do not count.
/// - A broker that was lost is back, and the generation is another one.
/// - In a forked child: the process that it was forked from had not acknowledged, or the generation has
///   changed since the fork.
///
/// Changes that follow one another quickly are seen as one, the latest. Two sources that have changed
/// by the same look are one [`Change`]. If the second one changes later, that is another: a hypervisor's
/// counter changes before the kernel's random numbers are new, and the driver's afterwards. So whatever
/// handles a change must be able to do it twice.
///
/// # Changes that are not acknowledged
///
/// A [`Change`] that is dropped without [`acknowledge`](Change::acknowledge) is reported again after a
/// tenth of a second, and then after twice as long each time, up to half a minute: a handler that fails
/// does not run without a pause. A newer change is reported at once, even while an older one is being
/// handled.
///
/// # Sources
///
/// | source | how a change is noticed |
/// |---|---|
/// | driver, broker | it wakes the program |
/// | vmclock with notifications | it wakes the program |
/// | page file, `/dev/vmgenid`, vmclock without notifications | a look once in [a period](ChangesOptions::look_every), one second unless stated otherwise |
/// | a broker that was lost | the page that it leaves behind is looked at as above |
///
/// While no driver is watched, sources are looked for once in a period; otherwise once in ten, for one
/// that is preferred or was replaced. A lost broker is tried again at once, then after pauses that grow
/// to 40 milliseconds in the first ten seconds and to three quarters of a second later. A broker that
/// hangs is given five seconds for an answer, and delays nothing else.
///
/// # What is not guaranteed
///
/// The program is a watcher of the driver or broker from the first call that looks, not from
/// [`open`](ChangesOptions::open) on, though no change between the two is missed. What sources do not
/// show is not reported: see [`Probe`](crate::Probe) and [`Observer`](crate::Observer). A look at a vmclock
/// may take a tenth of a second if the hypervisor is writing it.
///
/// # Forked children
///
/// The next call in a child opens the sources anew, for the child. The parent notices nothing of that.
pub struct Changes {
    core: Core,
    poller: Poller,
}

impl Changes {
    /// Options for changes of a source of the caller's choice, or that nobody waits for.
    pub fn options() -> ChangesOptions {
        ChangesOptions::new()
    }

    fn of(core: Core) -> Self {
        Self {
            core,
            poller: Poller::default(),
        }
    }

    /// Waits for a change that is to be handled. Signals do not end the wait.
    ///
    /// # Errors
    ///
    /// [`is_timeout`](Error::is_timeout) if the deadline passed;
    /// [`is_interrupted`](Error::is_interrupted) if a [waker](Self::waker) ended the wait; the error of
    /// `poll` (`ENOMEM`).
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let folder = tempfile::tempdir()?;
    /// let mut changes = sysgenid::Changes::options().at(folder.path().join("none")).open();
    /// let error = changes.wait(Duration::from_millis(10)).unwrap_err();
    /// assert!(error.is_timeout(), "there is no source, and that is no error");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn wait(&mut self, deadline: impl Into<Deadline>) -> Result<Change> {
        let deadline = deadline.into();
        loop {
            if let Some(change) = self.wait_with(deadline, |_| false)? {
                return Ok(change);
            }
        }
    }

    /// The same, and calls `looked` after each look at the sources, which says whether the caller has
    /// something else to do: then, without a change, the result is `None`.
    pub(crate) fn wait_with(
        &mut self,
        deadline: Deadline,
        mut looked: impl FnMut(&Self) -> bool,
    ) -> Result<Option<Change>> {
        loop {
            if self.is_stopped() {
                return Err(Error::new(Kind::Interrupted));
            }
            let change = self.core.look(false);
            let is_called_away = looked(self);
            if change.is_some() || is_called_away {
                return Ok(change);
            }
            if self.core.shared().take_wake() {
                return Err(Error::new(Kind::Interrupted));
            }
            if deadline.has_passed() {
                return Err(Error::new(Kind::TimedOut(
                    "no change came before the deadline",
                )));
            }
            self.poller.wait_for(&self.core);
            let next = self.core.next_look();
            self.poller.sleep(deadline.earlier(next))?;
        }
    }

    /// A change that is to be handled, if there is one. Never waits for a broker.
    ///
    /// # Errors
    ///
    /// [`is_interrupted`](Error::is_interrupted) after [`stop`](ChangesWaker::stop).
    pub fn try_next(&mut self) -> Result<Option<Change>> {
        if self.is_stopped() {
            return Err(Error::new(Kind::Interrupted));
        }
        Ok(self.core.look(false))
    }

    /// Iterates over the changes until the deadline. The iterator ends there, or when a
    /// [waker](Self::waker) ends a wait.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let mut handled = 0;
    /// for change in sysgenid::changes().until(Duration::from_millis(10)) {
    ///     handled += 1;
    ///     change.acknowledge()?;
    /// }
    /// assert_eq!(handled, 0, "nothing restored this system");
    /// # Ok::<(), sysgenid::Error>(())
    /// ```
    pub fn until(&mut self, deadline: impl Into<Deadline>) -> ChangesUntil<'_> {
        ChangesUntil {
            changes: self,
            deadline: deadline.into(),
        }
    }

    /// What ends a wait from another thread.
    #[must_use]
    pub fn waker(&self) -> ChangesWaker {
        ChangesWaker::of(self.core.shared())
    }

    /// What is watched just now, the preferred source first; nothing while there is no source.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.core.sources()
    }

    fn is_stopped(&self) -> bool {
        self.core.shared().is_stopped()
    }

    /// As [`try_next`](Self::try_next), for an event loop. `is_open` says that a connection was reported as
    /// readable and not as hung up.
    pub(crate) fn look_for_a_loop(&mut self, is_open: bool) -> Look {
        if self.is_stopped() {
            return Look::Stopped;
        }
        match self.core.look(is_open) {
            Some(change) => Look::Change(change),
            None if self.core.shared().take_wake() => Look::Woken,
            None => Look::Wait(self.core.next_look()),
        }
    }

    /// The same for a loop that waits for one descriptor, whose events are taken here.
    pub(crate) fn look_and_arm(&mut self) -> Look {
        // Before the look: what comes afterwards is an event again.
        let taken = self.poller.take_events();
        let look = self.look_for_a_loop(false);
        self.poller.wait_for(&self.core);
        match look {
            Look::Wait(next) if taken.is_err() || self.poller.is_blind() => {
                Look::Wait(next.min(Instant::now() + poller::BLIND))
            }
            look => look,
        }
    }

    pub(crate) fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.poller.fd()
    }

    pub(crate) fn layout(&self) -> u64 {
        self.core.layout()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.core.events()
    }
}

/// Waits for the next change for ever, and ends only after [`stop`](ChangesWaker::stop).
impl Iterator for Changes {
    type Item = Change;

    fn next(&mut self) -> Option<Change> {
        loop {
            match self.wait(Deadline::NEVER) {
                Ok(change) => return Some(change),
                Err(_) if self.is_stopped() => return None,
                // It was woken, or the system has no memory for a moment.
                Err(_) => std::thread::yield_now(),
            }
        }
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources: Vec<_> = self.sources().collect();
        f.debug_struct("Changes")
            .field("sources", &sources)
            .finish_non_exhaustive()
    }
}

/// What became of a look, for an event loop.
#[derive(Debug)]
pub enum Look {
    /// There is a change.
    Change(Change),
    /// There is none: look again at an event, and at this time at the latest.
    Wait(Instant),
    /// A waker has [woken](ChangesWaker::wake) the wait.
    Woken,
    /// A waker has [stopped](ChangesWaker::stop) all waits.
    Stopped,
}

/// The changes until a deadline. Made by [`Changes::until`].
#[derive(Debug)]
#[must_use = "an iterator waits for nothing before it is asked for the next"]
pub struct ChangesUntil<'a> {
    changes: &'a mut Changes,
    deadline: Deadline,
}

impl Iterator for ChangesUntil<'_> {
    type Item = Change;

    fn next(&mut self) -> Option<Change> {
        self.changes.wait(self.deadline).ok()
    }
}
