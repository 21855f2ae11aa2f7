# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A guard lets one thread build at a time, and is never left locked."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import sysgenid
from forking import in_child
from support import patient, run_python

#: Builds that signals interrupt.
INTERRUPTED = 3000 if patient(1) == 1 else 300


class Interrupt(Exception):
    """What a signal handler raises: a soft time limit, a test's timeout, Ctrl-C."""


@pytest.fixture
def alarm() -> Iterator[Callable[[float], object]]:
    """Raises `Interrupt` in the main thread after so many seconds."""

    def interrupt(number: int, frame: object) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def until_interrupted() -> None:
    """Runs until the signal is there: `signal.pause` sleeps for ever if it came just before."""
    end = time.monotonic() + patient(20)
    while time.monotonic() < end:
        pass
    pytest.fail("no signal interrupted it")


def test_an_interrupt_at_any_moment_leaves_a_guard_that_works(
    alarm: Callable[[float], object],
) -> None:
    guard = sysgenid.Guarded(lambda: sum(range(20)))
    interrupts = 0
    # So that the interrupts spread over all that the loop does.
    moments = random.Random(1)
    for _ in range(INTERRUPTED):
        try:
            alarm(moments.uniform(5e-6, 60e-6))
            for _ in range(20):
                guard.forget()
                guard.get()
                guard.use(abs)
            until_interrupted()
        except Interrupt:
            interrupts += 1
        # It would wait for ever for its own thread, or be told that it is in use.
        assert guard.get() == 190
    assert interrupts == INTERRUPTED


def test_an_interrupt_ends_the_wait_for_another_thread(alarm: Callable[[float], object]) -> None:
    at_work, go_on = threading.Event(), threading.Event()

    def build() -> str:
        at_work.set()
        go_on.wait(patient(20))
        return "built"

    guard = sysgenid.Guarded(build)
    builder = threading.Thread(target=guard.get)
    builder.start()
    assert at_work.wait(patient(10))
    alarm(0.05)
    with pytest.raises(Interrupt):
        guard.get()
    go_on.set()
    builder.join(patient(10))
    assert guard.get() == "built"


def test_guards_that_build_from_each_other_end_with_an_error() -> None:
    both = threading.Barrier(2)

    def build(other: Callable[[], sysgenid.Guarded[str]]) -> str:
        both.wait(patient(10))
        return f"made of {other().get()}"

    first = sysgenid.Guarded(lambda: build(lambda: second))
    second: sysgenid.Guarded[str] = sysgenid.Guarded(lambda: build(lambda: first))
    outcomes: list[object] = []

    def get(guard: sysgenid.Guarded[str]) -> None:
        try:
            outcomes.append(guard.get())
        except (sysgenid.ReentrantError, threading.BrokenBarrierError) as error:
            outcomes.append(error)
            both.abort()

    threads = [
        threading.Thread(target=get, args=(guard,), daemon=True) for guard in (first, second)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patient(20))
    assert len(outcomes) == 2, "they wait for each other"
    assert any(isinstance(outcome, sysgenid.ReentrantError) for outcome in outcomes)


def test_three_guards_in_a_circle_end_with_an_error() -> None:
    together = threading.Barrier(3)
    guards: list[sysgenid.Guarded[int]] = []

    def build(own: int) -> int:
        together.wait(patient(10))
        return guards[(own + 1) % 3].get()

    guards += [sysgenid.Guarded(lambda own=own: build(own)) for own in range(3)]  # type: ignore[misc]
    failures: list[BaseException] = []

    def get(guard: sysgenid.Guarded[int]) -> None:
        try:
            guard.get()
        except Exception as error:
            failures.append(error)
            together.abort()

    threads = [threading.Thread(target=get, args=(guard,), daemon=True) for guard in guards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patient(20))
    assert len(failures) == 3, "they wait for each other"
    assert any(isinstance(failure, sysgenid.ReentrantError) for failure in failures)


