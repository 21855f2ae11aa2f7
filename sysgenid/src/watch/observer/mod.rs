// SPDX-License-Identifier: Apache-2.0 OR MIT
mod clock;
// A vmclock is a source on such machines only.
#[cfg(all(test, target_pointer_width = "64", target_endian = "little"))]
mod tests;

use std::fmt;
use std::path::PathBuf;

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use sysgenid_sys::internal::fork;
use sysgenid_sys::vmclock;

use self::clock::Clock;
use crate::base::error::{Error, Kind, Result};
use crate::base::{Deadline, Generation};
use crate::check::Probe;
use crate::source::{Source, SourceKind};

/// Waits for a change of a counter that the hypervisor writes, where it notifies of changes: a
/// vmclock with notifications.
///
/// There is nobody to acknowledge to, so an observer is no [`Watcher`](crate::Watcher): no
/// orchestrator waits for it, and a change is told of **once**, whether or not it was handled.
///
/// ```no_run
/// use sysgenid::{Deadline, Observer};
///
/// let mut observer = Observer::open()?;
/// loop {
///     let generation = observer.wait(Deadline::NEVER)?;
///     println!("restored: rebuilding for generation {generation}");
/// }
/// # #[expect(unreachable_code)]
/// # Ok::<(), sysgenid::Error>(())
/// ```
///
/// Not every machine has such a clock. What is no use here says so, and what to do instead:
///
/// ```
/// use sysgenid::{Observer, PageFile, Probe};
///
/// let folder = tempfile::tempdir()?;
/// let page = folder.path().join("page");
/// let _host = PageFile::open(&page)?;
///
/// let error = Observer::open_at(&page).unwrap_err();
/// assert!(error.is_unsupported());
/// let probe = Probe::open_at(&page)?; // and a timer, to look at it
/// # let _ = probe;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Event loops
///
/// [`AsFd`] gives a descriptor that is readable when the hypervisor has notified since the last
/// [`try_changed`](Self::try_changed); use it with `poll`, `epoll` (level- or edge-triggered), mio or
/// tokio. It is for waiting only, and an epoll instance itself, as a watcher's.
///
/// # What is not guaranteed
///
/// **The kernel may not have reseeded yet** when an observer is woken: the order of the two is nobody's
/// promise. What is rebuilt from the kernel's random numbers at once may be rebuilt alike in every
/// clone. A watcher of the kernel driver is woken after that.
///
/// **Only restores are told of**: no trigger, no restored container, no hibernation.
///
/// It is woken by the hypervisor's notifications, and by nothing else. One that is not sent is not
/// missed before the next look: also after the machine has moved to a hypervisor that sends none.
/// Changes that follow one another quickly are seen as one, the latest, and a change back to the number
/// that was told of last is not seen.
///
/// # Forked children
///
/// The driver keeps what was seen with the open file, which a forked child shares. If the child looked,
/// it would take the parent's wake-up. So in a child each call but [`generation`](Self::generation) and
/// [`probe`](Self::probe) fails with [`is_forked`](Error::is_forked), until [`reopen`](Self::reopen).
pub struct Observer {
    clock: Clock,
    source: Source,
    /// The generation that was told of last.
    told: Generation,
    /// Whose it is.
    process: u32,
}

impl Observer {
    /// Opens an observer on the source that `SYSGENID_SOURCE` names; without that, on the first
    /// vmclock that can be used. No other source is looked for.
    ///
    /// It starts up to date: only later changes are told of.
    ///
    /// # Errors
    ///
    /// As [`Observer::open_at`], of the first vmclock if there are several;
    /// [`is_absent`](Error::is_absent) if there is none.
    pub fn open() -> Result<Self> {
        if let Some(named) = Source::named() {
            return Self::open_on(named?);
        }
        let mut refused = None;
        for clock in Source::clocks() {
            match Self::open_on(clock) {
                Ok(observer) => return Ok(observer),
                Err(error) => {
                    refused.get_or_insert(error);
                }
            }
        }
        Err(refused.unwrap_or_else(|| Error::new(Kind::Absent).at(vmclock::DEVICE_PATH)))
    }

    /// Opens an observer on the clock at `path`.
    ///
    /// # Errors
    ///
    /// As [`Probe::open_at`] of a vmclock, and [`is_unsupported`](Error::is_unsupported): if its
    /// hypervisor does not notify of changes, if the driver of this kernel cannot wait for them, or if it
    /// is another kind of source.
    pub fn open_at(path: impl Into<PathBuf>) -> Result<Self> {
        Self::open_on(Source::at(path)?)
    }

    /// Opens an observer on `source`.
    ///
    /// # Errors
    ///
    /// As [`Observer::open_at`].
    pub fn open_on(source: Source) -> Result<Self> {
        let open = || {
            check_kind(source.kind())?;
            Clock::open(&source)
        };
        let clock = open().map_err(|error: Error| error.at(source.path()))?;
        Ok(Self::of(clock, source))
    }

