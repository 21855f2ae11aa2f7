# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What tests do with changes when only the numbers matter."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import sysgenid


class Telling(Protocol):
    """A watcher or an orchestrator, of an event loop or of none."""

    def try_changed(self) -> sysgenid.Change | None: ...


class Waiting(Protocol):
    """One that is not of an event loop."""

    def wait(self, timeout: float | None = None) -> sysgenid.Change: ...


def told(source: Telling) -> int | None:
    """The generation that it tells of, if it is outdated."""
    change = source.try_changed()
    return None if change is None else change.generation


def wait(source: Waiting, timeout: float) -> int:
    """Waits for a change, and returns the generation."""
    return source.wait(timeout).generation


def acknowledge(source: Telling) -> None:
    """Acknowledges what there is to acknowledge."""
    change = source.try_changed()
    assert change is None or change.acknowledge()


def handle(source: Waiting, callback: Callable[[int], object], timeout: float) -> int:
    """Waits for a change, calls the function, acknowledges, and returns the generation."""
    deadline = time.monotonic() + timeout
    while True:
        change = source.wait(max(deadline - time.monotonic(), 0))
        callback(change.generation)
        if change.acknowledge():
            return change.generation
