# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Functions before a snapshot and after a restore."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sysgenid
from forking import in_child
from support import eventually, patient
from sysgenid import _native, hooks


@pytest.fixture(autouse=True)
def _none_is_left() -> Iterator[None]:
    """Each test has its own, and those of nobody else."""
    assert _native.registered_hooks() == []
    yield
    for hook in _native.registered_hooks():
        hooks.unregister(hook)


@pytest.fixture
def ran() -> list[object]:
    """What ran, in order."""
    return []


def test_a_change_runs_hooks_in_the_order_of_registration(ran: list[object]) -> None:
    @sysgenid.after_restore
    def first(generation: int) -> None:
        ran.append(("first", generation))

    sysgenid.register_after_restore(ran.append, "second")
    third = sysgenid.after_restore(lambda generation: ran.append(("third", generation)))
    sysgenid.run_after_restore(7)
    assert ran == [("first", 7), "second", ("third", 7)]
    assert callable(third)
    assert first.__name__ == "first", "it is the function itself"


def test_a_snapshot_runs_hooks_in_reverse_order(ran: list[object]) -> None:
    @sysgenid.before_snapshot
    def first() -> None:
        ran.append("first")

    @sysgenid.register_before_snapshot
    def second() -> None:
        ran.append("second")

    sysgenid.register_before_snapshot(ran.extend, ["third"])
    sysgenid.run_before_snapshot()
    assert ran == ["third", "second", "first"]


def test_arguments_are_passed_on(ran: list[object]) -> None:
    def note(*args: object, **kwargs: object) -> None:
        ran.append((args, kwargs))

    sysgenid.register_after_restore(note, 1, 2, name="after")
    sysgenid.register_before_snapshot(note, 3, name="before")
    sysgenid.run_after_restore()
    sysgenid.run_before_snapshot()
    assert ran == [((1, 2), {"name": "after"}), ((3,), {"name": "before"})]


def test_without_a_number_it_is_the_current_generation(ran: list[object]) -> None:
    sysgenid.after_restore(ran.append)
    sysgenid.run_after_restore()
    assert ran == [sysgenid.generation()]


def test_a_hook_that_fails_keeps_no_other_from_running(ran: list[object]) -> None:
    @sysgenid.after_restore
    def fails(generation: int) -> None:
        raise OSError("first")

    sysgenid.after_restore(ran.append)

    @sysgenid.after_restore
    def fails_too(generation: int) -> None:
        raise KeyError("second")

    sysgenid.register_after_restore(ran.append, "last")
    with pytest.raises(sysgenid.HookError) as raised:
        sysgenid.run_after_restore(3)
    assert ran == [3, "last"]
    (first, error), (second, other) = raised.value.failures
    assert (first, second) == (fails, fails_too)
    assert raised.value.__cause__ is error
    assert isinstance(error, OSError)
    assert isinstance(other, KeyError)
    assert "2 hooks failed: " in str(raised.value)
    assert "fails_too (KeyError('second'))" in str(raised.value)
    assert error.__traceback__ is not None


def test_a_hook_before_a_snapshot_that_fails(ran: list[object]) -> None:
    sysgenid.register_before_snapshot(ran.append, "runs")

    @sysgenid.before_snapshot
    def fails() -> None:
        raise ValueError("cannot quiesce")

    with pytest.raises(sysgenid.HookError, match=r"a hook failed: .*fails \(ValueError"):
        sysgenid.run_before_snapshot()
    assert ran == ["runs"]


def test_what_is_no_exception_comes_through_at_once(ran: list[object]) -> None:
    @sysgenid.after_restore
    def interrupted(generation: int) -> None:
        raise KeyboardInterrupt

    sysgenid.after_restore(ran.append)
    with pytest.raises(KeyboardInterrupt):
        sysgenid.run_after_restore(1)
    assert ran == []


def test_unregister(ran: list[object]) -> None:
    sysgenid.after_restore(ran.append)
    sysgenid.register_after_restore(ran.append, "again")
    sysgenid.register_before_snapshot(ran.append, "before")
    hooks.unregister(ran.append)  # another object, which is equal
    hooks.unregister(ran.append)
    sysgenid.run_after_restore(1)
    sysgenid.run_before_snapshot()
    assert ran == []


def test_hooks_may_change_hooks(ran: list[object]) -> None:
    def late(generation: int) -> None:
        ran.append("late")

    def removed(generation: int) -> None:
        ran.append("removed")

    @sysgenid.after_restore
    def first(generation: int) -> None:
        ran.append("first")
        hooks.unregister(first)
        hooks.unregister(removed)
        sysgenid.after_restore(late)

    sysgenid.after_restore(removed)
    sysgenid.run_after_restore(1)
    assert ran == ["first"], "one is removed, and one comes too late"
    sysgenid.run_after_restore(2)
    assert ran == ["first", "late"]


def test_a_hook_that_is_registered_meanwhile_runs_the_next_time(ran: list[object]) -> None:
    @sysgenid.register_after_restore
    def register() -> None:
        sysgenid.register_after_restore(ran.append, "late")

    sysgenid.run_after_restore(1)
    assert ran == []
    sysgenid.run_after_restore(2)
    assert ran == ["late"]