    /// One for which all that was before is past.
    fn of(clock: Clock, source: Source) -> Self {
        Self {
            told: clock.probe().generation(),
            clock,
            source,
            process: fork::process(),
        }
    }

    /// The current generation, whether or not it has been told of: one load.
    #[inline]
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.probe().generation()
    }

    /// A probe of the same clock. Its [`source`](Probe::source) is the observer's, and its
    /// [`verify`](Probe::verify) says if the node is still that of the clock.
    #[must_use]
    pub fn probe(&self) -> &Probe {
        self.clock.probe()
    }

    /// The current generation, if it is another one than was told of last. Each change is told of once.
    ///
    /// Does not wait, but for a hypervisor that begins to write just then: the driver waits for that to
    /// end, for 100 ms at most.
    ///
    /// # Errors
    ///
    /// [`is_unsupported`](Error::is_unsupported) if the machine has moved to a hypervisor that does not
    /// notify, or keeps no counter: do not wait any more. [`is_forked`](Error::is_forked) in a forked
    /// child; the error of `read` or `epoll_wait`.
    pub fn try_changed(&mut self) -> Result<Option<Generation>> {
        self.look(|| {})
    }

    /// Takes what was notified of. To be called before the look at the generation, by those who remember
    /// themselves what they were told. As [`try_changed`](Self::try_changed), it does not wait but for the
    /// driver.
    pub(crate) fn take_notification(&self) -> Result<()> {
        self.check_process()?;
        let taken = self.clock.acknowledge();
        taken.map_err(|error| self.locate(error))
    }

    /// `meanwhile` is called between the steps, where a change may come in; only a test has something
    /// to do there.
    fn look(&mut self, meanwhile: impl FnOnce()) -> Result<Option<Generation>> {
        self.check_process()?;
        let acknowledged = self.clock.acknowledge();
        meanwhile();
        let current = self.generation();
        if current != self.told {
            // A failure can wait: the next call has it as well.
            self.told = current;
            // It may have been a restore that has lost the advice.
            fork::renew();
            return Ok(Some(current));
        }
        acknowledged.map_err(|error| self.locate(error))?;
        Ok(None)
    }

    /// Waits for a change that has not been told of, and returns the current generation. Signals do not
    /// end the wait.
    ///
    /// # Errors
    ///
    /// [`is_timeout`](Error::is_timeout) if the deadline passed; else as
    /// [`try_changed`](Self::try_changed).
    pub fn wait(&mut self, deadline: impl Into<Deadline>) -> Result<Generation> {
        let deadline = deadline.into();
        loop {
            if let Some(generation) = self.try_changed()? {
                return Ok(generation);
            }
            if deadline.has_passed() {
                return Err(self.locate(Error::new(Kind::TimedOut(
                    "the generation did not change before the deadline",
                ))));
            }
            let slept = self.clock.sleep(deadline);
            slept.map_err(|error| self.locate(error))?;
        }
    }

    /// In a forked child: opens the clock anew, in the place of the parent's open file. In the process
    /// that the observer belongs to, there is nothing to do.
    ///
    /// What the parent had not been told of at the fork, and what has changed since, is told of in the
    /// child as well. The parent's observer is left as it is. The descriptor of [`AsFd`] is another one
    /// afterwards.
    ///
    /// # Errors
    ///
    /// As [`Observer::open_at`]; the observer then is as it was.
    pub fn reopen(&mut self) -> Result<()> {
        if self.process == fork::process() {
            return Ok(());
        }
        self.clock = Clock::open(&self.source).map_err(|error| self.locate(error))?;
        self.process = fork::process();
        Ok(())
    }

    /// Whether the observer is this process's own, at the cost of a system call.
    fn check_process(&self) -> Result<()> {
        if self.process == fork::process() {
            return Ok(());
        }
        Err(self.locate(Error::new(Kind::Forked)))
    }

    fn locate(&self, error: Error) -> Error {
        error.at(self.source.path())
    }
}

/// Whether observing a source of this kind makes sense.
fn check_kind(kind: SourceKind) -> Result<()> {
    match kind {
        SourceKind::Vmclock => Ok(()),
        SourceKind::Device | SourceKind::Broker => Err(Error::new(Kind::Unsupported(
            "a driver has acknowledgements, and tells of a change until it has one; use a `Watcher`",
        ))),
        SourceKind::Vmgenid | SourceKind::PageFile => Err(Error::new(Kind::Unsupported(
            "it tells of no events; look at it from time to time with a `Probe` and a timer \
             (`sysgenid_tokio::PolledProbe` is one), or watch the kernel driver (`modprobe \
             sysgenid`) or the userspace driver (`sysgenid serve`)",
        ))),
    }
}

impl AsFd for Observer {
    /// Readable when the hypervisor has notified since the last look. For waiting only.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.clock.as_fd()
    }
}

impl AsRawFd for Observer {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer")
            .field("source", &self.source)
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}
