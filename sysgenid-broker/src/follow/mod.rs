// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What announces restores to the broker: one file for each follower, `decide` for when the generation
//! changes, and `listen` for the thread that listens to all of them.
//!
//! Nothing in here runs on the broker's own thread but the opening, at the start.

mod decide;
mod gvisor;
mod kmsg;
mod listen;
mod saved;
mod vmclock;
mod vmgenid;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
pub use sysgenid_sys::wire::{Followers, NoSuchFollower};

use self::gvisor::Checkpoint;
use self::kmsg::Log;
pub(crate) use self::listen::{Event, Listening};
use self::vmclock::Clock;
use self::vmgenid::Counter;
use crate::Error;

/// How long the kernel's record may take after a hypervisor's counter has changed, unless
/// [`Follow::patience`] says otherwise. Under emulation the record came up to 91 ms after the resume.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// What renews the kernel's entropy, and says whether it has.
pub(crate) type Barrier = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Which followers a broker is to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// Those that work here.
    Auto,
    /// None: the generation changes only when a client triggers it.
    #[default]
    None,
    /// These, each of which must work.
    Named(Followers),
}

/// `auto`, `none`, or names with commas between them.
///
/// ```
/// use sysgenid_broker::follow::{Choice, Followers};
///
/// assert_eq!("auto".parse(), Ok(Choice::Auto));
/// assert_eq!("kmsg".parse(), Ok(Choice::Named(Followers::KMSG)));
/// assert!("kmsg,auto".parse::<Choice>().is_err());
/// ```
impl FromStr for Choice {
    type Err = NoSuchFollower;

    fn from_str(text: &str) -> Result<Self, NoSuchFollower> {
        match text {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            names => names
                .split(',')
                .try_fold(Followers::NONE, |all, name| Ok(all.with(name.parse()?)))
                .map(Self::Named),
        }
    }
}

/// What a broker follows, for [`Server::follow`](crate::Server::follow).
///
/// ```
/// use sysgenid_broker::Server;
/// use sysgenid_broker::follow::{Choice, Follow};
///
/// let directory = tempfile::tempdir()?;
/// let mut server = Server::bind(directory.path())?;
/// let report = server.follow(Follow::new(Choice::Auto))?;
/// println!("follows {}", report.followers);
/// for missing in &report.missing {
///     println!("not {missing}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Follow {
    choice: Choice,
    patience: Duration,
    barrier: Option<Barrier>,
    log: Option<Arc<OwnedFd>>,
    clock: Option<PathBuf>,
    counter: Option<PathBuf>,
    checkpoint: Option<PathBuf>,
}

impl Follow {
    /// These followers, without an entropy barrier.
    #[must_use]
    pub fn new(choice: Choice) -> Self {
        Self {
            choice,
            patience: PATIENCE,
            barrier: None,
            log: None,
            clock: None,
            counter: None,
            checkpoint: None,
        }
    }

    /// How long the kernel's record may take after a counter has changed. Then the barrier is run, and
    /// without one the generation changes with the cause
    /// [`ENTROPY_UNKNOWN`](sysgenid_sys::wire::Cause::ENTROPY_UNKNOWN).
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// What renews the kernel's entropy where no record says that the kernel did so itself. It runs on a
    /// thread of its own, one at a time, and has five seconds. Its error is told as an
    /// [`Incident`](crate::Incident).
    #[must_use]
    pub fn barrier(
        mut self,
        barrier: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.barrier = Some(Arc::new(barrier));
        self
    }

    /// Reads this in place of `/dev/kmsg`: one record at each read, or `EAGAIN`.
    #[doc(hidden)]
    #[must_use]
    pub fn log(mut self, log: OwnedFd) -> Self {
        self.log = Some(Arc::new(log));
        self
    }

    /// Maps this in place of `/dev/vmclockN`.
    #[doc(hidden)]
    #[must_use]
    pub fn clock(mut self, path: impl Into<PathBuf>) -> Self {
        self.clock = Some(path.into());
        self
    }

    /// Maps this in place of `/dev/vmgenid`.
    #[doc(hidden)]
    #[must_use]
    pub fn counter(mut self, path: impl Into<PathBuf>) -> Self {
        self.counter = Some(path.into());
        self
    }

