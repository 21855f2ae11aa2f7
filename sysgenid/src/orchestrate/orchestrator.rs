// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::error::Error as StdError;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use sysgenid_sys::wire::{self, Answer, Awaited};

use crate::base::error::{Error, Kind, Result};
use crate::base::{Deadline, Generation};
use crate::orchestrate::Straggler;
use crate::source::Source;
use crate::source::connection::{Connection, LOOK_TIME, denied};
use crate::watch::watcher::{ANSWER_TIME, Tracking, Watcher};

/// Between two looks whether the watchers are there that are required.
pub(super) const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Leads a system through a restore: notices it or triggers it, and waits until every tracked
/// watcher has acknowledged the new generation, so that the system may serve again.
///
/// An orchestrator has a watcher of its own, untracked where the source can do that, because a
/// caller that is outdated itself cannot wait for the others. That watcher is not a forked child's:
/// there each call fails with [`is_forked`](Error::is_forked), until the child
/// [reopens](Watcher::reopen) it.
///
/// ```
/// use std::time::Duration;
/// use sysgenid::{Orchestrator, Watcher};
///
/// let broker = sysgenid_broker::testing::Broker::start()?;
/// let service = Watcher::open_at(broker.path())?;
///
/// let orchestrator = Orchestrator::open_at(broker.path())?;
/// let generation = orchestrator.trigger()?;
/// orchestrator.acknowledge()?;
///
/// // The service has not handled it, so nothing may resume yet.
/// let error = orchestrator.wait_for_watchers(Duration::from_millis(50)).unwrap_err();
/// assert!(error.is_timeout());
/// assert_eq!(orchestrator.stragglers()?[0].pid, Some(std::process::id()));
///
/// service.acknowledge(generation)?;
/// orchestrator.wait_for_watchers(Duration::from_secs(5))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Orchestrator {
    watcher: Watcher,
    source: Source,
    options: OrchestratorOptions,
}

/// How an orchestrator is opened. Made by [`Orchestrator::options`].
#[derive(Clone, Debug)]
#[must_use = "options open nothing by themselves"]
pub struct OrchestratorOptions {
    required: u32,
    answer_time: Duration,
}

impl OrchestratorOptions {
    /// How many tracked watchers there must be for a wait to succeed. The default is 0: without any,
    /// a wait is over at once, and [`Settled::watchers`] says that nobody has acknowledged.
    ///
    /// A wait that finds fewer waits for the others as well, until its deadline. After a broker was
    /// started anew, watchers take a moment to come back to it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use sysgenid::{Orchestrator, Watcher};
    ///
    /// let broker = sysgenid_broker::testing::Broker::start()?;
    /// let orchestrator = Orchestrator::options().require_watchers(1).open_at(broker.path())?;
    /// let error = orchestrator.wait_for_watchers(Duration::ZERO).unwrap_err();
    /// assert!(error.is_missing());
    ///
    /// let _service = Watcher::open_at(broker.path())?;
    /// let settled = orchestrator.wait_for_watchers(Duration::from_secs(5))?;
    /// assert_eq!(settled.watchers, Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn require_watchers(mut self, required: u32) -> Self {
        self.required = required;
        self
    }

    /// How long a broker may take to answer where a call takes no deadline: to open the orchestrator,
    /// to trigger, to name stragglers. The default is five seconds; at least a tenth of one is always
    /// given.
    pub fn answer_within(mut self, time: Duration) -> Self {
        self.answer_time = time.max(LOOK_TIME);
        self
    }

    /// Opens the orchestrator on the discovered source: see [`Source::discover`].
    ///
    /// # Errors
    ///
    /// As [`Watcher::open`].
    pub fn open(&self) -> Result<Orchestrator> {
        self.open_on(Source::discover()?)
    }

    /// Opens the orchestrator on the source at `path`.
    ///
    /// # Errors
    ///
    /// As [`Watcher::open`].
    pub fn open_at(&self, path: impl Into<PathBuf>) -> Result<Orchestrator> {
        self.open_on(Source::at(path)?)
    }

    /// Opens the orchestrator on `source`.
    ///
    /// # Errors
    ///
    /// As [`Watcher::open`].
    pub fn open_on(&self, source: Source) -> Result<Orchestrator> {
        let watcher = Watcher::options()
            .tracking(Tracking::OffIfPossible)
            .answer_within(self.answer_time)
            .open_on(source.clone())?;
        Ok(Orchestrator {
            watcher,
            source,
            options: self.clone(),
        })
    }
}

