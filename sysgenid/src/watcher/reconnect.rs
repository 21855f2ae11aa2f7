// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Connecting to a broker again, in one step or in two.

use std::fmt;

use super::broker::BrokerWatcher;
use super::{Backend, Watcher};
use crate::Source;
use crate::error::{Error, Kind, Result};

/// The first step of connecting to a broker again, which may wait: see [`Watcher::reconnector`].
#[must_use = "nothing is connected before `connect`"]
pub struct Reconnector(Option<Lost>);

/// What the broker that comes is told of the watcher.
struct Lost {
    source: Source,
    tracked: bool,
    acknowledged: u32,
}

/// A connection for a watcher to go on with: see [`Watcher::resume`].
#[must_use = "the watcher does not go on before `resume`"]
pub struct Reconnected(Option<(Source, BrokerWatcher)>);

impl Watcher {
    /// Connects to the broker again after it was [lost](Error::is_lost). The watcher goes on where
    /// it was: with the same tracking, and outdated if the generation has changed meanwhile. The
    /// descriptor of [`AsFd`](std::os::fd::AsFd) stays the same.
    ///
    /// On the kernel device there is nothing to do.
    ///
    /// # Errors
    ///
    /// As [`Watcher::open`]; the watcher then is as it was. [`is_forked`](Error::is_forked) in a
    /// forked child, which may not touch what it shares: [`reopen`](Self::reopen).
    pub fn reconnect(&mut self) -> Result<()> {
        let connected = self.reconnector()?.connect()?;
        self.resume(connected)
    }

    /// The same in two steps, for those who may not wait where the watcher is: an event loop has
    /// another thread [connect](Reconnector::connect), which waits for the broker's answer, and then
    /// [resumes](Self::resume).
    ///
    /// # Errors
    ///
    /// [`is_forked`](Error::is_forked) in a forked child.
    ///
    /// ```
    /// let folder = tempfile::tempdir()?;
    /// let broker = sysgenid_broker::spawn(folder.path())?;
    /// let mut watcher = sysgenid::Watcher::open_at(folder.path())?;
    /// drop(broker);
    /// assert!(watcher.try_changed().unwrap_err().is_lost());
    ///
    /// let _broker = sysgenid_broker::spawn(folder.path())?;
    /// let reconnector = watcher.reconnector()?;
    /// let connecting = std::thread::spawn(|| reconnector.connect());
    /// watcher.resume(connecting.join().unwrap()?)?;
    /// assert_eq!(watcher.try_changed()?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reconnector(&self) -> Result<Reconnector> {
        self.check_process()?;
        Ok(Reconnector(match (&self.backend, &self.source) {
            (Backend::Broker(broker), Some(source)) => {
                let (tracked, acknowledged) = broker.standing();
                Some(Lost {
                    source: source.clone(),
                    tracked,
                    acknowledged,
                })
            }
            _ => None,
        }))
    }

    /// Goes on with a connection that was made by a [`Reconnector`] of this watcher. Never waits.
    ///
    /// # Errors
    ///
    /// [`is_unsupported`](Error::is_unsupported) if the connection is to another broker than the
    /// watcher's; the error of `epoll_ctl`; [`is_forked`](Error::is_forked) in a forked child. The
    /// watcher then is as it was.
    pub fn resume(&mut self, connected: Reconnected) -> Result<()> {
        self.check_process()?;
        let resumed = match (&mut self.backend, &self.source, connected.0) {
            (Backend::Broker(broker), Some(own), Some((source, fresh))) if *own == source => {
                broker.replace(fresh, &self.readiness)
            }
            (Backend::Device(_), _, None) => Ok(()),
            _ => Err(Error::new(Kind::Unsupported(
                "this connection was made for a watcher of another source",
            ))),
        };
        resumed.map_err(|error| self.locate(error))
    }
}

impl Reconnector {
    /// Connects, and waits for the broker's answer, five seconds at most.
    ///
    /// # Errors
    ///
    /// As [`Watcher::open`].
    pub fn connect(self) -> Result<Reconnected> {
        let Some(lost) = self.0 else {
            return Ok(Reconnected(None));
        };
        let folder = lost.source.path();
        let fresh = BrokerWatcher::connect(folder, lost.tracked, Some(lost.acknowledged))
            .map_err(|error| error.at(folder))?;
        Ok(Reconnected(Some((lost.source, fresh))))
    }
}

impl fmt::Debug for Reconnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.0.as_ref().map(|lost| &lost.source);
        f.debug_tuple("Reconnector").field(&source).finish()
    }
}

impl fmt::Debug for Reconnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.0.as_ref().map(|(source, _)| source);
        f.debug_tuple("Reconnected").field(&source).finish()
    }
}
