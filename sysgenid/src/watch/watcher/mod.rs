// SPDX-License-Identifier: Apache-2.0 OR MIT
mod broker;
mod debt;
mod device;
mod not_a_watcher;
mod phase;
mod reconnect;
mod reopen;

use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use sysgenid_sys::internal::fork;
use sysgenid_sys::wire;

use self::broker::BrokerWatcher;
pub(crate) use self::broker::{Asked, Opening};
use self::device::DeviceWatcher;
pub use self::not_a_watcher::NotAWatcher;
pub(crate) use self::reconnect::may_reconnect;
pub use self::reconnect::{Reconnected, Reconnector};
use crate::base::error::{Error, Kind, Result};
use crate::base::{Deadline, Generation};
use crate::check::Probe;
use crate::source::connection::{Connection, LOOK_TIME};
use crate::source::{Source, SourceKind, named_path};

/// How long a call to the broker that needs an answer may take, where the caller gives no
/// deadline: opening a watcher, a trigger, the list of stragglers.
pub(crate) const ANSWER_TIME: Duration = Duration::from_secs(5);

/// A watcher: it waits for a change of the generation, and acknowledges when it has been handled.
///
/// A watcher is *outdated* from the change of the generation until it has acknowledged the new
/// one. Orchestrators wait for the watchers that are *tracked*, which is the default: open an
/// untracked one to be told of changes without holding anybody up.
///
/// ```
/// use std::time::Duration;
/// use sysgenid::{Orchestrator, Watcher};
///
/// let broker = sysgenid_broker::testing::Broker::start()?;
/// let watcher = Watcher::open_at(broker.path())?;
/// Orchestrator::open_at(broker.path())?.trigger()?;
///
/// let generation = watcher.handle(Duration::from_secs(5), |generation| {
///     println!("rebuilding for generation {generation}");
///     Ok::<_, std::io::Error>(())
/// })?;
/// assert_eq!(generation.get(), 1);
/// assert_eq!(watcher.try_changed()?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Event loops
///
/// [`AsFd`] gives a descriptor that is readable while the watcher is outdated, or when its broker
/// is lost; use it with `poll`, `epoll` (level- or edge-triggered), mio or tokio. It is for
/// waiting only: nothing can be read from it. Register it at any time: a watcher that is outdated
/// already is reported, also on the shipped kernel drivers, whose own descriptor is not. It is an
/// epoll instance itself, and Linux takes those in another one, but not with `EPOLLEXCLUSIVE`.
///
/// # What is not guaranteed
///
/// Changes that follow one another quickly are seen as one, the latest. A wake-up may be
/// spurious: [`try_changed`](Self::try_changed) decides.
///
/// # Forked children
///
/// The kernel and the broker know one watcher, of which a forked child has a copy: if the child
/// acknowledged, the parent would be up to date without having rebuilt anything. So in a child each
/// call but [`generation`](Self::generation) and [`source`](Self::source) fails with
/// [`is_forked`](Error::is_forked), and the parent notices nothing of it. [`reopen`](Self::reopen)
/// makes it the child's own watcher.
///
/// The copy keeps the parent's watcher open, though: if the parent closes it while it is outdated,
/// orchestrators go on waiting for it until the child has closed it as well. So a child drops or
/// reopens what it does not use. [`AsFd`] cannot fail: the copy's descriptor goes on telling when
/// the *parent's* watcher is outdated.
///
/// What shares memory is no child in this sense: threads, and `vfork`.
pub struct Watcher {
    driver: Driver,
    /// An epoll instance around what the driver notifies with. It is one level more than a bare
    /// descriptor, and that cures the lost wake-ups of the shipped drivers and notices the
    /// loss of a broker.
    readiness: OwnedFd,
    source: Option<Source>,
    /// Whose it is.
    process: u32,
}

enum Driver {
    Device(DeviceWatcher),
    Broker(BrokerWatcher),
}

