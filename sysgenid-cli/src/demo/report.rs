// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a worker tells the demonstration: one JSON object per line of its standard output.

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::output::Output;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Report {
    /// It has a secret and waits for a change.
    Ready {
        generation: u64,
        fingerprint: String,
    },
    /// It saw a change.
    Noticed { at: u64, generation: u64 },
    /// It has another secret, and acknowledged if it is a watcher.
    Rebuilt {
        at: u64,
        generation: u64,
        before: String,
        after: String,
        acknowledged: bool,
    },
}

impl Report {
    pub(super) fn send(&self) -> Result<(), Failure> {
        Output::new(true).object(self)
    }

    pub(super) fn parse(line: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(line)
    }
}

/// Nanoseconds of the monotonic clock, which is the same in all processes.
pub(super) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // Neither is ever negative.
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or_default();
    seconds * 1_000_000_000 + nanoseconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_come_back_as_they_were() {
        let report = Report::Rebuilt {
            at: now(),
            generation: u64::MAX,
            before: "00000000".into(),
            after: "ffffffff".into(),
            acknowledged: true,
        };
        let line = serde_json::to_string(&report).unwrap();
        assert_eq!(Report::parse(&line).unwrap(), report);
    }
}
