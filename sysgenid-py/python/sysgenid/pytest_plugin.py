# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The fixtures for pytest, which finds them by itself where this package is installed.

`-p no:sysgenid` leaves them out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import ParamSpec, Protocol, TypeVar

import pytest

from sysgenid import testing, uniqueness

__all__ = ["Fork", "sysgenid_broker", "sysgenid_fork", "sysgenid_restore"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Fork(Protocol):
    """The type of the fixture `sysgenid_fork`."""

    def __call__(self, function: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Calls `function` in a forked child, and returns what it returned there."""
        ...


@pytest.fixture
def sysgenid_restore() -> Callable[[], None]:
    """Plays a restore in the process of the test, by `sysgenid_restore()`.

    See `sysgenid.testing.restore`.
    """
    return testing.restore


@pytest.fixture
def sysgenid_fork() -> Fork:
    """Calls a function in a forked child, by `sysgenid_fork(function, *args)`.

    See `sysgenid.testing.fork`.
    """
    return testing.fork


@pytest.fixture
def sysgenid_broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[testing.Broker]:
    """A broker for this test alone, changed by `sysgenid_broker.trigger()`.

    SYSGENID_SOURCE names it during the test, for all that the test opens without a path and for the
    programs that it starts. See `sysgenid.testing.Broker`.
    """
    # A process looks for its sources once. Not now that the variable names what ends with the test.
    uniqueness()
    with testing.Broker() as broker:
        monkeypatch.setenv("SYSGENID_SOURCE", os.fspath(broker.path))
        yield broker