/// A wait for the watchers that an event loop has begun. Dropping it ends it.
#[derive(Debug)]
pub struct PendingWait {
    connection: Connection,
    /// When it began.
    generation: Generation,
}

impl PendingWait {
    /// What it has come to, if it is over. Never waits.
    pub(crate) fn try_end(&self, orchestrator: &Orchestrator) -> Result<Option<Settled>> {
        match orchestrator.watcher.try_end_wait(&self.connection)? {
            Some(found) => orchestrator.settled(self.generation, Some(found)).map(Some),
            None => Ok(None),
        }
    }
}

impl AsFd for PendingWait {
    /// Readable when it may be over.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.socket().as_fd()
    }
}

impl AsRawFd for PendingWait {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// What a wait for the watchers has found: all of them have acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settled {
    /// The generation when the wait began. Every tracked watcher has acknowledged it, or a newer one.
    pub generation: Generation,
    /// How many tracked watchers there were; `None` where the source does not tell.
    pub watchers: Option<u32>,
}

impl Orchestrator {
    /// Opens an orchestrator on the discovered source: see [`Source::discover`].
    ///
    /// # Errors
    ///
    /// As [`Watcher::open`].
    pub fn open() -> Result<Self> {
        Self::options().open()
    }

    /// Opens an orchestrator on the source at `path`.
    ///
    /// # Errors
    ///
    /// As [`Watcher::open`].
    pub fn open_at(path: impl Into<PathBuf>) -> Result<Self> {
        Self::options().open_at(path)
    }

    /// Options for an orchestrator that is not the default one.
    pub fn options() -> OrchestratorOptions {
        OrchestratorOptions {
            required: 0,
            answer_time: ANSWER_TIME,
        }
    }

    /// The orchestrator's own watcher, to wait for a change with.
    #[must_use]
    pub fn watcher(&self) -> &Watcher {
        &self.watcher
    }

    /// The orchestrator's own watcher, to reconnect it with, or to reopen it in a forked child.
    pub fn watcher_mut(&mut self) -> &mut Watcher {
        &mut self.watcher
    }

    /// Changes the generation to the next one. Every watcher is outdated then, the orchestrator's
    /// own included. Returns a generation that is at least as new as this change.
    ///
    /// Quiesce what must not run across the change *before*: some clients abort if the generation
    /// moves while they compute.
    ///
    /// # Errors
    ///
    /// [`is_permission`](Error::is_permission) without `CAP_CHECKPOINT_RESTORE` or
    /// `CAP_SYS_ADMIN` (`EACCES`), or if the broker belongs to another user;
    /// [`is_lost`](Error::is_lost), or [`is_timeout`](Error::is_timeout) if it does not answer
    /// [in time](OrchestratorOptions::answer_within), on a broker.
    pub fn trigger(&self) -> Result<Generation> {
        self.trigger_at_least(0)
    }

    /// Changes the generation to `min` or to the next one, whichever number is larger: for the
    /// overseer of several systems that wants them to agree.
    ///
    /// # Errors
    ///
    /// As [`trigger`](Self::trigger).
    pub fn trigger_at_least(&self, min: u32) -> Result<Generation> {
        self.watcher.check_process()?;
        match self.watcher.device() {
            Some(device) => device
                .trigger(min)
                .map_err(|error| error.at(self.source.path())),
            None => self.source.trigger_at_least(min, self.options.answer_time),
        }
    }

