// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reading what `cargo test` prints.

use crate::failure::Failure;
use crate::tally::Tally;
use crate::tap;

/// What a test prints, in spite of the capture of its output, of a case that cannot run here.
const SKIPPED: &str = "# skipped: ";

/// What test binaries and documentation tests have printed, one after the other.
#[derive(Default)]
pub(crate) struct Report {
    tally: Tally,
    section: Option<Section>,
}

/// What a test that failed has printed, under a line with its name.
struct Section {
    failure: Failure,
    is_over: bool,
    /// Of a test that ran a suite, and shows what that has printed.
    suite: tap::Report,
}

impl Report {
    pub(crate) fn add_line(&mut self, line: &str) {
        if let Some(skipped) = line.strip_prefix(SKIPPED) {
            self.tally.skipped.push(skipped.to_owned());
            return;
        }
        let header = line.strip_prefix("---- ");
        if let Some(name) = header.and_then(|line| line.strip_suffix(" stdout ----")) {
            self.end_section();
            self.section = Some(Section::new(name));
        } else if line == "failures:" {
            self.end_section();
        } else if let Some((_, counts)) = line.split_once("test result: ") {
            self.end_section();
            self.add_counts(counts);
        } else if let Some(section) = &mut self.section {
            section.add_line(line);
        }
    }

    fn add_counts(&mut self, counts: &str) {
        for part in counts.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(word)) = (words.next(), words.next()) else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else {
                continue;
            };
            match word {
                "passed" => self.tally.passed += number,
                "failed" => self.tally.failed += number,
                _ => {}
            }
        }
    }

    fn end_section(&mut self) {
        let Some(Section { failure, suite, .. }) = self.section.take() else {
            return;
        };
        let of_suite = suite.tally().within(&failure.name).failures;
        if of_suite.is_empty() {
            self.tally.failures.push(failure);
        } else {
            self.tally.failures.extend(of_suite);
        }
    }

    pub(crate) fn tally(mut self) -> Tally {
        self.end_section();
        self.tally
    }
}

impl Section {
    fn new(name: &str) -> Self {
        Self {
            failure: Failure::new(name),
            is_over: false,
            suite: tap::Report::default(),
        }
    }

    /// The reason is the message of the panic, or else what comes first.
    fn add_line(&mut self, line: &str) {
        self.suite.add_line(line);
        if let Some((_, panic)) = line.split_once(" panicked at ") {
            self.failure.reason.clear();
            self.failure.add_reason(panic);
            self.is_over = false;
            return;
        }
        let is_empty = line.trim().is_empty() || line.starts_with("note: ");
        if is_empty || line == "stack backtrace:" {
            self.is_over |= !self.failure.reason.is_empty();
        } else if !self.is_over {
            self.failure.add_reason(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(text: &str) -> Tally {
        let mut report = Report::default();
        text.lines().for_each(|line| report.add_line(line));
        report.tally()
    }

    #[test]
    fn summary_lines_are_added_up() {
        let tally = tally(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n\
             test watcher::tests::acks ... ok\n",
        );
        assert_eq!((tally.passed, tally.failed), (15, 2));
    }

    #[test]
    fn a_skipped_case_is_counted() {
        let tally = tally(
            "test the_suite_passes ... \n\
             # skipped: in_a_pid_namespace: no pid namespace can be made here\n\
             ok\n\
             test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!((tally.passed, tally.failed), (1, 0));
        let skipped = "in_a_pid_namespace: no pid namespace can be made here";
        assert_eq!(tally.skipped, [skipped]);
    }

    #[test]
    fn a_failed_test_says_why() {
        let tally = tally(
            "test watcher::wakes ... FAILED\n\
             \n\
             failures:\n\
             \n\
             ---- watcher::wakes stdout ----\n\
             # what it printed before\n\
             \n\
             thread 'watcher::wakes' (17) panicked at src/watcher.rs:8:5:\n\
             assertion `left == right` failed\n  left: 1\n right: 2\n\
             note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n\
             \n\
             ---- src/lib.rs - Watcher (line 3) stdout ----\n\
             error[E0425]: cannot find value `x`\n\
             \n\
             failures:\n    watcher::wakes\n    src/lib.rs - Watcher (line 3)\n\
             \n\
             test result: FAILED. 0 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!(tally.failed, 2);
        assert_eq!(
            tally.failures,
            [
                Failure::of(
                    "watcher::wakes",
                    "src/watcher.rs:8:5: assertion `left == right` failed left: 1 right: 2"
                ),
                Failure::of(
                    "src/lib.rs - Watcher (line 3)",
                    "error[E0425]: cannot find value `x`"
                ),
            ]
        );
    }

    #[test]
    fn a_suite_within_a_test_names_its_own_cases() {
        let tally = tally(
            "---- the_suite_passes stdout ----\n\
             thread 'the_suite_passes' (17) panicked at tests/broker.rs:24:5:\n\
             TAP version 14\n1..2\nok 1 - opens\nnot ok 2 - wakes\n# after 20s\n\
             note: run with\n\
             test result: FAILED. 5 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!(
            tally.failures,
            [Failure::of("the_suite_passes/wakes", "after 20s")]
        );
    }
}