def test_to_wait_for_a_guard_that_builds_from_another_is_no_error() -> None:
    at_work, go_on = threading.Event(), threading.Event()

    def build() -> str:
        at_work.set()
        go_on.wait(patient(20))
        return "base"

    base = sysgenid.Guarded(build)
    derived = sysgenid.Guarded(lambda: f"of {base.get()}")
    results: list[str] = []
    threads = [threading.Thread(target=base.get)]
    threads += [threading.Thread(target=lambda: results.append(derived.get())) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert at_work.wait(patient(10))
    time.sleep(0.05)
    go_on.set()
    for thread in threads:
        thread.join(patient(20))
    assert results == ["of base"] * 4


def test_a_child_of_a_process_in_which_threads_wait_builds_at_once() -> None:
    at_work, go_on = threading.Event(), threading.Event()

    def build() -> str:
        if threading.current_thread() in threads:
            at_work.set()
            go_on.wait(patient(20))
        return "built"

    guard = sysgenid.Guarded(build)
    threads = [threading.Thread(target=guard.get) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert at_work.wait(patient(10))
    time.sleep(0.05)

    def work() -> list[str]:
        others = [threading.Thread(target=guard.get) for _ in range(4)]
        for other in others:
            other.start()
        for other in others:
            other.join(patient(10))
        return [guard.get()]

    assert in_child(work) == ["built"]
    go_on.set()
    for thread in threads:
        thread.join(patient(20))


def test_an_interrupt_at_any_moment_leaves_no_value_that_is_not_wiped(
    alarm: Callable[[float], object],
) -> None:
    kept: list[bytearray] = []

    def build() -> bytearray:
        value = bytearray(b"secret")
        kept.append(value)
        return value

    guard = sysgenid.Guarded(build, wipe=bytearray.clear)
    moments = random.Random(1)
    for _ in range(INTERRUPTED):
        try:
            alarm(moments.uniform(5e-6, 60e-6))
            for _ in range(20):
                guard.use(len)
                guard.forget()
            until_interrupted()
        except Interrupt:
            pass
        guard.use(len)
        guard.forget()
        # One may be interrupted between its making and its return, when it is not the guard's yet.
        left = [value for value in kept if value]
        assert len(left) <= 1
        kept.clear()


def test_guards_are_dropped_as_fast_as_other_objects() -> None:
    run_python(
        """
import gc, random, time, sysgenid

NUMBER = 20_000

class Plain:
    __slots__ = ("__weakref__", "build", "built", "wipe")

    def __init__(self, build, *, wipe=None):
        self.build, self.wipe, self.built = build, wipe, None

def build():
    return 1

def seconds(make, order):
    begun = time.process_time()
    made = [make(build) for _ in range(NUMBER)]
    if order == "oldest first":
        made.reverse()
    elif order == "any order":
        random.Random(1).shuffle(made)
    while made:
        made.pop()
    return time.process_time() - begun

for order in "newest first", "oldest first", "any order":
    ratios = []
    for _ in range(3):
        plain = seconds(Plain, order)
        ratios.append(seconds(sysgenid.Guarded, order) / plain)
    # A list of them would make it a thousand. The bound itself is a bench's.
    assert sorted(ratios)[1] < 50, (order, ratios)
"""
    )


@pytest.mark.needs("gevent")
def test_greenlets_of_one_thread_wait_for_each_other() -> None:
    run_python(
        """
from gevent import monkey
monkey.patch_all()
import gevent, sysgenid

numbers = iter(range(100))

def build():
    gevent.sleep(0.02)
    return next(numbers)

guard = sysgenid.Guarded(build)
waiting = [gevent.spawn(guard.get) for _ in range(10)]
gevent.joinall(waiting, raise_error=True)
assert [greenlet.value for greenlet in waiting] == [0] * 10

own = sysgenid.Guarded(lambda: own.get())
try:
    own.get()
except sysgenid.ReentrantError:
    pass
else:
    raise AssertionError("it needs itself")
"""
    )


@pytest.mark.parametrize(
    "call",
    [
        "sysgenid.Guarded(slow).get",
        "lambda: sysgenid.Guarded(bytearray).use(slow)",
        "sysgenid.cached(slow)",
    ],
)
def test_a_daemon_thread_in_a_build_or_a_use_does_not_abort_the_end(call: str) -> None:
    run_python(
        f"""
import sys, threading, time, sysgenid

def slow(*_):
    while True:
        time.sleep(0.001)

class Late:
    # Keeps the interpreter busy with its end, so that the threads ask for its lock.
    def __del__(self, sleep=time.sleep):
        sleep(0.3)

sys.late = Late()
for _ in range(4):
    threading.Thread(target={call}, daemon=True).start()
time.sleep(0.2)
"""
    )
