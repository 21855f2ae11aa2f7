# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A plugin for pytest: its report as TAP, which the host reads, and nothing else."""

from __future__ import annotations

import pytest

#: From how many seconds on it is told how long something took.
SLOW = 3.0


class Reporter:
    """Prints a line for each test when all of it is over: its set-up and tear-down as well."""

    number = 0
    outcome = "passed"
    reason = ""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Says what is planned."""
        print(f"1..{len(session.items)}", flush=True)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Says that a file could not be read, or that all of it was skipped."""
        if not report.passed:
            comment(report.longreprtext)
            print("Bail out!", flush=True)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Follows a test from phase to phase. What did not pass in any of them did not pass."""
        if report.when == "setup":
            self.outcome, self.reason = "passed", ""
        if self.outcome == "passed" or report.failed:
            self.outcome, self.reason = report.outcome, reason_of(report)
        if report.duration > SLOW:
            comment(f"{report.nodeid}: {report.when} took {report.duration:.0f} s")
        if report.failed:
            comment(report.longreprtext)
            for title, text in report.sections:
                comment(f"{title}\n{text}")
        if report.when == "teardown":
            self.number += 1
            self.say(report.nodeid)

    def say(self, nodeid: str) -> None:
        """Prints how a test went. What it is called by has no blanks in the host's report."""
        verdict = "not ok" if self.outcome == "failed" else "ok"
        name = nodeid.rpartition("/")[2].replace(" ", "_").replace("#", "_")
        skip = f" # SKIP {self.reason}" if self.outcome == "skipped" else ""
        print(f"{verdict} {self.number} - {name}{skip}", flush=True)


def reason_of(report: pytest.TestReport) -> str:
    """Says why a test was skipped, in one line."""
    if hasattr(report, "wasxfail"):
        return f"expected to fail: {report.wasxfail}"
    if isinstance(report.longrepr, tuple):
        return " ".join(report.longrepr[2].split())
    return ""


def comment(text: str) -> None:
    """Prints what the host passes on to people, and does not read."""
    for line in text.splitlines():
        print(f"# {line}", flush=True)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Takes the place of pytest's own report."""
    own = config.pluginmanager.getplugin("terminalreporter")
    config.pluginmanager.unregister(own)
    config.pluginmanager.register(Reporter(), "tap-reporter")
