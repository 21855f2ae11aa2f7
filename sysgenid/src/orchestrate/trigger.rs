// SPDX-License-Identifier: Apache-2.0 OR MIT
use sysgenid_sys::wire::{Op, Request};

use super::Orchestrator;
use crate::base::error::{Error, Kind, Result};
use crate::base::{Deadline, Generation};
use crate::source::connection::{LOOK_TIME, accepted};
use crate::source::{Source, SourceKind};

impl Source {
    /// Changes the generation to the next one, as [`Orchestrator::trigger`](crate::Orchestrator::trigger)
    /// does, without becoming a watcher: on a broker that has no room for one this still works, for
    /// its owner.
    ///
    /// # Errors
    ///
    /// [`is_permission`](Error::is_permission) without `CAP_CHECKPOINT_RESTORE` or
    /// `CAP_SYS_ADMIN` (`EACCES`), or if the broker belongs to another user;
    /// [`is_unsupported`](Error::is_unsupported) for a page file or a counter of the hypervisor's;
    /// [`is_lost`](Error::is_lost) if no broker runs, [`is_timeout`](Error::is_timeout) if it does not
    /// answer before the deadline: the change may yet come then.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let broker = sysgenid_broker::testing::Broker::start()?;
    /// let source = sysgenid::Source::at(broker.path())?;
    /// assert_eq!(source.trigger(Duration::from_secs(5))?.get(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn trigger(&self, deadline: impl Into<Deadline>) -> Result<Generation> {
        self.trigger_at_least(0, deadline)
    }

    /// Changes the generation to `min` or to the next one, whichever number is larger.
    ///
    /// # Errors
    ///
    /// As [`trigger`](Self::trigger).
    pub fn trigger_at_least(&self, min: u32, deadline: impl Into<Deadline>) -> Result<Generation> {
        let trigger = || match self.kind() {
            SourceKind::Broker => {
                let deadline = deadline.into().at_least(LOOK_TIME);
                let mut request = Request::new(Op::Trigger, 0);
                request.arguments = [min, 0];
                let reply = self.control(deadline)?.ask(&request, deadline)?;
                accepted(&reply)?;
                Ok(Generation::from(reply.generation))
            }
            // For the moment of a call; the kernel does not let it wait.
            SourceKind::Device => {
                let orchestrator = Orchestrator::options().open_on(self.clone())?;
                orchestrator.trigger_at_least(min)
            }
            SourceKind::PageFile | SourceKind::Vmgenid | SourceKind::Vmclock => {
                Err(Error::new(Kind::Unsupported(
                    "this source takes no triggers; name a device or a broker's directory, for \
                     example in SYSGENID_SOURCE",
                )))
            }
        };
        trigger().map_err(|error: Error| error.at(self.path()))
    }
}
