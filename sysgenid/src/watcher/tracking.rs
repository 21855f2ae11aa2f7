// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Changing whether orchestrators wait for a watcher, in one step or in two.

use std::fmt;

use super::broker::BrokerTracking;
use super::{Backend, Watcher};
use crate::Source;
use crate::error::Result;

/// The second step of changing a watcher's tracking, which may wait: see
/// [`Watcher::tracking_change`].
#[must_use = "a broker is not told before `apply`"]
pub struct TrackingChange {
    /// Nothing for the kernel device, which was told at once.
    broker: Option<BrokerTracking>,
    source: Option<Source>,
}

impl Watcher {
    /// Sets whether orchestrators wait for this watcher. Turning it on while outdated makes them
    /// wait at once.
    ///
    /// # Errors
    ///
    /// [`is_unsupported`](crate::Error::is_unsupported) when turned off on a driver of the v5 dialect, and
    /// on a broker while another thread does the same; [`is_lost`](crate::Error::is_lost) and, after five
    /// seconds, [`is_timeout`](crate::Error::is_timeout) on a broker; [`is_forked`](crate::Error::is_forked) in a
    /// forked child.
    pub fn set_tracking(&self, tracked: bool) -> Result<()> {
        self.tracking_change(tracked)?.apply()
    }

    /// The same in two steps, for those who may not wait where the watcher is: an event loop has
    /// another thread [apply](TrackingChange::apply) the change, which waits for the broker's answer.
    /// The kernel device does not let anybody wait, and has changed it when this returns.
    ///
    /// # Errors
    ///
    /// [`is_unsupported`](crate::Error::is_unsupported) when turned off on a driver of the v5 dialect;
    /// [`is_forked`](crate::Error::is_forked) in a forked child.
    ///
    /// ```
    /// let folder = tempfile::tempdir()?;
    /// let _broker = sysgenid_broker::spawn(folder.path())?;
    /// let watcher = sysgenid::Watcher::open_at(folder.path())?;
    /// let change = watcher.tracking_change(false)?;
    /// std::thread::spawn(|| change.apply()).join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tracking_change(&self, tracked: bool) -> Result<TrackingChange> {
        self.check_process()?;
        let broker = match &self.backend {
            Backend::Device(device) => device.set_tracking(tracked).map(|()| None),
            Backend::Broker(broker) => Ok(Some(broker.tracking(tracked))),
        };
        Ok(TrackingChange {
            broker: broker.map_err(|error| self.locate(error))?,
            source: self.source.clone(),
        })
    }
}

impl TrackingChange {
    /// Tells the broker, and waits for its answer, five seconds at most.
    ///
    /// # Errors
    ///
    /// Those of [`Watcher::set_tracking`]. After an [`is_timeout`](crate::Error::is_timeout) the broker may
    /// yet do it.
    pub fn apply(self) -> Result<()> {
        match (self.broker, self.source) {
            (Some(broker), Some(source)) => broker.set().map_err(|error| error.at(source.path())),
            (Some(broker), None) => broker.set(),
            (None, _) => Ok(()),
        }
    }
}

impl fmt::Debug for TrackingChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TrackingChange").field(&self.source).finish()
    }
}
