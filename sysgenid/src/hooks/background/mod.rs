// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The thread of a process that runs the hooks for each change.

mod error;
mod event;
mod parking;
mod running;
mod work;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwapOption;

pub use self::error::BackgroundError;
pub use self::event::BackgroundEvent;
use self::running::Running;
use super::entry::is_in_hook;
use super::registry::has_missed;
use crate::base::error::{Error, Kind, Result};
use crate::base::fork_lock::ForkLock;
use crate::base::{Deadline, Generation};
#[cfg(feature = "testing")]
use crate::check::world::{carried, room};
use crate::watch::{Changes, ChangesOptions};

/// The thread that was started last, in this process or in one that it is a copy of.
static CURRENT: ArcSwapOption<Running> = ArcSwapOption::const_empty();

/// Held while one is started.
#[cfg(not(sysgenid_loom))]
static STARTING: ForkLock = ForkLock::new();

#[cfg(sysgenid_loom)]
loom::lazy_static! {
    static ref STARTING: ForkLock = ForkLock::new();
}

/// Starts the thread that runs the hooks for each change of the generation, and acknowledges it when they
/// have succeeded; or returns the one that runs. [`Background::options`] with the defaults.
///
/// ```
/// use std::time::Duration;
/// use sysgenid::{Deadline, hooks};
///
/// hooks::after_restore(|restore| println!("rebuilding for {}", restore.generation()));
/// let background = sysgenid::background()?;
/// // … the program …
/// assert!(background.is_alive());
/// assert!(background.stop(Duration::from_secs(5)));
/// # Ok::<(), sysgenid::Error>(())
/// ```
///
/// - If a hook fails, all others run, and the change is **not acknowledged**: orchestrators keep
///   waiting, and name this process. The hooks are run again after a tenth of a second, then after
///   twice as long each time, up to half a minute; and at once when the generation changes again. The
///   failure is [`last_error`](Background::last_error), and is given to what
///   [`report`](BackgroundOptions::report) names. Nothing is printed.
/// - When a broker's orchestrator asks programs to [come to rest](crate::Orchestrator::quiesce) before a
///   snapshot, the thread runs the hooks before it, and tells the broker if all have succeeded; otherwise it
///   tries again, as above, and orchestrators keep waiting. The hooks after a restore run at the change, or
///   when the orchestrator [resumes](crate::Orchestrator::resume) programs and there was none, or when the
///   broker ends. A change that is not handled yet comes first.
/// - There need not be a source: one that appears is watched, and counts as a change. A broker that has
///   ended is waited for. See [`Changes`].
/// - There is one thread for a process. It runs until it is [stopped](Background::stop), also when no
///   handle is left, and ends with the process, which it never delays.
/// - A **forked child** has no such thread; the call starts one there. What the parent had not handled
///   at the fork, and what has changed since, is handled in the child. Nothing starts it by itself.
///
/// # Errors
///
/// As [`BackgroundOptions::start`].
pub fn background() -> Result<Background> {
    Background::options().start()
}

/// The thread that runs the hooks of this process. Made by [`background`].
///
/// All handles are of the same thread. Dropping them does not stop it.
#[derive(Clone)]
pub struct Background(Arc<Running>);

impl Background {
    /// Options for a source of the caller's choice, or for being told what happens.
    pub fn options() -> BackgroundOptions {
        BackgroundOptions {
            changes: Changes::options(),
            answer_within: Duration::from_secs(5),
            hooks_within: None,
            report: None,
        }
    }

    /// Whether the thread runs. False in a forked child, which does not have it.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.0.is_alive()
    }

    /// Whether a source is watched, and none is lost. While it is false restores may be missed until the
    /// source is there again.
    #[must_use]
    pub fn is_watching(&self) -> bool {
        self.0.is_alive() && self.0.is_watching()
    }

    /// The generation of the preferred source that was handled last, or at which the watching began; `None`
    /// while there is no source.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        self.0.handled().generation()
    }

    /// Where the preferred source is; `None` while there is none.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        self.0.handled().path().map(Into::into)
    }

    /// Why the last change is not handled yet, or why the process is not at rest before a snapshot; `None` if
    /// all is well.
    #[must_use]
    pub fn last_error(&self) -> Option<BackgroundError> {
        self.0.error()
    }

    /// Stops the thread, waits until it has ended, and returns whether it has.
    ///
    /// It stops at once, except for a hook that runs: that one goes on to its end or its deadline, and the
    /// thread ends then. A change whose hooks have not all succeeded is not acknowledged, and
    /// orchestrators no longer wait for it. (On a driver of the v5 dialect they do, while a forked child
    /// has a copy of the descriptor.)
    ///
    /// A second call does no harm. In a hook the call returns false without waiting, because the thread
    /// waits for the hook. In a forked child there is nothing to stop: it returns true.
    ///
    /// A process that is at rest before a snapshot stays so: the next thread that is started runs the hooks
    /// after it.
    ///
    /// It stops the thread for all who have started it: see [`release`](Self::release).
    pub fn stop(&self, deadline: impl Into<Deadline>) -> bool {
        if !self.0.is_own() {
            return true;
        }
        self.0.stop();
        if is_in_hook() {
            return !self.0.is_alive();
        }
        self.0.wait_for_end(deadline.into())
    }
}