/// How a watcher is opened. Made by [`Watcher::options`].
#[derive(Clone, Debug)]
#[must_use = "options open nothing by themselves"]
pub struct WatcherOptions {
    tracked: Tracking,
    answer_time: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tracking {
    On,
    Off,
    /// Off where the source can do that, else on.
    OffIfPossible,
}

/// What orchestrators wait for a broker's watcher to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Duties {
    /// To acknowledge changes.
    pub(crate) tracked: bool,
    /// To acknowledge the phase as well, if it is tracked.
    pub(crate) parks: bool,
}

impl Duties {
    /// Those of a watcher that does not park.
    fn tracked(tracked: bool) -> Self {
        Self {
            tracked,
            parks: false,
        }
    }
}

impl WatcherOptions {
    /// Whether orchestrators wait for this watcher. The default is `true`.
    pub fn tracked(mut self, tracked: bool) -> Self {
        self.tracked = if tracked { Tracking::On } else { Tracking::Off };
        self
    }

    /// How long a broker may take to answer while the watcher is opened. The default is five seconds;
    /// at least a tenth of one is always given. Nothing else that a watcher does waits for an answer.
    ///
    /// ```
    /// use std::time::Duration;
    /// use sysgenid::Watcher;
    ///
    /// let broker = sysgenid_broker::testing::Broker::start()?;
    /// let options = Watcher::options().answer_within(Duration::from_secs(1));
    /// let watcher = options.open_at(broker.path())?;
    /// # drop(watcher);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn answer_within(mut self, time: Duration) -> Self {
        self.answer_time = time.max(LOOK_TIME);
        self
    }

    pub(crate) fn tracking(mut self, tracking: Tracking) -> Self {
        self.tracked = tracking;
        self
    }

    /// Opens the watcher on the discovered source.
    ///
    /// # Errors
    ///
    /// As [`Watcher::open`]; [`is_unsupported`](Error::is_unsupported) for an untracked watcher on
    /// a driver of the v5 dialect, which tracks every open file.
    pub fn open(&self) -> Result<Watcher> {
        self.open_on(Source::discover()?)
    }

    /// Opens the watcher on the source at `path`.
    ///
    /// # Errors
    ///
    /// As [`WatcherOptions::open`].
    pub fn open_at(&self, path: impl Into<PathBuf>) -> Result<Watcher> {
        self.open_on(Source::at(path)?)
    }

    /// Opens the watcher on `source`.
    ///
    /// # Errors
    ///
    /// As [`WatcherOptions::open`].
    pub fn open_on(&self, source: Source) -> Result<Watcher> {
        let open = || {
            let readiness = new_readiness()?;
            let driver = match source.kind() {
                SourceKind::Device => Driver::Device(DeviceWatcher::open(
                    source.path(),
                    self.tracked,
                    &readiness,
                )?),
                SourceKind::Broker => Driver::Broker(BrokerWatcher::open(
                    &source,
                    self.tracked,
                    &readiness,
                    self.answer_time.into(),
                )?),
                SourceKind::Vmgenid | SourceKind::Vmclock => {
                    return Err(Error::new(Kind::Unsupported(
                        "a counter of the hypervisor's takes no acknowledgements and no triggers; \
                         probe it, and watch the kernel driver (`modprobe sysgenid`) or the \
                         userspace driver (`sysgenid serve`) beside it",
                    )));
                }
                SourceKind::PageFile => {
                    return Err(Error::new(Kind::Unsupported(
                        "a page file tells of no events and takes no acknowledgements; probe it, \
                         or name a device or a broker's directory, for example in SYSGENID_SOURCE",
                    )));
                }
            };
            Ok((driver, readiness))
        };
        match open() {
            Ok((driver, readiness)) => Ok(Watcher {
                driver,
                readiness,
                source: Some(source),
                process: fork::process(),
            }),
            Err(error) => Err(error.at(source.path())),
        }
    }
}

