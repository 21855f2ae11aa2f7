# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Every kind of timeout, in every call that takes one."""

from __future__ import annotations

import errno
import math
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
import support
import sysgenid
import telling

#: Calls that wait for what does not happen.
Waiting = Callable[[object], object]


@pytest.fixture(params=["Watcher.wait", "Orchestrator.wait", "wait_for_watchers", "settle"])
def waiting(request: pytest.FixtureRequest, source: str) -> Iterator[Waiting]:
    with sysgenid.Watcher(source) as watcher, sysgenid.Orchestrator(source) as orchestrator:
        calls: dict[str, Waiting] = {
            "Watcher.wait": lambda timeout: watcher.wait(timeout),  # type: ignore[arg-type]
            "Orchestrator.wait": lambda timeout: orchestrator.wait(timeout),  # type: ignore[arg-type]
            "wait_for_watchers": lambda timeout: orchestrator.wait_for_watchers(timeout),  # type: ignore[arg-type]
            "settle": lambda timeout: orchestrator.settle(timeout),  # type: ignore[arg-type]
        }
        if request.param in ("wait_for_watchers", "settle"):
            # Somebody is missing.
            orchestrator.trigger()
            telling.acknowledge(orchestrator)
        yield calls[request.param]


@pytest.mark.parametrize(
    "timeout", [0, 0.0, -1, -1e300, 1e-9, 0.02, timedelta(milliseconds=20), timedelta(-1), False]
)
def test_it_passes(waiting: Waiting, timeout: object) -> None:
    with pytest.raises(sysgenid.TimedOutError) as caught:
        waiting(timeout)
    assert caught.value.errno == errno.ETIME
    assert isinstance(caught.value, TimeoutError)


@pytest.mark.parametrize("timeout", [0.2, timedelta(seconds=0.2), Fraction(1, 5), Decimal("0.2")])
def test_it_is_in_seconds(waiting: Waiting, timeout: object) -> None:
    begun = time.monotonic()
    with pytest.raises(sysgenid.TimedOutError):
        waiting(timeout)
    assert 0.19 <= time.monotonic() - begun < support.patient(5)


@pytest.mark.parametrize("timeout", [math.nan, math.inf, -math.inf])
def test_it_is_finite(waiting: Waiting, timeout: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        waiting(timeout)


@pytest.mark.parametrize("timeout", ["1", b"1", [1], object(), 1j])
def test_it_is_a_number(waiting: Waiting, timeout: object) -> None:
    with pytest.raises(TypeError, match="seconds"):
        waiting(timeout)


# On v5 each open file is waited for, and so is one that an earlier test has dropped outdated.
@pytest.mark.v6_only
def test_without_one_it_is_without_end(source: str, trigger: support.Trigger) -> None:
    with sysgenid.Watcher(source) as watcher, sysgenid.Orchestrator(source) as orchestrator:
        waits: list[Callable[[], sysgenid.Change]] = [
            watcher.wait,
            orchestrator.wait,
            lambda: next(watcher.changes()),
        ]
        for wait in waits:
            changing = threading.Timer(0.05, trigger)
            changing.start()
            assert wait().acknowledge()
            changing.join()
            telling.acknowledge(watcher)
            telling.acknowledge(orchestrator)
        orchestrator.wait_for_watchers()


@pytest.mark.parametrize("timeout", [None, 1e9, 1e300, 2**64, 2**62, timedelta.max])
def test_it_is_longer_than_the_wait(
    source: str, trigger: support.Trigger, timeout: float | timedelta | None
) -> None:
    with sysgenid.Watcher(source) as watcher:
        changing = threading.Timer(0.05, trigger)
        changing.start()
        assert watcher.wait(timeout).generation == watcher.generation
        changing.join()


def test_a_number_that_no_float_holds(waiting: Waiting) -> None:
    with pytest.raises((OverflowError, TypeError, ValueError)):
        waiting(10**400)


def test_status_and_trigger_have_one(source: str) -> None:
    for timeout in (None, timedelta(seconds=support.patient(5)), support.patient(5)):
        assert sysgenid.status(source, timeout=timeout).path == source
        assert sysgenid.trigger(source, timeout=timeout) == sysgenid.status(source).generation


@pytest.mark.parametrize("time", [None, 0, -1, 1, 1e300, timedelta(seconds=1), Fraction(1, 5)])
def test_a_time_to_answer_is_a_timeout(source: str, time: float | timedelta | None) -> None:
    with (
        sysgenid.Watcher(source, answer_within=time),
        sysgenid.Orchestrator(source, answer_within=time) as orchestrator,
    ):
        orchestrator.trigger()


@pytest.mark.parametrize("opener", [sysgenid.Watcher, sysgenid.Orchestrator])
def test_what_is_no_time_to_answer(source: str, opener: Callable[..., object]) -> None:
    for wrong in (math.nan, math.inf):
        with pytest.raises(ValueError, match="finite"):
            opener(source, answer_within=wrong)
    with pytest.raises(TypeError, match="seconds"):
        opener(source, answer_within="soon")


def test_reconnect_has_one(source: str) -> None:
    with sysgenid.Watcher(source) as watcher:
        for timeout in (None, 0, 0.5, timedelta(seconds=1)):
            watcher.reconnect(timeout)
        with pytest.raises(ValueError, match="finite"):
            watcher.reconnect(math.inf)
        watcher.reconnect()
