// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a run of pytest says: its counts, and what it did last if it ended without them.

use std::collections::VecDeque;
use std::process::ExitStatus;

use crate::failure::Failure;
use crate::tally::Tally;

/// The lines of its output that are repeated when it ends without a result.
const LAST: usize = 20;

/// The lines of a dump that are repeated, and those of one thread in it.
const DUMPED: usize = 40;
const FRAMES: usize = 4;

/// Where the tests' conftest.py notes which of them runs.
pub(super) const NOTE: &str = "SYSGENID_TEST_NOTE";

/// Reads the output of a run, both streams of it.
#[derive(Debug, Default)]
pub(super) struct Report {
    tally: Tally,
    /// What faulthandler has written: why, and for each thread the frames that it is in.
    dump: Vec<String>,
    /// How many frames of the dump's present thread were seen.
    frames: usize,
    last: VecDeque<String>,
}

impl Report {
    pub(super) fn add_line(&mut self, line: &str) {
        self.tally.add_pytest_line(line);
        if !self.is_of_a_dump(line) {
            if self.last.len() == LAST {
                self.last.pop_front();
            }
            self.last.push_back(line.to_owned());
        }
    }

    /// Keeps the topmost frames, because the others are pytest's.
    fn is_of_a_dump(&mut self, line: &str) -> bool {
        if line.starts_with("Fatal Python error: ") || line.starts_with("Timeout (") {
            self.dump.clear();
            self.frames = FRAMES;
        } else if is_thread(line) {
            self.frames = 0;
        } else if line.starts_with("  File \"") {
            self.frames += 1;
            if self.frames > FRAMES {
                return true;
            }
        } else {
            return false;
        }
        if self.dump.len() < DUMPED {
            self.dump.push(line.to_owned());
        }
        true
    }

    /// What was counted. A run that ended without naming a failure is one itself, named `name`; `at` is
    /// the test that it had noted.
    pub(super) fn finish(self, name: &str, status: ExitStatus, at: &str) -> Tally {
        // By a signal: whatever else it has said, the tests after that one did not run.
        let mut tally = self.tally;
        if status.success() || (tally.failed > 0 && status.code().is_some()) {
            return tally;
        }
        let at = if at.is_empty() { "before any test" } else { at };
        let mut failure = Failure::of(format!("pytest, {name}"), &format!("{status}, {at}"));
        failure.details = self.dump;
        failure.details.extend(self.last);
        tally += Tally::failed(failure);
        tally
    }
}

/// The line above the frames of a thread.
fn is_thread(line: &str) -> bool {
    (line.starts_with("Thread 0x") || line.starts_with("Current thread 0x"))
        && line.ends_with("(most recent call first):")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::command;

    /// Has a shell stand in for pytest.
    fn run(script: &str) -> (Tally, String) {
        let mut report = Report::default();
        let mut shell = Command::new("sh");
        let status = command::tee_both(shell.args(["-c", script]), |line| report.add_line(line));
        let tally = report.finish("python3.11", status.unwrap(), "in tests/test_a.py::test_b");
        let shown = tally.failures.iter().map(|failure| format!("{failure}\n"));
        let shown = shown.collect();
        (tally, shown)
    }

    #[test]
    fn a_run_that_crashed_says_where_and_what_it_said_last() {
        let (tally, shown) = run("\
            seq 100
            echo 'Fatal Python error: Aborted' >&2
            echo 'Current thread 0x00007f (most recent call first):' >&2
            for frame in 1 2 3 4 5 6; do echo \"  File \\\"a.py\\\", line $frame in f\" >&2; done
            echo 'Extension modules: sysgenid._native' >&2
            kill -ABRT $$");
        assert_eq!((tally.passed, tally.failed), (0, 1));
        let first = "pytest, python3.11: signal: 6 (SIGABRT)";
        assert!(shown.starts_with(first), "{shown}");
        for part in [
            "in tests/test_a.py::test_b",
            "Fatal Python error: Aborted",
            "line 4 in f",
            "\n    100\n",
            "Extension modules",
        ] {
            assert!(shown.contains(part), "{shown}");
        }
        assert!(!shown.contains("line 5 in f"), "{shown}");
        assert!(!shown.contains("\n    81\n"), "{shown}");
    }

    #[test]
    fn a_run_that_hung_shows_each_thread() {
        let (_, shown) = run("\
            echo 'Timeout (0:05:00)!' >&2
            for thread in 1 2 3; do
                echo \"Thread 0x00$thread (most recent call first):\"
                echo \"  File \\\"a.py\\\", line $thread in f\"
            done >&2
            exit 1");
        assert!(shown.contains("exit status: 1"), "{shown}");
        for thread in 1..=3 {
            assert!(shown.contains(&format!("line {thread} in f")), "{shown}");
        }
    }

    #[test]
    fn a_crash_after_the_summary_is_a_failure() {
        let summary = "echo '== 12 passed in 3.20s =='";
        let (tally, shown) = run(&format!("{summary}; kill -SEGV $$"));
        assert_eq!((tally.passed, tally.failed), (12, 1));
        assert!(shown.contains("(SIGSEGV)"), "{shown}");
        let (tally, _) = run(summary);
        assert_eq!((tally.passed, tally.failed), (12, 0));
    }

    #[test]
    fn a_run_that_names_its_failures_says_no_more() {
        let (tally, shown) = run("\
            echo 'FAILED tests/test_a.py::test_b - its reason'
            echo '== 1 failed, 12 passed in 3.20s =='
            exit 1");
        assert_eq!((tally.passed, tally.failed), (12, 1));
        assert_eq!(shown, "tests/test_a.py::test_b: its reason\n");
    }

    #[test]
    fn what_a_run_leaves_behind_does_not_hold_it_up() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "sleep 600 & echo $!; exit 3"]);
        let mut left = String::new();
        let status = command::tee_both(&mut shell, |line| left.push_str(line));
        assert_eq!(status.unwrap().code(), Some(3));
        command::run(Command::new("kill").arg(left)).unwrap();
    }
}