impl Watcher {
    /// Opens a tracked watcher on the discovered source: see [`Source::discover`].
    ///
    /// It starts up to date: only later changes are reported.
    ///
    /// # Errors
    ///
    /// As [`Source::discover`], and: [`is_permission`](Error::is_permission) if it may not be
    /// opened for reading and writing; [`is_unsupported`](Error::is_unsupported) for a page
    /// file, a counter of the hypervisor's or a driver of the v4 dialect; [`is_broken`](Error::is_broken) for a node without a driver;
    /// [`is_lost`](Error::is_lost) if no broker runs in the directory or it is full.
    pub fn open() -> Result<Self> {
        Self::options().open()
    }

    /// The same, but `None` if the machine has no driver and no broker at the usual places: for a library
    /// that is to work there as well. A source that [`SYSGENID_SOURCE`](crate::SOURCE_VARIABLE) names
    /// is no matter of chance: that it is absent is an error here, too.
    ///
    /// It looks once.
    ///
    /// # Errors
    ///
    /// As [`Watcher::open`].
    ///
    /// ```
    /// if let Some(watcher) = sysgenid::Watcher::open_if_any()? {
    ///     println!("watching {:?}", watcher.source());
    /// }
    /// # Ok::<(), sysgenid::Error>(())
    /// ```
    pub fn open_if_any() -> Result<Option<Self>> {
        match Self::open() {
            Ok(watcher) => Ok(Some(watcher)),
            Err(error) if error.is_absent() && named_path().is_none() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens a tracked watcher on the source at `path`.
    ///
    /// # Errors
    ///
    /// As [`Watcher::open`].
    pub fn open_at(path: impl Into<PathBuf>) -> Result<Self> {
        Self::options().open_at(path)
    }

    /// Options for a watcher that is not the default one.
    ///
    /// ```
    /// let broker = sysgenid_broker::testing::Broker::start()?;
    /// let onlooker = sysgenid::Watcher::options().tracked(false).open_at(broker.path())?;
    /// # drop(onlooker);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn options() -> WatcherOptions {
        WatcherOptions {
            tracked: Tracking::On,
            answer_time: ANSWER_TIME,
        }
    }

    /// Makes a watcher of an open descriptor of the kernel device, with the tracking and the
    /// acknowledged generation that it has.
    ///
    /// # Errors
    ///
    /// [`NotAWatcher`] gives the descriptor back, unchanged, with the reason:
    /// [`is_wrong_kind`](Error::is_wrong_kind) if it is not the device, or if neither sysfs nor
    /// `/proc/misc` can be read to tell;
    /// [`is_unsupported`](Error::is_unsupported) if it was not opened for reading and writing with
    /// `O_NONBLOCK`: a watcher never blocks in `read`, and the flag of a shared descriptor is not
    /// for this crate to change.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, NotAWatcher> {
        let readiness = match new_readiness() {
            Ok(readiness) => readiness,
            Err(error) => return Err(NotAWatcher::new(fd, error)),
        };
        match DeviceWatcher::from_fd(fd, &readiness) {
            Ok(device) => Ok(Self {
                driver: Driver::Device(device),
                readiness,
                source: None,
                process: fork::process(),
            }),
            Err((fd, error)) => Err(NotAWatcher::new(fd, error)),
        }
    }

    /// The source that the watcher was opened on; `None` if it was made of a descriptor.
    #[must_use]
    pub fn source(&self) -> Option<&Source> {
        self.source.as_ref()
    }

    /// The current generation, whether or not it has been acknowledged: one load.
    #[inline]
    #[must_use]
    pub fn generation(&self) -> Generation {
        match &self.driver {
            Driver::Device(device) => device.generation(),
            Driver::Broker(broker) => broker.generation(),
        }
    }

