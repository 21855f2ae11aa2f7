// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use sysgenid_sys::wire::{self, Op, Status};

use crate::broker::Connection;
use crate::error::{Error, Kind, Result};
use crate::source::Source;
use crate::watcher::{ANSWER_TIME, Tracking, Watcher, accepted};
use crate::{Deadline, Generation};

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
/// let folder = tempfile::tempdir()?;
/// let _broker = sysgenid_broker::spawn(folder.path())?;
/// let service = Watcher::open_at(folder.path())?;
///
/// let orchestrator = Orchestrator::open_at(folder.path())?;
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
}

/// A tracked watcher that has not acknowledged the current generation.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Straggler {
    /// The process that opened the watcher, in the broker's pid namespace, or that has it open, in
    /// the caller's; `None` if the kernel did not tell.
    pub pid: Option<u32>,
    /// The name of that process's command; empty if it could not be read.
    pub command: String,
    /// The generation that it has acknowledged.
    pub acknowledged: Generation,
}

impl Orchestrator {
    /// Opens an orchestrator on the discovered source: see [`Source::discover`].
    ///
    /// # Errors
    ///
    /// As [`Watcher::open`].
    pub fn open() -> Result<Self> {
        Self::on(Source::discover()?)
    }

    /// Opens an orchestrator on the source at `path`.
    ///
    /// # Errors
    ///
    /// As [`Watcher::open`].
    pub fn open_at(path: impl Into<PathBuf>) -> Result<Self> {
        Self::on(Source::at(path)?)
    }

    /// Opens an orchestrator on `source`.
    ///
    /// # Errors
    ///
    /// As [`Watcher::open`].
    pub fn on(source: Source) -> Result<Self> {
        let watcher = Watcher::options()
            .tracking(Tracking::OffIfPossible)
            .open_on(source.clone())?;
        Ok(Self { watcher, source })
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
    /// [`is_lost`](Error::is_lost), or [`is_timeout`](Error::is_timeout) after five seconds, on a
    /// broker.
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
        let triggered = match self.watcher.device() {
            Some(device) => device.trigger(min),
            None => self.control().and_then(|control| {
                let reply = control.call(Op::Trigger, [min, 0], ANSWER_TIME.into())?;
                accepted(&reply)?;
                Ok(Generation::from(reply.generation))
            }),
        };
        triggered.map_err(|error| error.at(self.source.path()))
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
    /// [`stragglers`](Self::stragglers) tells who is missing. [`is_lost`](Error::is_lost) if the
    /// broker ended. [`is_unsupported`](Error::is_unsupported) on a broker if another thread waits
    /// with this orchestrator already: each thread that waits needs one of its own there.
    pub fn wait_for_watchers(&self, deadline: impl Into<Deadline>) -> Result<()> {
        self.watcher.wait_watchers(deadline.into())
    }

    /// After a change: lets `rebuild` handle it for the orchestrator itself, acknowledges, and
    /// waits for all others; starts over if the generation moves meanwhile. Returns the generation
    /// that everybody has acknowledged.
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
    /// let folder = tempfile::tempdir()?;
    /// let _broker = sysgenid_broker::spawn(folder.path())?;
    /// let orchestrator = Orchestrator::open_at(folder.path())?;
    /// orchestrator.trigger()?;
    /// let settled = orchestrator.settle(Duration::from_secs(5), |generation| {
    ///     println!("new host keys for generation {generation}");
    ///     Ok::<_, std::io::Error>(())
    /// })?;
    /// assert_eq!(settled.get(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn settle<E>(
        &self,
        deadline: impl Into<Deadline>,
        mut rebuild: impl FnMut(Generation) -> Result<(), E>,
    ) -> Result<Generation>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let deadline = deadline.into();
        loop {
            let mut settled = self.watcher.generation();
            if self.watcher.try_changed()?.is_some() {
                settled = self.watcher.handle(deadline, &mut rebuild)?;
            }
            match self.wait_for_watchers(deadline) {
                Ok(()) => return Ok(settled),
                Err(error) if error.is_outdated() && !deadline.has_passed() => {}
                Err(error) if error.is_outdated() => {
                    return Err(crate::watcher::watchers_timed_out().at(self.source.path()));
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
    /// [`is_lost`](Error::is_lost), or [`is_timeout`](Error::is_timeout) after five seconds.
    pub fn stragglers(&self) -> Result<Vec<Straggler>> {
        self.watcher.check_process()?;
        let list = || {
            if let Some(device) = self.watcher.device() {
                return device.stragglers();
            }
            let control = self.control()?;
            let deadline = Deadline::after(ANSWER_TIME);
            let mut stragglers = Vec::new();
            let mut after = 0;
            loop {
                let page = control.stragglers(after, deadline)?;
                if page.status != Status::Ok {
                    return Err(Error::new(Kind::Denied(
                        "the broker does not allow this here",
                    )));
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
        })
    }

    /// A connection to the broker's owner's socket. One for each call: they are rare, and one that
    /// is kept would have to be made again after the loss of the broker.
    fn control(&self) -> Result<Connection> {
        Connection::connect(&self.source.path().join(wire::CONTROL_SOCKET))
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

impl Straggler {
    fn from_wire(entry: &wire::Straggler) -> Self {
        let command = entry
            .command
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default();
        Self {
            pid: Some(entry.pid).filter(|pid| *pid != 0),
            command: String::from_utf8_lossy(command).into_owned(),
            acknowledged: Generation::from(entry.acknowledged),
        }
    }
}

impl fmt::Display for Straggler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "{} (pid {pid})", self.command),
            None => f.write_str("a process unknown to the kernel"),
        }
    }
}

impl fmt::Debug for Straggler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Straggler")
            .field("pid", &self.pid)
            .field("command", &self.command)
            .field("acknowledged", &self.acknowledged)
            .finish()
    }
}