    /// Reads this in place of `/proc/gvisor/checkpoint`.
    #[doc(hidden)]
    #[must_use]
    pub fn checkpoint(mut self, path: impl Into<PathBuf>) -> Self {
        self.checkpoint = Some(path.into());
        self
    }

    /// Opens what is wanted, and says what is missing.
    pub(crate) fn open(self) -> Result<(Opened, Report), Error> {
        let wanted = match self.choice {
            Choice::None => Followers::NONE,
            Choice::Named(named) => named,
            Choice::Auto => Followers::EACH
                .into_iter()
                .fold(Followers::NONE, Followers::with),
        };
        let mut opened = Opened {
            patience: self.patience,
            barrier: self.barrier.clone(),
            ..Opened::default()
        };
        let mut report = Report::default();
        for follower in wanted.each() {
            match self.open_one(follower, &mut opened) {
                Ok(()) => report.followers = report.followers.with(follower),
                Err(why) if self.choice == Choice::Auto => {
                    report.missing.push(Missing { follower, why });
                }
                Err(why) => return Err(Error::follower(follower, why)),
            }
        }
        Ok((opened, report))
    }

    fn open_one(&self, follower: Followers, opened: &mut Opened) -> Result<(), String> {
        match follower {
            Followers::KMSG => {
                let log = match &self.log {
                    Some(log) => log.try_clone().map(Log::of).map_err(|it| it.to_string()),
                    None => Log::open(),
                };
                opened.log = Some(log?);
            }
            Followers::VMCLOCK => {
                opened.clock = Some(match &self.clock {
                    Some(path) => Clock::open_at(path)?,
                    None => Clock::open()?,
                });
            }
            Followers::VMGENID => {
                opened.counter = Some(match &self.counter {
                    Some(path) => Counter::open_at(path)?,
                    None => Counter::open()?,
                });
            }
            Followers::GVISOR => {
                opened.checkpoint = Some(match &self.checkpoint {
                    Some(path) => Checkpoint::find_at(path)?,
                    None => Checkpoint::find()?,
                });
            }
            _ => return Err("this release does not know it".into()),
        }
        Ok(())
    }
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow")
            .field("choice", &self.choice)
            .field("patience", &self.patience)
            .field("has_barrier", &self.barrier.is_some())
            .finish_non_exhaustive()
    }
}

/// What a broker follows, and what it does not although it was to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// What announces restores to the broker.
    pub followers: Followers,
    /// What does not work here; only with [`Choice::Auto`].
    pub missing: Vec<Missing>,
}

/// A follower that does not work here, and why. It prints both.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Missing {
    /// Which one.
    pub follower: Followers,
    /// What it lacks.
    pub why: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.follower, self.why)
    }
}

/// Takes from the calling thread the capability that the opening of the kernel's log takes
/// (`CAP_SYSLOG`), and so from the threads that it starts later. The followers' threads do it
/// themselves: reading takes none.
///
/// # Errors
///
/// The error of `capset`: a sandbox may forbid it.
pub fn renounce_privileges() -> io::Result<()> {
    let mut sets = capabilities(None)?;
    for set in [
        &mut sets.effective,
        &mut sets.permitted,
        &mut sets.inheritable,
    ] {
        set.remove(CapabilitySet::SYSLOG);
    }
    Ok(set_capabilities(None, sets)?)
}

/// Followers that work.
#[derive(Default)]
pub(crate) struct Opened {
    log: Option<Log>,
    clock: Option<Clock>,
    counter: Option<Counter>,
    checkpoint: Option<Checkpoint>,
    patience: Duration,
    barrier: Option<Barrier>,
}

impl Opened {
    pub(crate) fn is_empty(&self) -> bool {
        self.followers().is_empty()
    }

    fn followers(&self) -> Followers {
        let each = [
            (self.log.is_some(), Followers::KMSG),
            (self.clock.is_some(), Followers::VMCLOCK),
            (self.counter.is_some(), Followers::VMGENID),
            (self.checkpoint.is_some(), Followers::GVISOR),
        ];
        each.into_iter()
            .filter(|(is_there, _)| *is_there)
            .fold(Followers::NONE, |all, (_, one)| all.with(one))
    }
}
