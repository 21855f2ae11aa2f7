// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Connecting to a broker again, in one step or in two.

use std::fmt;
use std::time::Duration;

use rustix::event::poll;
use rustix::fd::BorrowedFd;
use sysgenid_sys::Errno;

use super::broker::BrokerWatcher;
use super::{ANSWER_TIME, Driver, Duties, Watcher};
use crate::base::error::{Error, Kind, Result};
use crate::base::{Deadline, interrupt};
use crate::source::Source;
use crate::source::connection::LOOK_TIME;
use crate::watch::pauses::Pauses;

/// Connects to a broker again in the place of a watcher that has lost it.
pub struct Reconnector {
    lost: Option<Lost>,
    /// Over all attempts.
    pauses: Pauses,
}

/// What the broker that comes is told of the watcher.
struct Lost {
    source: Source,
    tracked: bool,
    acknowledged: u32,
}

/// A connection for a watcher to go on with.
#[must_use = "the watcher does not go on before it is given this"]
pub struct Reconnected(Option<(Source, BrokerWatcher)>);

impl Watcher {
    /// Connects to the broker again after it was [lost](Error::is_lost), and tries until the deadline:
    /// a broker that is started anew is there a moment later, and many clients come back to it at
    /// once. In between it waits, longer each time and each client a time of its own: up to 40
    /// milliseconds in the first ten seconds, then up to three quarters of a second.
    ///
    /// The watcher goes on where it was: with the same tracking, and outdated if the generation has
    /// changed meanwhile. The descriptor of [`AsFd`](std::os::fd::AsFd) stays the same.
    ///
    /// On the kernel device there is nothing to do.
    ///
    /// # Errors
    ///
    /// As [`Watcher::open`]; the watcher then is as it was. [`is_lost`](Error::is_lost) if there was no
    /// broker until the deadline, [`is_timeout`](Error::is_timeout) if there was one that did not
    /// answer. [`is_forked`](Error::is_forked) in a forked child, which may not touch what it shares:
    /// [`reopen`](Self::reopen).
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let folder = tempfile::tempdir()?;
    /// let broker = sysgenid_broker::spawn(folder.path())?;
    /// let mut watcher = sysgenid::Watcher::open_at(folder.path())?;
    /// drop(broker);
    /// assert!(watcher.try_changed().unwrap_err().is_lost());
    ///
    /// let restarting = std::thread::spawn({
    ///     let folder = folder.path().to_owned();
    ///     move || sysgenid_broker::spawn(folder)
    /// });
    /// watcher.reconnect(Duration::from_secs(20))?;
    /// assert_eq!(watcher.try_changed()?, None);
    /// # drop(restarting.join());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reconnect(&mut self, deadline: impl Into<Deadline>) -> Result<()> {
        let connected = self.reconnector()?.connect(deadline)?;
        self.resume_with(connected, |_| Ok(()))
    }

    /// The first of two steps, for those who may not wait where the watcher is. The second is
    /// [`resume_with`](Self::resume_with).
    pub(crate) fn reconnector(&self) -> Result<Reconnector> {
        self.check_process()?;
        let lost = match (&self.driver, &self.source) {
            (Driver::Broker(broker), Some(source)) => {
                let (tracked, acknowledged) = broker.standing();
                Some(Lost {
                    source: source.clone(),
                    tracked,
                    acknowledged,
                })
            }
            _ => None,
        };
        Ok(Reconnector {
            lost,
            pauses: Pauses::default(),
        })
    }

    /// Goes on with a connection that was made by a [`Reconnector`] of this watcher. Never waits. If it
    /// is another one, it is given to `register`, which may fail, while the old one is still open.
    pub(crate) fn resume_with(
        &mut self,
        connected: Reconnected,
        register: impl FnOnce(BorrowedFd<'_>) -> Result<()>,
    ) -> Result<()> {
        self.check_process()?;
        let resumed = match (&mut self.driver, &self.source, connected.0) {
            (Driver::Broker(broker), Some(own), Some((source, fresh))) if *own == source => {
                broker.replace(fresh, &self.readiness, register)
            }
            (Driver::Device(_), _, None) => Ok(()),
            _ => Err(Error::new(Kind::Unsupported(
                "this connection was made for a watcher of another source",
            ))),
        };
        resumed.map_err(|error| self.locate(error))
    }
}

impl Reconnector {
    /// Connects, and tries until the deadline, as [`Watcher::reconnect`] does. May be called again.
    ///
    /// # Errors
    ///
    /// As [`Watcher::reconnect`].
    pub fn connect(&mut self, deadline: impl Into<Deadline>) -> Result<Reconnected> {
        let Some(lost) = &self.lost else {
            return Ok(Reconnected(None));
        };
        let deadline = deadline.into();
        let source = &lost.source;
        loop {
            let resume = Some(lost.acknowledged);
            let answer_by = deadline.at_most(ANSWER_TIME).at_least(LOOK_TIME);
            let duties = Duties::tracked(lost.tracked);
            match BrokerWatcher::connect(source, duties, resume, answer_by) {
                Ok(fresh) => return Ok(Reconnected(Some((source.clone(), fresh)))),
                Err(error) if may_reconnect(&error) && !deadline.has_passed() => {
                    pause(self.pauses.next(&error), deadline)?;
                }
                Err(error) => return Err(error.at(source.path())),
            }
        }
    }
}

/// Whether the next attempt may succeed.
pub(crate) fn may_reconnect(error: &Error) -> bool {
    // Of many that reconnect at once, each needs a descriptor or two more for a moment.
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS];
    let is_exhausted = error
        .raw_os_error()
        .is_some_and(|code| exhausted.contains(&Errno::from_raw_os_error(code)));
    error.is_lost() || error.is_timeout() || is_exhausted
}

/// Waits a while, but not beyond the deadline.
fn pause(time: Duration, deadline: Deadline) -> Result<()> {
    let end = deadline.at_most(time);
    while !end.has_passed() {
        match poll(&mut [], end.timespec().as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => interrupt::signalled()?,
            Err(errno) => return Err(Error::call("poll", errno)),
        }
    }
    Ok(())
}

impl fmt::Debug for Reconnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.lost.as_ref().map(|lost| &lost.source);
        f.debug_tuple("Reconnector").field(&source).finish()
    }
}

impl fmt::Debug for Reconnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.0.as_ref().map(|(source, _)| source);
        f.debug_tuple("Reconnected").field(&source).finish()
    }
}
