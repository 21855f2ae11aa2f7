# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The fixtures.

The tests look at a source that is the same for all of them, SYSGENID_SOURCE, because a process has
one: a broker in a temporary folder, or what SYSGENID_TEST_SOURCE names, such as a kernel driver's
device. A test that stops a broker, or counts its watchers, asks for one of its own. What cannot run
somewhere is not collected there: a test that is skipped is one that somebody forgot.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import support
import sysgenid

#: For tests of the fixtures that the package brings along.
pytest_plugins = ["pytester"]

#: Not even imported where there is no numpy.
_NUMPY = ["test_random_numpy.py", "test_random_numpy_made.py"]
collect_ignore = [] if importlib.util.find_spec("numpy") else _NUMPY

_served: support.Broker | None = None


def pytest_configure(config: pytest.Config) -> None:
    """Serves a source, before anybody looks for one."""
    global _served
    # Who runs the tests in the background of a script ignores Ctrl-C, and so would all children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    named = os.environ.get("SYSGENID_TEST_SOURCE")
    if named is None:
        if support.command() is None:
            pytest.exit("no command to serve the tests: cargo build -p sysgenid-cli", 4)
        _served = support.Broker(Path(tempfile.mkdtemp(prefix="sysgenid-")))
        named = _served.source
    os.environ["SYSGENID_SOURCE"] = named
    if os.environ.get("SYSGENID_TEST_DIALECT") == "v5":
        # The process cannot use a driver of that dialect.
        config.addinivalue_line("filterwarnings", "ignore::sysgenid.UnprotectedWarning")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Removes what was served."""
    if _served is not None:
        _served.stop()
        shutil.rmtree(_served.folder, ignore_errors=True)


def pytest_runtest_logstart(nodeid: str) -> None:
    """Notes which test runs: the dots of a run that crashes or hangs do not say."""
    _note(f"in {nodeid}")


def pytest_runtest_logfinish(nodeid: str) -> None:
    """Notes which test was the last."""
    _note(f"after {nodeid}")


def _note(text: str) -> None:
    note = os.environ.get("SYSGENID_TEST_NOTE")
    if note is not None:
        Path(note).write_text(text)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what this source does not have."""

    def fits(item: pytest.Item) -> bool:
        if support.command() is None and "broker" in getattr(item, "fixturenames", ()):
            return False
        if item.get_closest_marker("broker_only") is not None and _served is None:
            return False
        needed = item.get_closest_marker("needs")
        if needed is not None and importlib.util.find_spec(needed.args[0]) is None:
            return False
        is_v5 = os.environ.get("SYSGENID_TEST_DIALECT") == "v5"
        return item.get_closest_marker("v6_only") is None or not is_v5

    fitting = [item for item in items if fits(item)]
    config.hook.pytest_deselected(items=[item for item in items if not fits(item)])
    items[:] = fitting


@pytest.fixture
def source() -> str:
    """The path of the source that all tests share."""
    return os.environ["SYSGENID_SOURCE"]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[support.Broker]:
    """A broker for this test alone, which may stop it."""
    broker = support.Broker(tmp_path / "served")
    yield broker
    broker.stop()


@pytest.fixture
def orchestrator(source: str) -> Iterator[sysgenid.Orchestrator]:
    """An orchestrator on the source that all tests share."""
    with sysgenid.Orchestrator(source) as orchestrator:
        yield orchestrator


@pytest.fixture
def trigger(orchestrator: sysgenid.Orchestrator) -> support.Trigger:
    """Changes the generation of the source that all tests share; returns the new one."""
    return orchestrator.trigger