impl Background {
    /// Gives back what one call that started the thread, or found it running, has taken: the last one to
    /// do so [stops](Self::stop) it. Returns whether the thread has ended, or goes on for others.
    ///
    /// So several libraries of a program each start it and give it back, and none stops it for the others.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let program = sysgenid::background()?;
    /// let library = sysgenid::background()?;
    /// library.clone().release(Duration::from_secs(5));
    /// assert!(program.is_alive());
    /// program.clone().release(Duration::from_secs(5));
    /// assert!(!program.is_alive());
    /// # Ok::<(), sysgenid::Error>(())
    /// ```
    #[allow(clippy::must_use_candidate)] // what there is to do is done
    pub fn release(self, deadline: impl Into<Deadline>) -> bool {
        if !self.0.is_own() {
            return true;
        }
        // So that none takes it meanwhile. In a signal handler that interrupted such a call, the thread
        // goes on.
        let Some(starting) = STARTING.lock() else {
            return true;
        };
        let is_last = self.0.release();
        if is_last {
            self.0.stop();
        }
        drop(starting);
        !is_last || self.stop(deadline)
    }
}

impl PartialEq for Background {
    /// Whether both are of the same thread.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Background {}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Background")
            .field("path", &self.path())
            .field("generation", &self.generation())
            .field("is_alive", &self.is_alive())
            .finish_non_exhaustive()
    }
}

type Report = Arc<dyn Fn(&BackgroundEvent<'_>) + Send + Sync>;

/// How the thread is started. Made by [`Background::options`].
#[derive(Clone)]
#[must_use = "options start nothing by themselves"]
pub struct BackgroundOptions {
    changes: ChangesOptions,
    answer_within: Duration,
    hooks_within: Option<Duration>,
    report: Option<Report>,
}

impl BackgroundOptions {
    /// Which sources are watched, and whether orchestrators wait for the hooks. The default is
    /// [`Changes::options`].
    pub fn changes(mut self, options: ChangesOptions) -> Self {
        self.changes = options;
        self
    }

    /// How long [`start`](Self::start) may wait for the answer of a broker that hangs. It goes on without,
    /// and the thread becomes a watcher when the answer comes. The default is five seconds.
    pub fn answer_within(mut self, time: Duration) -> Self {
        self.answer_within = time;
        self
    }

    /// The deadline of hooks that have [none of their own](crate::hooks::HookOptions::deadline). Each of
    /// them runs on its own thread then. The default is none: a hook that hangs keeps the others from
    /// running.
    pub fn hooks_within(mut self, time: Duration) -> Self {
        self.hooks_within = Some(time);
        self
    }

    /// Has `report` called by the thread when something has happened: for a log. The thread waits for it.
    pub fn report(mut self, report: impl Fn(&BackgroundEvent<'_>) + Send + Sync + 'static) -> Self {
        self.report = Some(Arc::new(report));
        self
    }

    /// Starts the thread, or returns the one that runs: then `report` is left aside.
    ///
    /// If something has changed since a hook of [`after_restore`](crate::hooks::after_restore) was
    /// registered, or last succeeded, as far as [the process](crate::ProcessWide) sees it, the thread runs
    /// the hooks for that change first.
    ///
    /// When it returns, the process is a watcher of the driver or broker that is there, unless that
    /// does not answer.
    ///
    /// # Errors
    ///
    /// [`is_unsupported`](Error::is_unsupported) if one runs that was started for other
    /// [`changes`](Self::changes): stop that one first. The error of starting a thread (`EAGAIN`), or of
    /// `poll` (`ENOMEM`). That there is no source is not an error.
    pub fn start(self) -> Result<Background> {
        let Some(_starting) = STARTING.lock() else {
            return Err(Error::new(Kind::Unsupported(
                "called by a signal handler that interrupted the same call",
            )));
        };
        // In a world of a test there is another one.
        #[cfg(feature = "testing")]
        let own = room::<ArcSwapOption<Running>>();
        #[cfg(feature = "testing")]
        let current = own.as_deref().unwrap_or(&CURRENT);
        #[cfg(not(feature = "testing"))]
        let current = &CURRENT;
        let previous = current.load_full();
        if let Some(running) = previous
            .as_ref()
            .filter(|it| it.is_alive() && !it.is_stopping())
        {
            if *running.options() != self.changes {
                return Err(Error::new(Kind::Unsupported(
                    "a background thread runs already, for other sources or with other options; \
                     stop that one first",
                )));
            }
            running.hold();
            return Ok(Background(Arc::clone(running)));
        }
        let is_parked = previous.as_ref().is_some_and(|it| it.is_parked());
        let mut changes = self.changes.clone().parking().open();
        if let Some(parents) = previous.filter(|it| !it.is_own() && !it.has_ended()) {
            changes.resume(&parents.handled());
        } else if has_missed() {
            changes.owe();
        }
        let first = changes.connect(Deadline::after(self.answer_within))?;
        let running = Arc::new(Running::new(self.changes, &changes, is_parked));
        let works = Arc::clone(&running);
        let (report, limit) = (self.report, self.hooks_within);
        let work = move || work::work(&works, changes, first, limit, report.as_ref());
        #[cfg(feature = "testing")]
        let work = carried(work);
        thread::Builder::new()
            .name("sysgenid-watch".to_owned())
            .spawn(work)
            .map_err(|error| Error::io("starting a thread", &error))?;
        current.store(Some(Arc::clone(&running)));
        Ok(Background(running))
    }
}

impl fmt::Debug for BackgroundOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackgroundOptions")
            .field("changes", &self.changes)
            .field("answer_within", &self.answer_within)
            .field("hooks_within", &self.hooks_within)
            .finish_non_exhaustive()
    }
}
