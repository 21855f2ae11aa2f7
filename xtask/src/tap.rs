// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reading the Test Anything Protocol as strictly as it is written: nothing that was planned may
//! be missing, and in this project nothing may be skipped where it is meant to run.

use crate::failure::Failure;
use crate::tally::Tally;

/// The report of one suite.
#[derive(Debug, Default)]
pub(crate) struct Report {
    plan: Option<u64>,
    seen: u64,
    passed: u64,
    /// The cases that failed or were skipped.
    red: Vec<Failure>,
    /// The comments to come are of the last of them.
    explains: bool,
    skipped: u64,
    bailed_out: bool,
}

impl Report {
    pub(crate) fn add_line(&mut self, line: &str) {
        let line = line.trim_end();
        if let Some(count) = line.strip_prefix("1..") {
            // A second plan would say that a first one was not the whole truth.
            let count = count.split_whitespace().next().and_then(|n| n.parse().ok());
            self.plan = if self.plan.is_none() { count } else { None };
        } else if line.starts_with("Bail out!") {
            self.bailed_out = true;
        } else if let Some(test) = line.strip_prefix("not ok") {
            self.add_test(test, false);
        } else if let Some(test) = line.strip_prefix("ok") {
            self.add_test(test, true);
        } else {
            self.add_comment(line);
        }
    }

    fn add_comment(&mut self, line: &str) {
        match (line.strip_prefix('#'), self.red.last_mut()) {
            (Some(reason), Some(failure)) if self.explains => failure.add_reason(reason),
            _ => self.explains = false,
        }
    }

    fn add_test(&mut self, test: &str, ok: bool) {
        // "okay" and the like are words of somebody's output.
        if !test.starts_with(' ') {
            return;
        }
        self.seen += 1;
        self.explains = false;
        let (test, directive) = match test.split_once(" # ") {
            Some((test, directive)) => (test, directive),
            None => (test, ""),
        };
        let test = test.trim();
        let name = test
            .split_once(char::is_whitespace)
            .map_or(test, |(_, name)| name);
        let name = name.trim_start_matches('-').trim();
        let skip = directive.get(.."skip".len());
        if let Some(skip) = skip.filter(|word| word.eq_ignore_ascii_case("skip")) {
            let reason = directive.trim_start_matches(skip).trim_matches([':', ' ']);
            self.skipped += 1;
            self.red.push(Failure::new(match reason {
                "" => format!("{name} (skipped without a reason)"),
                reason => format!("{name} (skipped: {reason})"),
            }));
        } else if ok {
            self.passed += 1;
        } else {
            self.red.push(Failure::new(name));
            self.explains = true;
        }
    }

    /// How many of them were skipped.
    pub(crate) fn skipped(&self) -> u64 {
        self.skipped
    }

    /// What is wrong with the report as a whole, which no single case says.
    pub(crate) fn fault(&self) -> Option<String> {
        match self.plan {
            _ if self.bailed_out => Some("it bailed out".into()),
            None => Some("it printed no plan, or two".into()),
            Some(0) => Some("it planned nothing".into()),
            Some(plan) if plan != self.seen => Some(format!(
                "it planned {plan} cases and reported {}",
                self.seen
            )),
            Some(_) => None,
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        Tally {
            passed: self.passed,
            failed: self.seen - self.passed,
            failures: self.red.clone(),
            skipped: Vec::new(),
        }
        .finish(self.fault().is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str) -> Report {
        let mut report = Report::default();
        text.lines().for_each(|line| report.add_line(line));
        report
    }

    #[test]
    fn all_that_was_planned_passed() {
        let report = report("TAP version 14\n1..2\nok 1 - opens\n# a comment\nok 2 - reads\n");
        let tally = report.tally();
        assert_eq!((tally.passed, tally.failed), (2, 0));
        assert_eq!(report.fault(), None);
    }

    #[test]
    fn a_failed_case_is_red_by_name() {
        let report = report("1..2\nok 1 - opens\nnot ok 2 - poll_rearms\n");
        let tally = report.tally();
        assert_eq!((tally.passed, tally.failed), (1, 1));
        assert_eq!(tally.failures, [Failure::new("poll_rearms")]);
    }

    #[test]
    fn a_failed_case_has_the_comments_that_follow_it() {
        let report = report(
            "1..3\n# before\nnot ok 1 - wakes\n# after 20s\n# nothing\nok 2 - opens\n# not its\nnot ok 3 - reads\nnoise\n# not its\n",
        );
        let failures = [
            Failure::of("wakes", "after 20s nothing"),
            Failure::new("reads"),
        ];
        assert_eq!(report.tally().failures, failures);
    }

    #[test]
    fn a_skipped_case_is_red() {
        let report = report("1..1\nok 1 - waits # SKIP no privilege\n");
        let skipped = Failure::new("waits (skipped: no privilege)");
        assert_eq!(report.tally().failures, [skipped]);
        assert_eq!(report.skipped(), 1);
        assert!(!report.tally().is_success());
    }

    #[test]
    fn a_missing_case_a_missing_plan_and_an_empty_plan_are_faults() {
        for text in [
            "1..2\nok 1 - opens\n",
            "ok 1 - opens\n",
            "1..0\n",
            "",
            "Bail out!\n",
        ] {
            assert!(report(text).fault().is_some(), "{text:?}");
            assert!(!report(text).tally().is_success(), "{text:?}");
        }
    }

    #[test]
    fn output_that_only_looks_like_a_result_is_not_counted() {
        assert_eq!(report("1..1\nokay\nnot okay\nok 1 - opens\n").fault(), None);
    }
}