    /// Acknowledges the current generation for the orchestrator itself. Returns it.
    ///
    /// # Errors
    ///
    /// [`is_unsettled`](Error::is_unsettled) if the generation changed during each of a few
    /// attempts; [`is_lost`](Error::is_lost) if the broker has ended.
    pub fn acknowledge(&self) -> Result<Generation> {
        const ATTEMPTS: u32 = 16;
        for _ in 0..ATTEMPTS {
            let current = self
                .watcher
                .try_changed()?
                .unwrap_or_else(|| self.watcher.generation());
            match self.watcher.acknowledge(current) {
                Ok(()) => return Ok(current),
                Err(error) if error.is_stale() => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(Kind::Unsettled(ATTEMPTS)).at(self.source.path()))
    }

    /// Waits until no tracked watcher is outdated. Signals do not end the wait.
    ///
    /// # Errors
    ///
    /// [`is_outdated`](Error::is_outdated) if the orchestrator's own watcher is or becomes
    /// outdated: a change came, so rebuild and [`acknowledge`](Self::acknowledge) first
    /// ([`settle`](Self::settle) does). [`is_timeout`](Error::is_timeout) if the deadline passed:
    /// [`stragglers`](Self::stragglers) tells who is missing. [`is_missing`](Error::is_missing) if all
    /// have acknowledged, but fewer than [required](OrchestratorOptions::require_watchers);
    /// [`is_unsupported`](Error::is_unsupported) if some are required and the source does not tell how
    /// many there are. [`is_lost`](Error::is_lost) if the broker ended, or takes no more connections.
    pub fn wait_for_watchers(&self, deadline: impl Into<Deadline>) -> Result<Settled> {
        let deadline = deadline.into();
        let mut pause = SHORTEST_PAUSE;
        loop {
            let generation = self.watcher.generation();
            let watchers = self.watcher.wait_watchers(deadline)?;
            match self.settled(generation, watchers) {
                Err(error) if error.is_missing() && !deadline.has_passed() => {}
                outcome => return outcome,
            }
            // Nothing tells of a watcher that is opened. A change ends the pause.
            self.watcher.sleep(deadline.at_most(pause))?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn answer_time(&self) -> Duration {
        self.options.answer_time
    }

    pub(super) fn required(&self) -> u32 {
        self.options.required
    }

    /// What a wait has come to that began in this generation and found so many watchers.
    fn settled(&self, generation: Generation, watchers: Option<u32>) -> Result<Settled> {
        let required = self.options.required;
        let refused = match watchers {
            Some(found) if found < required => Kind::Missing { found, required },
            None if required > 0 => Kind::Unsupported(
                "this source does not tell how many watchers it has, so none can be required; \
                 require none, and see to it that they run",
            ),
            watchers => {
                return Ok(Settled {
                    generation,
                    watchers,
                });
            }
        };
        Err(Error::new(refused).at(self.source.path()))
    }

    /// Begins to wait for the watchers of a broker, for an event loop; `None` on the kernel device.
    pub(crate) fn begin_wait(&self) -> Result<Option<PendingWait>> {
        let generation = self.watcher.generation();
        let connection = self.watcher.begin_wait()?;
        Ok(connection.map(|connection| PendingWait {
            connection,
            generation,
        }))
    }

    /// After a change: lets `rebuild` handle it for the orchestrator itself, acknowledges, and
    /// waits for all others; starts over if the generation moves meanwhile. Returns the generation
    /// that every tracked watcher has acknowledged, and how many those are.
    ///
    /// If nothing has changed, `rebuild` is not called and the others are waited for.
    ///
    /// # Errors
    ///
    /// [`is_rebuild`](Error::is_rebuild) if `rebuild` failed; else as
    /// [`wait_for_watchers`](Self::wait_for_watchers), but never
    /// [`is_outdated`](Error::is_outdated).
    ///
    /// ```
    /// use std::time::Duration;
    /// use sysgenid::Orchestrator;
    ///
    /// let broker = sysgenid_broker::testing::Broker::start()?;
    /// let orchestrator = Orchestrator::open_at(broker.path())?;
    /// orchestrator.trigger()?;
    /// let settled = orchestrator.settle(Duration::from_secs(5), |generation| {
    ///     println!("new host keys for generation {generation}");
    ///     Ok::<_, std::io::Error>(())
    /// })?;
    /// assert_eq!(settled.generation.get(), 1);
    /// assert_eq!(settled.watchers, Some(0), "nobody else is there");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn settle<E>(
        &self,
        deadline: impl Into<Deadline>,
        mut rebuild: impl FnMut(Generation) -> Result<(), E>,
    ) -> Result<Settled>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let deadline = deadline.into();
        let mut pause = SHORTEST_PAUSE;
        loop {
            if self.watcher.try_changed()?.is_some() {
                self.watcher.handle(deadline, &mut rebuild)?;
            } else if pause > SHORTEST_PAUSE {
                // A broker that knows of a change and cannot write its page.
                self.watcher.sleep(deadline.at_most(pause))?;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            match self.wait_for_watchers(deadline) {
                Ok(settled) => return Ok(settled),
                Err(error) if error.is_outdated() && !deadline.has_passed() => {}
                Err(error) if error.is_outdated() => {
                    return Err(crate::watch::watcher::watchers_timed_out().at(self.source.path()));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Names the tracked watchers that have not acknowledged the current generation. It may have
    /// changed by the time the list is read.
    ///
    /// # On the kernel device
    ///
    /// This project's driver tells the state of a descriptor to whoever may look at it, so the
    /// descriptors of all processes are looked through. What that cannot see is not in the list:
    ///
    /// - processes of others, without root or `CAP_SYS_PTRACE`; those outside the pid namespace that
    ///   `/proc` shows, and those that a mount option hides there;
    /// - a watcher whose descriptor is closed and that only a mapping keeps;
    /// - a thread that has unshared its descriptors, and a descriptor under way in a socket.
    ///
    /// [`Source::status`] counts them all the same: if its `watchers.outdated` is more than what
    /// the list explains, there are such.
    ///
    /// A watcher that several processes share by `fork` is named for each, because each could
    /// acknowledge. Within a process, descriptors that have acknowledged the same generation are
    /// one entry: a duplicate cannot be told from another watcher.
    ///
    /// # Errors
    ///
    /// [`is_unsupported`](Error::is_unsupported) on a kernel driver that does not tell, as the
    /// shipped ones, and without `/proc`; [`is_permission`](Error::is_permission) if the broker belongs to another user;
    /// [`is_lost`](Error::is_lost), or [`is_timeout`](Error::is_timeout) if the broker does not answer
    /// [in time](OrchestratorOptions::answer_within).
    pub fn stragglers(&self) -> Result<Vec<Straggler>> {
        self.stragglers_for(Awaited::Generation)
    }

    pub(super) fn stragglers_for(&self, awaited: Awaited) -> Result<Vec<Straggler>> {
        self.watcher.check_process()?;
        let list = || {
            if let Some(device) = self.watcher.device() {
                return device.stragglers();
            }
            let deadline = Deadline::after(self.options.answer_time);
            let control = self.source.control(deadline)?;
            let mut stragglers = Vec::new();
            let mut after = 0;
            loop {
                let page = control.stragglers(awaited, after, deadline)?;
                if page.answer != Answer::Ok {
                    return Err(denied());
                }
                stragglers.extend(page.filled().iter().map(Straggler::from_wire));
                match page.filled() {
                    full if full.len() < wire::StragglerPage::CAPACITY => return Ok(stragglers),
                    // Strictly further, or a broken broker would keep us here.
                    full => match full.last() {
                        Some(last) if last.watcher > after => after = last.watcher,
                        _ => return Ok(stragglers),
                    },
                }
            }
        };
        list().map_err(|error| error.at(self.source.path()))
    }

    pub(crate) fn reopened(&self) -> Result<Self> {
        Ok(Self {
            watcher: self.watcher.reopened()?,
            source: self.source.clone(),
            options: self.options.clone(),
        })
    }
}

impl AsFd for Orchestrator {
    /// That of the orchestrator's own [watcher](Self::watcher): readable when it is outdated.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watcher.as_fd()
    }
}

impl AsRawFd for Orchestrator {
    fn as_raw_fd(&self) -> RawFd {
        self.watcher.as_raw_fd()
    }
}
