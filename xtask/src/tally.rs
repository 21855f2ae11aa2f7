// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Counting what test runners report.

use std::fmt;
use std::ops::AddAssign;

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Tally {
    /// A check that has no runner of its own, and passed: formatting, lints, a build.
    pub(crate) const ONE: Self = Self {
        passed: 1,
        failed: 0,
    };

    /// Prints and counts what must hold, each with a name.
    pub(crate) fn of_checks(checks: &[(&str, bool)]) -> Self {
        println!("1..{}", checks.len());
        let mut tally = Self::default();
        for (number, &(name, holds)) in (1..).zip(checks) {
            println!("{} {number} - {name}", if holds { "ok" } else { "not ok" });
            tally += Self {
                passed: holds.into(),
                failed: (!holds).into(),
            };
        }
        tally
    }

    /// Adds what a line of `cargo test` says, if it is a summary line.
    pub(crate) fn add_cargo_line(&mut self, line: &str) {
        let Some((_, counts)) = line.split_once("test result: ") else {
            return;
        };
        for part in counts.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(word)) = (words.next(), words.next()) else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else {
                continue;
            };
            match word {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                _ => {}
            }
        }
    }

    /// Adds what a line of pytest says, if it is its last one: `== 1 failed, 12 passed in 0.12s ==`.
    pub(crate) fn add_pytest_line(&mut self, line: &str) {
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

    /// A runner that failed without naming a test (it did not compile, it crashed) counts as one.
    pub(crate) fn finish(mut self, success: bool) -> Self {
        if !success && self.failed == 0 {
            self.failed = 1;
        }
        self
    }

    pub(crate) fn is_success(self) -> bool {
        self.failed == 0 && self.passed > 0
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_summary_lines_of_cargo() {
        let mut tally = Tally::default();
        tally.add_cargo_line(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        );
        tally.add_cargo_line(
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
        );
        tally.add_cargo_line("test watcher::tests::acks ... ok");
        assert_eq!(
            tally,
            Tally {
                passed: 15,
                failed: 2
            }
        );
    }

    #[test]
    fn counts_the_last_line_of_pytest() {
        let mut tally = Tally::default();
        for line in [
            "==== 2 failed, 12 passed, 3 skipped, 1 warning, 1 error in 3.20s ====",
            "1 passed in 61.02s (0:01:01)",
            "==== no tests ran in 0.01s ====",
            "FAILED tests/test_watcher.py::test_wakes - 3 passed in vain",
            "tests/test_watcher.py ....",
        ] {
            tally.add_pytest_line(line);
        }
        assert_eq!(
            tally,
            Tally {
                passed: 13,
                failed: 3
            }
        );
    }

    #[test]
    fn a_runner_that_crashed_is_a_failure() {
        assert_eq!(
            Tally {
                passed: 4,
                failed: 0
            }
            .finish(false),
            Tally {
                passed: 4,
                failed: 1
            }
        );
        assert_eq!(
            Tally {
                passed: 4,
                failed: 2
            }
            .finish(false),
            Tally {
                passed: 4,
                failed: 2
            }
        );
        assert_eq!(
            Tally {
                passed: 4,
                failed: 0
            }
            .finish(true),
            Tally {
                passed: 4,
                failed: 0
            }
        );
    }

    #[test]
    fn nothing_run_is_no_success() {
        assert!(!Tally::default().is_success());
    }
}
