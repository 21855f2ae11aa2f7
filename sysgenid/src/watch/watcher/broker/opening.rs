// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::time::Duration;

use rustix::fs::fstat;
use sysgenid_sys::internal::fork;
use sysgenid_sys::slot::Slot;
use sysgenid_sys::wire;

use super::super::{Driver, Duties, Watcher, new_readiness};
use super::{BrokerWatcher, Parking};
use crate::base::Deadline;
use crate::base::error::{Error, Result};
use crate::source::connection::Connection;
use crate::source::{FileIdentity, Source, map_counter};

/// A watcher that a broker was asked for and has not answered yet.
pub(crate) struct Opening {
    connection: Arc<Connection>,
    source: Source,
    duties: Duties,
    resume: Option<u32>,
}

impl Opening {
    /// Connects and asks. It waits until the broker takes the connection, but not with a deadline that
    /// has passed.
    pub(crate) fn begin(
        source: &Source,
        duties: Duties,
        resume: Option<u32>,
        deadline: Deadline,
    ) -> Result<Self> {
        let connection = Connection::connect(source, wire::WATCH_SOCKET, deadline)?;
        let mut flags = 0;
        if duties.tracked {
            flags |= wire::OPEN_TRACKED;
        }
        if duties.parks {
            flags |= wire::OPEN_PARKS;
        }
        if resume.is_some() {
            flags |= wire::OPEN_RESUME;
        }
        connection.ask_to_open(flags, resume.unwrap_or(0))?;
        Ok(Self {
            connection: Arc::new(connection),
            source: source.clone(),
            duties,
            resume,
        })
    }

    /// What becomes readable when the broker answers, and is the watcher's then.
    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The watcher, and which page it has, if the broker has answered. Never waits.
    ///
    /// # Errors
    ///
    /// `is_timeout` if it has not.
    pub(crate) fn finish(&self) -> Result<(Watcher, FileIdentity)> {
        let finish = || {
            let (broker, page) = self.answer(Deadline::after(Duration::ZERO))?;
            let readiness = new_readiness()?;
            broker.register(&readiness)?;
            let watcher = Watcher {
                driver: Driver::Broker(broker),
                readiness,
                source: Some(self.source.clone()),
                process: fork::process(),
            };
            Ok((watcher, page))
        };
        finish().map_err(|error: Error| error.at(self.source.path()))
    }

    pub(super) fn answer(&self, deadline: Deadline) -> Result<(BrokerWatcher, FileIdentity)> {
        let (reply, [page, slot]) = self.connection.opened(deadline)?;
        let slot = Slot::map(&slot).map_err(|error| Error::io("mapping the slot", &error))?;
        if self.resume.is_none_or(|resume| resume == reply.generation) {
            // It begins up to date with the generation that the broker opened it at. If the slot
            // was emptied for the next change already, this says nothing of that one.
            let _ = slot.acknowledge(reply.generation);
        }
        let status = fstat(&page).map_err(|errno| Error::call("fstat", errno))?;
        let acknowledged = self.resume.unwrap_or(reply.generation);
        let watcher = BrokerWatcher {
            connection: Arc::clone(&self.connection),
            page: map_counter(&page)?,
            slot,
            number: reply.watcher,
            acknowledged: AtomicU32::new(acknowledged),
            tracked: AtomicBool::new(self.duties.tracked),
            is_trimming: AtomicBool::new(false),
            parking: self.duties.parks.then(|| Parking::new(&reply)),
        };
        Ok((watcher, FileIdentity::of(&status)))
    }
}
