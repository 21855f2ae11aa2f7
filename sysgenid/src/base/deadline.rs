// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::time::{Duration, Instant};

use rustix::event::Timespec;

/// Until when a call may wait.
///
/// Every waiting call takes `impl Into<Deadline>`: a [`Duration`] from now, an [`Instant`], or
/// [`Deadline::NEVER`] by explicit choice. A deadline is a point in time, so a call that is
/// interrupted or repeated never waits longer in all.
///
/// Time is the monotonic clock. Whether it runs on while a virtual machine is paused is the
/// hypervisor's choice: after a restore a deadline may have passed at once, or not have advanced.
///
/// ```
/// use std::time::Duration;
/// use sysgenid::Deadline;
///
/// let deadline = Deadline::from(Duration::ZERO);
/// assert!(deadline.has_passed());
/// assert!(!Deadline::NEVER.has_passed());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// Wait as long as it takes.
    pub const NEVER: Self = Self(None);

    /// `timeout` from now. One that lies beyond what the clock can count never passes.
    #[must_use]
    pub fn after(timeout: Duration) -> Self {
        Self(Instant::now().checked_add(timeout))
    }

    /// What is left: zero if the deadline has passed, `None` if it never does.
    #[must_use]
    pub fn remaining(self) -> Option<Duration> {
        self.0
            .map(|instant| instant.saturating_duration_since(Instant::now()))
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn has_passed(self) -> bool {
        self.remaining() == Some(Duration::ZERO)
    }

    /// The same, or `time` from now if that is later.
    pub(crate) fn at_least(self, time: Duration) -> Self {
        let least = Instant::now().checked_add(time);
        Self(self.0.zip(least).map(|(own, least)| own.max(least)))
    }

    /// The same, or `time` from now if that is earlier.
    pub(crate) fn at_most(self, time: Duration) -> Self {
        let most = Self::after(time);
        match (self.0, most.0) {
            (Some(own), Some(most)) => Self(Some(own.min(most))),
            (own, most) => Self(own.or(most)),
        }
    }

    /// The same, or `instant` if that is earlier.
    pub(crate) fn earlier(self, instant: Instant) -> Self {
        Self(Some(self.0.map_or(instant, |own| own.min(instant))))
    }

    /// What is left, as `poll` takes it.
    pub(crate) fn timespec(self) -> Option<Timespec> {
        // More seconds than the kernel's type holds are as good as for ever.
        self.remaining()
            .and_then(|left| Timespec::try_from(left).ok())
    }
}

impl From<Duration> for Deadline {
    fn from(timeout: Duration) -> Self {
        Self::after(timeout)
    }
}

impl From<Instant> for Deadline {
    fn from(instant: Instant) -> Self {
        Self(Some(instant))
    }
}
