// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a broker announces restores.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sysgenid_sys::wire::{Followers, Reply};

use crate::base::Cause;

/// What announces restores to the userspace driver, and why the generation changed last.
///
/// ```
/// use std::time::Duration;
///
/// use sysgenid::{Cause, Source};
///
/// let broker = sysgenid_broker::testing::Broker::start()?;
/// broker.trigger()?;
/// let status = Source::at(broker.path())?.status(Duration::from_secs(5))?;
/// let status = status.broker.expect("it is a broker's directory");
/// assert_eq!(status.cause, Some(Cause::Trigger));
/// assert!(status.followers.is_empty(), "a broker in a test follows nothing");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerStatus {
    /// What announces restores to the broker. If there is nothing, whoever restores must trigger.
    pub followers: Followers,
    /// What has announced restores to it, and has failed.
    pub failed: Followers,
    /// Why the generation changed last; `None` if it has not changed since the broker started.
    pub cause: Option<Cause>,
    /// When it changed last, by the clock of the broker's machine; `None` if that is not known.
    pub changed: Option<SystemTime>,
}

impl BrokerStatus {
    pub(super) fn of(reply: &Reply) -> Self {
        let since = Some(reply.time).filter(|&time| time != 0);
        Self {
            followers: reply.followers,
            failed: reply.failed,
            cause: Cause::of(reply.cause),
            changed: since.and_then(|time| UNIX_EPOCH.checked_add(Duration::from_nanos(time))),
        }
    }
}