    /// The current generation if the watcher is outdated. Never waits, and tells again until it is
    /// acknowledged.
    ///
    /// # Errors
    ///
    /// [`is_lost`](Error::is_lost) if the broker has ended; but a change that the page shows is told
    /// first, and then [`acknowledge`](Self::acknowledge) fails so. [`is_forked`](Error::is_forked) in
    /// a forked child; the error of `read` or `poll`.
    pub fn try_changed(&self) -> Result<Option<Generation>> {
        self.check_process()?;
        let changed = match &self.driver {
            Driver::Device(device) => device.try_changed(),
            Driver::Broker(broker) => broker.try_changed(),
        };
        if let Ok(Some(generation)) = changed {
            renew_advice(generation);
        }
        changed.map_err(|error| self.locate(error))
    }

    /// Waits until the watcher is outdated and returns the current generation. Returns at once if
    /// it is already. Signals do not end the wait.
    ///
    /// # Errors
    ///
    /// [`is_timeout`](Error::is_timeout) if the deadline passed; [`is_lost`](Error::is_lost) if
    /// the broker ended meanwhile; [`is_forked`](Error::is_forked) in a forked child.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let broker = sysgenid_broker::testing::Broker::start()?;
    /// let watcher = sysgenid::Watcher::open_at(broker.path())?;
    /// let error = watcher.wait(Duration::from_millis(10)).unwrap_err();
    /// assert!(error.is_timeout());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait(&self, deadline: impl Into<Deadline>) -> Result<Generation> {
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
            self.sleep(deadline)?;
        }
    }

    /// Acknowledges that `generation` has been handled. Never waits; doing it twice is fine.
    ///
    /// # Errors
    ///
    /// [`is_stale`](Error::is_stale) if `generation` is not the current one: nothing is
    /// acknowledged, the watcher stays outdated, and [`current`](Error::current) tells what to
    /// rebuild for. [`is_lost`](Error::is_lost) if the broker has ended or does not read.
    /// [`is_forked`](Error::is_forked) in a forked child: nothing is acknowledged.
    ///
    /// ```
    /// use sysgenid::{Generation, Orchestrator, Watcher};
    ///
    /// let broker = sysgenid_broker::testing::Broker::start()?;
    /// let watcher = Watcher::open_at(broker.path())?;
    /// Orchestrator::open_at(broker.path())?.trigger()?;
    ///
    /// let error = watcher.acknowledge(Generation::new(0)).unwrap_err();
    /// assert!(error.is_stale());
    /// watcher.acknowledge(error.current().unwrap())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn acknowledge(&self, generation: Generation) -> Result<()> {
        self.check_process()?;
        let acknowledged = match (u32::try_from(generation), &self.driver) {
            (Ok(number), Driver::Device(device)) => device.acknowledge(number, &self.readiness),
            (Ok(number), Driver::Broker(broker)) => broker.acknowledge(number),
            // A number that no source with watchers ever has.
            (Err(_), _) => Err(Error::new(Kind::Stale {
                acknowledged: generation,
                current: self.generation(),
            })),
        };
        if acknowledged.is_ok() {
            // Not where an event loop is told of it, which is to be quick.
            renew_advice(generation);
        }
        acknowledged.map_err(|error| self.locate(error))
    }

    /// Waits for a change, lets `rebuild` handle it, and acknowledges; starts over if the
    /// generation moved meanwhile. Returns the generation that was acknowledged.
    ///
    /// `deadline` limits the waiting and the starting over, not the time that `rebuild` takes.
    ///
    /// # Errors
    ///
    /// [`is_rebuild`](Error::is_rebuild) if `rebuild` failed: nothing is acknowledged, the watcher
    /// stays outdated. [`is_timeout`](Error::is_timeout), [`is_lost`](Error::is_lost),
    /// [`is_forked`](Error::is_forked) as [`wait`](Self::wait).
    pub fn handle<E>(
        &self,
        deadline: impl Into<Deadline>,
        mut rebuild: impl FnMut(Generation) -> Result<(), E>,
    ) -> Result<Generation>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let deadline = deadline.into();
        loop {
            let generation = self.wait(deadline)?;
            rebuild(generation).map_err(|error| self.locate(Error::rebuild(error)))?;
            match self.acknowledge(generation) {
                Ok(()) => return Ok(generation),
                // Outdated still, so the wait returns at once, with the newer generation. The
                // deadline is looked at here: `wait` reports a change even when it has passed.
                Err(error) if error.is_stale() && !deadline.has_passed() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sets whether orchestrators wait for this watcher. Turning it on while outdated makes them
    /// wait at once. Never waits: a broker does this before it answers what it is asked afterwards,
    /// by any client, unless it has hundreds of requests of the same user to read.
    ///
    /// # Errors
    ///
    /// [`is_unsupported`](Error::is_unsupported) when turned off on a driver of the v5 dialect;
    /// [`is_lost`](Error::is_lost) if the broker has ended or does not read;
    /// [`is_forked`](Error::is_forked) in a forked child.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let broker = sysgenid_broker::testing::Broker::start()?;
    /// let watcher = sysgenid::Watcher::open_at(broker.path())?;
    /// watcher.set_tracking(false)?;
    /// let status = watcher.source().unwrap().status(Duration::from_secs(5))?;
    /// assert_eq!(status.watchers.unwrap().tracked, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_tracking(&self, tracked: bool) -> Result<()> {
        self.check_process()?;
        let set = match &self.driver {
            Driver::Device(device) => device.set_tracking(tracked),
            Driver::Broker(broker) => broker.set_tracking(tracked),
        };
        set.map_err(|error| self.locate(error))
    }

    /// A probe of the watcher's source, which may outlive the watcher.
    ///
    /// On a driver of the v5 dialect, and for a watcher made of a descriptor, it is mapped from
    /// the watcher's own file: there it keeps the watcher alive, so drop the probe first. (An
    /// outdated tracked watcher that nobody can acknowledge holds orchestrators up.)
    ///
    /// # Errors
    ///
    /// As [`Probe::open_at`], without its limitation on v5; [`is_forked`](Error::is_forked) in a
    /// forked child, where a mapping would keep the parent's watcher open.
    pub fn probe(&self) -> Result<Probe> {
        self.check_process()?;
        let probe = match (&self.driver, &self.source) {
            (Driver::Device(device), source) => device.probe(source.as_ref()),
            (Driver::Broker(_), Some(source)) => Probe::open_on(source.clone()),
            (Driver::Broker(_), None) => Err(sourceless()),
        };
        probe.map_err(|error| self.locate(error))
    }

    /// Waits until no tracked watcher is outdated. Returns how many there are, if the source tells.
    pub(crate) fn wait_watchers(&self, deadline: Deadline) -> Result<Option<u32>> {
        self.check_process()?;
        let waited = match (&self.driver, &self.source) {
            (Driver::Device(device), _) => device
                .wait_watchers(deadline)
                .map(|()| device.tracked_watchers()),
            (Driver::Broker(broker), Some(source)) => broker.wait_watchers(source, deadline),
            (Driver::Broker(_), None) => Err(sourceless()),
        };
        waited.map_err(|error| self.locate(error))
    }

    /// Begins to wait for the watchers of a broker, for an event loop; `None` on the kernel device, where
    /// only a thread can wait. Never waits itself.
    pub(crate) fn begin_wait(&self) -> Result<Option<Connection>> {
        self.check_process()?;
        match (&self.driver, &self.source) {
            (Driver::Broker(broker), Some(source)) => {
                let begun = broker.begin_wait_in_a_loop(source);
                begun.map(Some).map_err(|error| self.locate(error))
            }
            _ => Ok(None),
        }
    }

    /// How many tracked watchers there are, if that wait is over. Never waits.
    pub(crate) fn try_end_wait(&self, waiting: &Connection) -> Result<Option<u32>> {
        self.check_process()?;
        let ended = match &self.driver {
            Driver::Device(_) => Ok(None),
            Driver::Broker(broker) => broker.try_end_wait(waiting),
        };
        ended.map_err(|error| self.locate(error))
    }

    /// What to wait with instead of [`AsFd`], which has this inside of it, by those who learn of each
    /// reconnecting.
    pub(crate) fn events(&self) -> BorrowedFd<'_> {
        match &self.driver {
            Driver::Device(_) => self.readiness.as_fd(),
            Driver::Broker(broker) => broker.events(),
        }
    }

    /// As [`try_changed`](Self::try_changed), at an event that did not say that the broker is lost.
    pub(crate) fn try_changed_at_event(&self) -> Result<Option<Generation>> {
        match &self.driver {
            Driver::Device(_) => self.try_changed(),
            Driver::Broker(broker) => {
                self.check_process()?;
                let changed = broker.try_changed_at_event();
                changed.map_err(|error| self.locate(error))
            }
        }
    }

    /// Until there may be a change, or the deadline.
    pub(crate) fn sleep(&self, deadline: Deadline) -> Result<()> {
        let slept = match &self.driver {
            Driver::Device(device) => device.sleep(deadline),
            Driver::Broker(broker) => broker.sleep(deadline),
        };
        slept.map_err(|error| self.locate(error))
    }

    /// To be called before waiting for the next event while `seen` is not acknowledged. Tells whether
    /// the broker is there, also while there is a change to handle.
    pub(crate) fn await_next(&self, seen: Generation) -> Result<()> {
        match (&self.driver, u32::try_from(seen)) {
            (Driver::Broker(broker), Ok(seen)) => {
                broker.await_next(seen).map_err(|error| self.locate(error))
            }
            _ => Ok(()),
        }
    }

    /// The connection to the broker, if it is on one.
    pub(crate) fn connection(&self) -> Option<&Arc<Connection>> {
        match &self.driver {
            Driver::Device(_) => None,
            Driver::Broker(broker) => Some(broker.connection()),
        }
    }

    /// Why the generation changed to this one, as long as that is not acknowledged and the broker's
    /// notice says so. Never waits.
    pub(crate) fn cause(&self, generation: Generation) -> Option<wire::Cause> {
        match (&self.driver, u32::try_from(generation)) {
            (Driver::Broker(broker), Ok(number)) => broker.cause(number),
            _ => None,
        }
    }

    /// The kernel device, for what only it can do itself.
    pub(crate) fn device(&self) -> Option<&DeviceWatcher> {
        match &self.driver {
            Driver::Device(device) => Some(device),
            Driver::Broker(_) => None,
        }
    }

    fn locate(&self, error: Error) -> Error {
        match &self.source {
            Some(source) => error.at(source.path()),
            None => error,
        }
    }
}

impl AsFd for Watcher {
    /// Readable while the watcher is outdated, or when its broker is lost. For waiting only.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readiness.as_fd()
    }
}

impl AsRawFd for Watcher {
    fn as_raw_fd(&self) -> RawFd {
        self.readiness.as_raw_fd()
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher")
            .field("source", &self.source)
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}

/// A change may be a restore that has lost the advice about forks. It is renewed once for each: as many
/// watchers see one change as there are, and the process-wide witness, which says the same number.
fn renew_advice(generation: Generation) {
    fork::renew_for(generation.get().rotate_left(32));
}

pub(crate) fn new_readiness() -> Result<OwnedFd> {
    epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|errno| Error::call("epoll_create", errno))
}

fn sourceless() -> Error {
    Error::new(Kind::Unsupported("a broker's watcher always has a source"))
}

fn parking_timed_out() -> Error {
    Error::new(Kind::TimedOut(
        "the deadline passed while tracked watchers had not acknowledged the phase",
    ))
}

pub(crate) fn watchers_timed_out() -> Error {
    Error::new(Kind::TimedOut(
        "the deadline passed while tracked watchers had not acknowledged the current generation",
    ))
}
