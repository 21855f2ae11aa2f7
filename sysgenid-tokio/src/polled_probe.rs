// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use sysgenid::{Generation, Probe, Result, adapter};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::runtime;

const NO_PERIOD: &str = "a period of zero would have the probe looked at without a pause, and nothing \
                         else would run; name one that a change may be late by";

/// A longer period is as good as this one, which no clock overflows at.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// A probe that is looked at from time to time, for a source that tells nobody of changes: a page
/// file, `/dev/vmgenid`, or a vmclock without notifications.
///
/// This is a timer and nothing more. On a driver, use a [`Watcher`](crate::Watcher); on a vmclock that
/// notifies, an [`Observer`](crate::Observer). They are told at once, and cost nothing meanwhile.
///
/// Each change is told of once, to whichever of its methods looks first. As a [`Stream`] it yields each
/// change that it sees, and never ends.
///
/// # What is not guaranteed
///
/// A change is seen at the next look: **up to one period late**, and as much later as the runtime is.
/// Changes between two looks are seen as one, the latest; a change back to the number that was told of
/// last is not seen. And what holds for every [`Probe`] holds here: a file that takes the place of the
/// one that was mapped is not seen. [`verify`](Probe::verify) tells.
///
/// A secret that must not be used after a restore is guarded by a [`Guarded`](sysgenid::Guarded), which
/// looks at each use.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use sysgenid::{PageFile, Probe};
/// use sysgenid_tokio::PolledProbe;
///
/// let folder = tempfile::tempdir()?;
/// let page = folder.path().join("page");
/// let mut host = PageFile::open(&page)?;
/// let mut probe = PolledProbe::every(Duration::from_millis(50), Probe::open_at(&page)?)?;
///
/// let changed = host.change()?; // as a host does that restores this container
/// assert_eq!(probe.changed().await, changed);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PolledProbe {
    probe: Probe,
    looks: Interval,
    /// The generation that was told of last.
    told: Generation,
}

impl PolledProbe {
    /// Has `probe` looked at once in `period`, from now on.
    ///
    /// A look that comes late is made at once, and the next one a whole period after it: looks that
    /// were missed are not made up for, because one sees what all of them would have seen.
    ///
    /// # Errors
    ///
    /// [`is_unsupported`](sysgenid::Error::is_unsupported) if the period is zero;
    /// [`is_runtime`](sysgenid::Error::is_runtime) outside of a runtime.
    ///
    /// # Panics
    ///
    /// In a runtime that was built without its time driver.
    pub fn every(period: Duration, probe: Probe) -> Result<Self> {
        if period.is_zero() {
            return Err(adapter::unsupported(NO_PERIOD, probe.source()));
        }
        runtime::current(probe.source())?;
        let period = period.min(LONGEST);
        let mut looks = interval_at(Instant::now() + period, period);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            told: probe.generation(),
            probe,
            looks,
        })
    }

    /// The current generation, whether or not it has been told of: one load.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.probe.generation()
    }

    /// How long after a change it may be seen.
    #[must_use]
    pub fn period(&self) -> Duration {
        self.looks.period()
    }

    /// Ready with the current generation, if it is another one than was told of last. Each poll is a
    /// look as well.
    ///
    /// # Panics
    ///
    /// If the runtime that it was made in has been shut down: its timer is gone.
    pub fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Generation> {
        loop {
            let current = self.generation();
            if current != self.told {
                self.told = current;
                return Poll::Ready(current);
            }
            ready!(self.looks.poll_tick(cx));
        }
    }

    /// Waits for a change that has not been told of, and returns the current generation.
    ///
    /// # Panics
    ///
    /// As [`PolledProbe::poll_changed`].
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it has told of nothing: the next call does. The looks stay where
    /// they are in time, so a change is not seen later for being waited for in a loop.
    pub async fn changed(&mut self) -> Generation {
        poll_fn(|cx| self.poll_changed(cx)).await
    }
}

impl Stream for PolledProbe {
    type Item = Generation;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Generation>> {
        self.poll_changed(cx).map(Some)
    }
}

impl AsRef<Probe> for PolledProbe {
    fn as_ref(&self) -> &Probe {
        &self.probe
    }
}

impl From<PolledProbe> for Probe {
    fn from(polled: PolledProbe) -> Self {
        polled.probe
    }
}