def test_coroutines_are_refused() -> None:
    async def rebuild(generation: int = 0) -> None:
        pass

    class Service:
        async def rebuild(self, generation: int) -> None:
            pass

    registrations: list[Any] = [
        sysgenid.after_restore,
        sysgenid.before_snapshot,
        sysgenid.register_after_restore,
        sysgenid.register_before_snapshot,
    ]
    for register in registrations:
        for hook in (rebuild, Service().rebuild):
            with pytest.raises(TypeError, match="aio"):
                register(hook)
        with pytest.raises(TypeError, match="function"):
            register(None)
    # Seen when it runs, and not forgotten without a word.
    sysgenid.after_restore(lambda generation: rebuild(generation))
    with pytest.raises(sysgenid.HookError, match="yet to run"):
        sysgenid.run_after_restore(1)


def test_a_hook_that_runs_hooks_gets_an_error() -> None:
    @sysgenid.after_restore
    def again(generation: int) -> None:
        sysgenid.run_after_restore(generation)

    with pytest.raises(sysgenid.HookError, match="by a hook") as raised:
        sysgenid.run_after_restore(1)
    assert isinstance(raised.value.__cause__, RuntimeError)


def test_two_threads_that_run_hooks_are_kept_apart() -> None:
    inside: list[int] = []
    most: list[int] = []

    @sysgenid.register_after_restore
    def look() -> None:
        inside.append(1)
        time.sleep(0.002)
        most.append(len(inside))
        inside.pop()

    threads = [threading.Thread(target=sysgenid.run_after_restore) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8


def test_a_failure_that_is_ignored_is_logged(
    ran: list[object], caplog: pytest.LogCaptureFixture
) -> None:
    @sysgenid.after_restore(on_failure="ignore")
    def warm_up(generation: int) -> None:
        raise OSError("cold")

    sysgenid.after_restore(ran.append)
    sysgenid.run_after_restore(1)
    assert ran == [1]
    (record,) = caplog.records
    assert "warm_up failed, which is ignored" in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], OSError)

    # Beside one that counts it is in the error as well, and the other is the cause.
    @sysgenid.after_restore
    def counts(generation: int) -> None:
        raise ValueError

    with pytest.raises(sysgenid.HookError) as raised:
        sysgenid.run_after_restore(2)
    assert [hook for hook, _ in raised.value.failures] == [warm_up, counts]
    assert isinstance(raised.value.__cause__, ValueError)


def test_a_hook_that_hangs_fails_at_its_timeout_and_is_not_called_twice(ran: list[object]) -> None:
    released = threading.Event()
    calls: list[int] = []

    @sysgenid.before_snapshot(timeout=0.05)
    def hangs() -> None:
        calls.append(1)
        released.wait(patient(20))

    sysgenid.register_before_snapshot(ran.append, "runs")
    with pytest.raises(sysgenid.HookError, match="deadline") as raised:
        sysgenid.run_before_snapshot()
    assert ran == ["runs"]
    ((hook, error),) = raised.value.failures
    assert hook is hangs
    assert isinstance(error, TimeoutError)
    eventually(lambda: calls == [1], "the call")
    with pytest.raises(sysgenid.HookError, match="has not ended"):
        sysgenid.run_before_snapshot()
    assert calls == [1]
    released.set()

    def runs() -> bool:
        try:
            sysgenid.run_before_snapshot()
        except sysgenid.HookError:
            return False
        return True

    eventually(runs, "another call, when the first has ended")


def test_ctrl_c_ends_the_wait_for_a_hook_that_hangs() -> None:
    released = threading.Event()

    @sysgenid.before_snapshot(timeout=3600)
    def hangs() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        released.wait(patient(20))

    with pytest.raises(KeyboardInterrupt):
        sysgenid.run_before_snapshot()
    released.set()


def test_other_policies_are_refused() -> None:
    with pytest.raises(ValueError, match="abort"):
        sysgenid.after_restore(on_failure="retry")(print)  # type: ignore[call-overload]


def test_a_child_never_waits_for_a_run_of_its_parents() -> None:
    parent, running, released = os.getpid(), threading.Event(), threading.Event()

    @sysgenid.after_restore
    def slow(generation: int) -> None:
        if os.getpid() == parent:
            running.set()
            released.wait(patient(20))

    thread = threading.Thread(target=sysgenid.run_after_restore)
    thread.start()
    assert running.wait(patient(20))
    assert in_child(sysgenid.run_after_restore) is None
    released.set()
    thread.join()


def test_a_child_has_its_parents_hooks(ran: list[object]) -> None:
    sysgenid.after_restore(ran.append)

    def run() -> list[object]:
        sysgenid.run_after_restore(9)
        return ran

    assert in_child(run) == [9]
    assert ran == []


def test_they_run_by_a_watcher(orchestrator: sysgenid.Orchestrator, ran: list[object]) -> None:
    sysgenid.after_restore(ran.append)
    with sysgenid.Watcher() as watcher:
        generation = orchestrator.trigger()
        assert watcher.handle(sysgenid.run_after_restore, 10.0) == generation
        assert ran == [generation]

        @sysgenid.after_restore
        def fails(generation: int) -> None:
            raise ValueError

        generation = orchestrator.trigger()
        with pytest.raises(sysgenid.HookError):
            watcher.handle(sysgenid.run_after_restore, 10.0)
        assert watcher.try_changed() == generation, "it is not acknowledged"
