# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Ctrl-C ends every wait at once, and other signals go unnoticed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import support
import sysgenid
import telling

#: Every call that may wait for long, as a program's line; `W` and `O` are a watcher and an
#: orchestrator, and somebody has not acknowledged.
WAITS = {
    "Watcher.wait": "W.wait(None)",
    "Watcher.wait, with a deadline": "W.wait(1e6)",
    "Watcher.changes": "next(W.changes())",
    "for generation in watcher": "next(iter(W))",
    "Orchestrator.wait": "O.wait(None)",
    "wait_for_watchers": "O.wait_for_watchers(None)",
    "settle": "O.settle(None)",
}

PROGRAM = """\
import os, signal, sysgenid
W, S, O = sysgenid.Watcher(), sysgenid.Watcher(), sysgenid.Orchestrator()
O.trigger()
O.try_changed().acknowledge()
W.try_changed().acknowledge()
signal.signal(signal.SIGUSR1, lambda *_: os.write(1, b'seen\\n'))
print('waiting', flush=True)
try:
    {wait}
except KeyboardInterrupt:
    print('interrupted', flush=True)
"""


class Interrupted:
    """A process in a wait."""

    def __init__(self, wait: str) -> None:
        program = PROGRAM.format(wait=wait)
        self._process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
        )
        assert self.hear() == "waiting"
        # Until it sleeps, and goes on to: a wait for the watchers sleeps for the broker's answer
        # first, and a signal that comes between the two is noticed by the next slice only.
        stat = f"/proc/{self._process.pid}/stat"
        looks = 0

        def sleeps() -> bool:
            nonlocal looks
            with open(stat) as file:
                looks = looks + 1 if file.read().rpartition(")")[2].split()[0] == "S" else 0
            return looks > 10

        support.eventually(sleeps, "it does not wait")

    def hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> int:
        return self._process.wait(support.patient(20))

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture(params=WAITS)
def waiting(request: pytest.FixtureRequest) -> Iterator[Interrupted]:
    process = Interrupted(WAITS[request.param])
    yield process
    process.kill()


def test_ctrl_c_ends_a_wait(waiting: Interrupted) -> None:
    begun = time.monotonic()
    waiting.send(signal.SIGINT)
    assert waiting.hear() == "interrupted"
    # At once: not by the next look at whether there was one.
    assert time.monotonic() - begun < support.patient(0.5)
    assert waiting.end() == 0


def test_a_handler_that_returns_does_not_end_a_wait(waiting: Interrupted) -> None:
    for _ in range(3):
        waiting.send(signal.SIGUSR1)
        assert waiting.hear() == "seen"
    waiting.send(signal.SIGINT)
    assert waiting.hear() == "interrupted"
    assert waiting.end() == 0


@pytest.fixture
def storm() -> Iterator[list[int]]:
    """A signal every millisecond, each counted."""
    seen: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: seen.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    yield seen
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


Call = Callable[[sysgenid.Watcher, sysgenid.Orchestrator], object]

TIMED: dict[str, Call] = {
    "Watcher.wait": lambda watcher, _: watcher.wait(0.3),
    "Watcher.handle": lambda watcher, _: telling.handle(watcher, print, 0.3),
    "Orchestrator.wait": lambda _, orchestrator: orchestrator.wait(0.3),
    "wait_for_watchers": lambda _, orchestrator: orchestrator.wait_for_watchers(0.3),
    "settle": lambda _, orchestrator: orchestrator.settle(0.3),
}


@pytest.mark.parametrize("name", TIMED)
def test_signals_do_not_move_a_deadline(name: str, source: str, storm: list[int]) -> None:
    with (
        sysgenid.Watcher(source),
        sysgenid.Watcher(source) as watcher,
        sysgenid.Orchestrator(source) as orchestrator,
    ):
        orchestrator.trigger()
        telling.acknowledge(watcher)
        telling.acknowledge(orchestrator)
        before = len(storm)
        begun = time.monotonic()
        with pytest.raises(sysgenid.TimedOutError):
            TIMED[name](watcher, orchestrator)
        passed = time.monotonic() - begun
    assert 0.29 <= passed < support.patient(0.3) + 2
    # It was interrupted, and often.
    assert len(storm) - before > 20


@pytest.mark.v6_only
def test_no_call_tells_of_signals(source: str, storm: list[int]) -> None:
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        with sysgenid.Watcher(source) as watcher, sysgenid.Orchestrator(source) as orchestrator:
            generation = orchestrator.trigger()
            assert telling.wait(watcher, support.patient(5)) == generation
            telling.acknowledge(orchestrator)
            assert [it.acknowledged for it in orchestrator.stragglers()]
            telling.acknowledge(watcher)
            orchestrator.wait_for_watchers(support.patient(5))
            sysgenid.status(source)
            sysgenid.Probe(source).verify()
    assert len(storm) > 10


class Raised(Exception):
    """What a handler raises."""


@pytest.mark.parametrize("name", TIMED)
def test_a_handler_that_raises_ends_a_wait(name: str, source: str) -> None:
    def handler(*_: object) -> None:
        raise Raised

    with (
        sysgenid.Watcher(source),
        sysgenid.Watcher(source) as watcher,
        sysgenid.Orchestrator(source) as orchestrator,
    ):
        orchestrator.trigger()
        telling.acknowledge(watcher)
        telling.acknowledge(orchestrator)
        before = signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            with pytest.raises(Raised):
                TIMED[name](watcher, orchestrator)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        # Both work as before.
        assert watcher.try_changed() is None
        with pytest.raises(sysgenid.TimedOutError):
            orchestrator.wait_for_watchers(0.01)


@pytest.mark.parametrize("name", TIMED)
def test_other_threads_run_during_a_wait(name: str, source: str) -> None:
    counted = 0
    waiting = threading.Event()

    def count() -> None:
        nonlocal counted
        waiting.wait()
        while waiting.is_set():
            counted += 1

    thread = threading.Thread(target=count)
    thread.start()
    with (
        sysgenid.Watcher(source),
        sysgenid.Watcher(source) as watcher,
        sysgenid.Orchestrator(source) as orchestrator,
    ):
        orchestrator.trigger()
        telling.acknowledge(watcher)
        telling.acknowledge(orchestrator)
        waiting.set()
        before = counted
        with pytest.raises(sysgenid.TimedOutError):
            TIMED[name](watcher, orchestrator)
        counted_meanwhile = counted - before
        waiting.clear()
    thread.join()
    # With the interpreter's lock held, it would have been none.
    assert counted_meanwhile > 1000


def test_a_wait_in_a_thread_does_not_hold_up_signals(source: str, storm: list[int]) -> None:
    with sysgenid.Watcher(source) as watcher:
        failures: list[BaseException] = []

        def wait() -> None:
            try:
                watcher.wait(0.3)
            except sysgenid.Error as error:
                failures.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        before = len(storm)
        thread.join()
        assert len(storm) > before
    assert [type(failure) for failure in failures] == [sysgenid.TimedOutError]
