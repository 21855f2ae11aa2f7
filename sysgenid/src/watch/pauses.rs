// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How long a client waits before it tries to connect to a lost broker again.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use sysgenid_sys::Errno;

use crate::base::Error;

/// The times between the attempts to reach one broker.
///
/// They double. While the loss is recent, and as long as no broker is there, they stay so short that a client
/// is back within 50 ms of a broker that is started anew: an attempt that finds no broker costs a few
/// microseconds, and no broker anything. One that is there and has no room is not asked so often.
pub(super) struct Pauses {
    next: Duration,
    /// When the first of them was taken.
    since: Option<Instant>,
}

impl Default for Pauses {
    fn default() -> Self {
        Self {
            next: Self::SHORTEST,
            since: None,
        }
    }
}

impl Pauses {
    const SHORTEST: Duration = Duration::from_millis(2);
    /// The longest, as long as the loss is [recent](Self::RECENT).
    const LONGEST_AT_FIRST: Duration = Duration::from_millis(25);
    const RECENT: Duration = Duration::from_secs(10);
    const LONGEST: Duration = Duration::from_millis(500);

    /// The next one, after an attempt that failed so.
    pub(super) fn next(&mut self, error: &Error) -> Duration {
        let is_there = error.raw_os_error() != Some(Errno::CONNREFUSED.raw_os_error());
        self.next_if(is_there)
    }

    /// The next one, if a broker is there or not.
    pub(super) fn next_if(&mut self, is_there: bool) -> Duration {
        let elapsed = self.since.get_or_insert_with(Instant::now).elapsed();
        self.next_after(elapsed, is_there).mul_f64(random_share())
    }

    fn next_after(&mut self, elapsed: Duration, is_there: bool) -> Duration {
        let longest = if elapsed < Self::RECENT && !is_there {
            Self::LONGEST_AT_FIRST
        } else {
            Self::LONGEST
        };
        let next = self.next.min(longest);
        self.next = next * 2;
        next
    }
}

/// From a half to one and a half. Only so that not all come at once: clones may share it.
fn random_share() -> f64 {
    let hash = RandomState::new().hash_one(Instant::now());
    let hash = u32::try_from(hash >> 32).unwrap_or(0);
    0.5 + f64::from(hash) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::indexing_slicing,
        reason = "a failed expectation is a failed test"
    )]

    use super::*;

    #[test]
    fn pauses_stay_short_at_first_and_grow_to_half_a_second() {
        let mut pauses = Pauses::default();
        let recent = Duration::from_secs(1);
        let times: Vec<_> = (0..8).map(|_| pauses.next_after(recent, false)).collect();
        let expected = [2, 4, 8, 16, 25, 25, 25, 25].map(Duration::from_millis);
        assert_eq!(times, expected);
        let later = Duration::from_secs(60);
        let times: Vec<_> = (0..6).map(|_| pauses.next_after(later, false)).collect();
        let expected = [50, 100, 200, 400, 500, 500].map(Duration::from_millis);
        assert_eq!(times, expected);
    }

    #[test]
    fn a_broker_that_refuses_is_not_asked_as_often_as_one_that_is_away() {
        let mut pauses = Pauses::default();
        let recent = Duration::from_secs(1);
        let times: Vec<_> = (0..10).map(|_| pauses.next_after(recent, true)).collect();
        assert_eq!(times[9], Pauses::LONGEST);
        // It has ended.
        assert_eq!(pauses.next_after(recent, false), Pauses::LONGEST_AT_FIRST);
    }

    #[test]
    fn clients_pause_differently() {
        let shares: Vec<_> = (0..100).map(|_| random_share()).collect();
        assert!(shares.iter().all(|share| (0.5..=1.5).contains(share)));
        assert!(shares.iter().any(|share| *share < 0.9) && shares.iter().any(|share| *share > 1.1));
    }
}
