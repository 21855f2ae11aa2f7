// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Counting what test runners report.

use std::fmt;
use std::ops::AddAssign;

use crate::failure::Failure;

/// How many tests passed and failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    /// Of those that failed, the ones that said which they are.
    pub(crate) failures: Vec<Failure>,
    /// Those that could not run on this machine, each with its reason. They count as neither.
    pub(crate) skipped: Vec<String>,
}

impl Tally {
    /// A check that has no runner of its own, and passed: formatting, lints, a build.
    pub(crate) const ONE: Self = Self {
        passed: 1,
        failed: 0,
        failures: Vec::new(),
        skipped: Vec::new(),
    };

    /// One that failed.
    pub(crate) fn failed(failure: Failure) -> Self {
        Self {
            failed: 1,
            failures: vec![failure],
            ..Self::default()
        }
    }

    /// Says of each failure where it was.
    pub(crate) fn within(mut self, place: &str) -> Self {
        for failure in &mut self.failures {
            failure.name = format!("{place}/{}", failure.name);
        }
        self
    }

    /// Prints and counts what must hold, each with a name.
    pub(crate) fn of_checks(checks: &[(&str, bool)]) -> Self {
        println!("1..{}", checks.len());
        let mut tally = Self::default();
        for (number, &(name, holds)) in (1..).zip(checks) {
            println!("{} {number} - {name}", if holds { "ok" } else { "not ok" });
            tally += if holds {
                Self::ONE
            } else {
                Self::failed(Failure::new(name))
            };
        }
        tally
    }

    /// Adds what a line of pytest says, if it is its last one, `== 1 failed, 12 passed in 0.12s ==`, or
    /// one of those before it: `FAILED test_it.py::test_it - its reason`.
    pub(crate) fn add_pytest_line(&mut self, line: &str) {
        if let Some(skipped) = line.strip_prefix("SKIPPED ") {
            self.skipped.push(skipped.to_owned());
            return;
        }
        let failed = line.strip_prefix("FAILED ");
        if let Some(failed) = failed.or_else(|| line.strip_prefix("ERROR ")) {
            let (name, reason) = failed.split_once(" - ").unwrap_or((failed, ""));
            self.failures.push(Failure::of(name, reason));
            return;
        }
        let Some((counts, time)) = line.trim_matches(['=', ' ']).rsplit_once(" in ") else {
            return;
        };
        if !time.starts_with(|first: char| first.is_ascii_digit()) {
            return;
        }
        for count in counts.split(", ") {
            match count
                .split_once(' ')
                .map(|(number, word)| (number.parse::<u64>(), word))
            {
                Some((Ok(number), "passed")) => self.passed += number,
                Some((Ok(number), "failed" | "error" | "errors")) => self.failed += number,
                _ => {}
            }
        }
    }

    /// Counts what was skipped as failed, where everything is meant to run.
    pub(crate) fn without_skips(mut self) -> Self {
        for skipped in std::mem::take(&mut self.skipped) {
            self += Self::failed(Failure::new(format!("skipped: {skipped}")));
        }
        self
    }

    /// A runner that failed without naming a test (it did not compile, it crashed) counts as one.
    pub(crate) fn finish(mut self, success: bool) -> Self {
        if !success && self.failed == 0 {
            self.failed = 1;
        }
        self
    }

    /// Whether something passed or was left out with a reason, and nothing failed. What only skips is
    /// said at the end of the run, and is red in `cargo xtask ci`.
    pub(crate) fn is_success(&self) -> bool {
        self.failed == 0 && (self.passed > 0 || !self.skipped.is_empty())
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.failures.extend(other.failures);
        self.skipped.extend(other.skipped);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        match self.skipped.len() {
            0 => Ok(()),
            skipped => write!(f, ", {skipped} skipped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: u64, failed: u64) -> Tally {
        Tally {
            passed,
            failed,
            ..Tally::default()
        }
    }

    #[test]
    fn counts_the_last_line_of_pytest() {
        let mut tally = Tally::default();
        for line in [
            "==== 2 failed, 12 passed, 3 skipped, 1 warning, 1 error in 3.20s ====",
            "1 passed in 61.02s (0:01:01)",
            "==== no tests ran in 0.01s ====",
            "FAILED tests/test_watcher.py::test_wakes - 3 passed in vain",
            "SKIPPED [3] tests/test_watcher.py:7: no privilege",
            "tests/test_watcher.py ....",
        ] {
            tally.add_pytest_line(line);
        }
        assert_eq!((tally.passed, tally.failed), (13, 3));
        let failure = Failure::of("tests/test_watcher.py::test_wakes", "3 passed in vain");
        assert_eq!(tally.failures, [failure]);
        assert_eq!(tally.skipped, ["[3] tests/test_watcher.py:7: no privilege"]);
    }

    #[test]
    fn a_runner_that_crashed_is_a_failure() {
        assert_eq!(counts(4, 0).finish(false), counts(4, 1));
        assert_eq!(counts(4, 2).finish(false), counts(4, 2));
        assert_eq!(counts(4, 0).finish(true), counts(4, 0));
    }

    #[test]
    fn what_was_skipped_fails_where_everything_is_to_run() {
        let tally = Tally {
            skipped: vec!["waits: no privilege".into()],
            ..counts(4, 0)
        };
        assert!(tally.is_success());
        assert_eq!(tally.to_string(), "4 passed, 0 failed, 1 skipped");
        let tally = tally.without_skips();
        assert_eq!(tally.to_string(), "4 passed, 1 failed");
        assert_eq!(
            tally.failures,
            [Failure::new("skipped: waits: no privilege")]
        );
    }

    #[test]
    fn nothing_run_is_no_success() {
        assert!(!Tally::default().is_success());
    }
}
