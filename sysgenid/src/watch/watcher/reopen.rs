// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A watcher in a forked child.

use sysgenid_sys::internal::fork;

use super::{ANSWER_TIME, Driver, Watcher, new_readiness, sourceless};
use crate::base::error::{Error, Kind, Result};
use crate::source::Source;

impl Watcher {
    /// In a forked child: opens a watcher of the child's own in the place of the parent's, with the
    /// same tracking. In the process that the watcher belongs to, there is nothing to do.
    ///
    /// It is outdated if the parent's was at the fork, or if the generation has changed since:
    /// whatever the parent has done in the meantime, the child has not rebuilt. The parent's watcher
    /// is left as it is.
    ///
    /// The descriptor of [`AsFd`](std::os::fd::AsFd) is another one afterwards. An event loop that the child has
    /// registered the old one with must take the new one.
    ///
    /// # Errors
    ///
    /// As [`Watcher::open`]; the watcher then is as it was. A watcher that was made of a descriptor
    /// is opened through `/proc/self/fd`, and fails if that is not mounted.
    ///
    /// # What is not guaranteed
    ///
    /// The kernel driver takes the new watcher to be up to date. If it is outdated only because of a
    /// change of before it was opened, the child is told so, and orchestrators are not: they do not
    /// wait for it. The broker does know it.
    ///
    /// ```no_run
    /// # fn is_child() -> bool { true }
    /// let mut watcher = sysgenid::Watcher::open()?;
    /// // … after fork(), in the child:
    /// if is_child() {
    ///     watcher.reopen()?;
    /// }
    /// # Ok::<(), sysgenid::Error>(())
    /// ```
    pub fn reopen(&mut self) -> Result<()> {
        if self.process != fork::process() {
            // The copies are closed and no more: nothing is said to the driver, and nothing is taken
            // from the epoll instance, which is the parent's.
            *self = self.reopened()?;
        }
        Ok(())
    }

    /// A watcher of this process's own that takes the place of a parent's.
    pub(crate) fn reopened(&self) -> Result<Self> {
        let reopen = || {
            let readiness = new_readiness()?;
            let driver = match (&self.driver, &self.source) {
                (Driver::Device(device), source) => {
                    let path = source.as_ref().map(Source::path);
                    Driver::Device(device.reopen(path, &readiness)?)
                }
                (Driver::Broker(broker), Some(source)) => {
                    Driver::Broker(broker.reopen(source, &readiness, ANSWER_TIME.into())?)
                }
                (Driver::Broker(_), None) => return Err(sourceless()),
            };
            Ok((driver, readiness))
        };
        let (driver, readiness) = reopen().map_err(|error| self.locate(error))?;
        Ok(Self {
            driver,
            readiness,
            source: self.source.clone(),
            process: fork::process(),
        })
    }

    /// Whether the watcher is this process's own, at the cost of a system call.
    pub(crate) fn check_process(&self) -> Result<()> {
        if self.process == fork::process() {
            return Ok(());
        }
        Err(self.locate(Error::new(Kind::Forked)))
    }
}
