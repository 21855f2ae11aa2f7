// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Times on the command line, and in what is printed.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use sysgenid::Deadline;

/// How long to wait; `None` has no end, by the caller's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeout(Option<Duration>);

impl Timeout {
    /// From now on.
    pub(crate) fn deadline(self) -> Deadline {
        self.0.map_or(Deadline::NEVER, Deadline::after)
    }
}

impl FromStr for Timeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "never" {
            return Ok(Self(None));
        }
        match humantime::parse_duration(text) {
            Ok(duration) => Ok(Self(Some(duration))),
            Err(error) => Err(format!(
                "{error}; a time is such as 500ms, 5s or 1m 30s, or `never`"
            )),
        }
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(duration) => humantime::format_duration(duration).fmt(f),
            None => f.write_str("never"),
        }
    }
}

/// The time of day, in UTC, as RFC 3339 has it.
pub(crate) fn now() -> impl fmt::Display {
    shown(SystemTime::now())
}

/// A time in UTC, as RFC 3339 has it.
pub(crate) fn shown(time: SystemTime) -> impl fmt::Display {
    humantime::format_rfc3339_millis(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_shown() {
        let read = |text: &str| text.parse::<Timeout>();
        for (text, milliseconds) in [
            ("250ms", 250),
            ("5s", 5_000),
            ("1m 30s", 90_000),
            ("2h", 7_200_000),
            ("0s", 0),
        ] {
            let timeout = Timeout(Some(Duration::from_millis(milliseconds)));
            assert_eq!(read(text), Ok(timeout));
            assert_eq!(timeout.to_string(), text);
        }
        assert_eq!(read("never"), Ok(Timeout(None)));
        for wrong in [
            "",
            "s",
            "-1s",
            "1e3s",
            "nan",
            "inf",
            "5",
            "5 parsecs",
            "ms5",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(read("99999999999999999999h").is_err(), "overflow");
    }
}
