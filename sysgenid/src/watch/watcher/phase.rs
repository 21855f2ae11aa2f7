// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The phase of the broker: the side of a watcher that parks, and that of an orchestrator.

use sysgenid_sys::wire::{Answer, Awaited, Phase, Reply};

use super::{Asked, Driver, Watcher, sourceless};
use crate::base::Deadline;
use crate::base::error::{Error, Kind, Result};

impl Watcher {
    /// What the broker asks those for that park, as far as [`try_changed`](Self::try_changed) has read its
    /// notices. `None` for a watcher that does not park.
    pub(crate) fn asked(&self) -> Option<Asked> {
        match &self.driver {
            Driver::Broker(broker) => broker.asked(),
            Driver::Device(_) => None,
        }
    }

    /// Tells the broker that what it asked for with this number is done. Never waits.
    pub(crate) fn acknowledge_phase(&self, number: u32) -> Result<()> {
        self.check_process()?;
        match &self.driver {
            Driver::Broker(broker) => {
                let told = broker.acknowledge_phase(number);
                told.map_err(|error| self.locate(error))
            }
            Driver::Device(_) => Ok(()),
        }
    }

    /// Whether the broker that this watcher was opened at is there.
    pub(crate) fn check_broker(&self) -> Result<()> {
        self.check_process()?;
        match self.connection() {
            Some(connection) => connection.check().map_err(|error| self.locate(error)),
            None => Err(self.locate(Error::new(Kind::Unsupported(
                "only the userspace driver can ask programs to come to rest; run `sysgenid serve`",
            )))),
        }
    }

    /// Waits until every tracked watcher that parks has acknowledged this phase, which has that number.
    pub(crate) fn wait_parking(
        &self,
        phase: Phase,
        number: u32,
        deadline: Deadline,
    ) -> Result<Reply> {
        self.check_broker()?;
        let waited = match (&self.driver, &self.source) {
            (Driver::Broker(broker), Some(source)) => {
                let reply = broker.wait_for(Awaited::Phase, source, deadline);
                reply.and_then(|reply| {
                    let is_other = (reply.phase, reply.phase_number) != (phase, number);
                    if is_other && reply.answer != Answer::Invalid {
                        return Err(Error::new(Kind::PhaseEnded));
                    }
                    broker.end_wait(&reply).map(|_| reply)
                })
            }
            _ => Err(sourceless()),
        };
        waited.map_err(|error| self.locate(error))
    }
}
