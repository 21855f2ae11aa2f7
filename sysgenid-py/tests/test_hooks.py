# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Functions before a snapshot and after a restore."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import sys
import threading
import time
import types
from collections.abc import Iterator
from typing import Any

import pytest
import sysgenid
from forking import in_child
from support import eventually, patient
from sysgenid import _native, aio, hooks


@pytest.fixture(autouse=True)
def _none_is_left() -> Iterator[None]:
    """Each test has its own, and those of nobody else."""
    assert registered() == []
    yield
    for hook in registered():
        hook.remove()


def registered() -> list[hooks.Hook[..., object]]:
    """The hooks of the test."""
    return [hook for hook in _native.registered_hooks() if isinstance(hook, hooks.Hook)]


@pytest.fixture
def ran() -> list[object]:
    """What ran, in order."""
    return []


def test_a_change_runs_hooks_in_the_order_of_registration(ran: list[object]) -> None:
    @sysgenid.after_restore
    def first(change: sysgenid.Change) -> None:
        ran.append(("first", change.generation))

    sysgenid.register_after_restore(ran.append, "second")
    third = sysgenid.after_restore(lambda change: ran.append(("third", change.generation)))
    sysgenid.run_after_restore(7)
    assert ran == [("first", 7), "second", ("third", 7)]
    assert callable(third)
    assert first.__name__ == "first", "it is like the function"


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
    sysgenid.after_restore(lambda change: ran.append(change.generation))
    sysgenid.run_after_restore()
    assert ran == [sysgenid.generation()]


def test_a_hook_that_fails_keeps_no_other_from_running(ran: list[object]) -> None:
    @sysgenid.after_restore
    def fails() -> None:
        raise OSError("first")

    sysgenid.after_restore(lambda change: ran.append(change.generation))

    @sysgenid.after_restore
    def fails_too() -> None:
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
    def interrupted() -> None:
        raise KeyboardInterrupt

    sysgenid.after_restore(lambda change: ran.append(change.generation))
    with pytest.raises(KeyboardInterrupt):
        sysgenid.run_after_restore(1)
    assert ran == []


def test_a_hook_is_removed(ran: list[object]) -> None:
    kept = sysgenid.after_restore(lambda: ran.append("kept"))
    removed: list[Any] = [
        sysgenid.after_restore(lambda: ran.append("after")),
        sysgenid.register_after_restore(ran.append, "again"),
        sysgenid.register_before_snapshot(ran.append, "before"),
    ]
    for hook in removed:
        hook.remove()
        hook.remove()
    sysgenid.run_after_restore(1)
    sysgenid.run_before_snapshot()
    assert ran == ["kept"]
    assert registered() == [kept]


def test_hooks_may_change_hooks(ran: list[object]) -> None:
    def late() -> None:
        ran.append("late")

    def removed() -> None:
        ran.append("removed")

    @sysgenid.after_restore
    def first() -> None:
        ran.append("first")
        first.remove()
        second.remove()
        sysgenid.after_restore(late)

    second = sysgenid.after_restore(removed)
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


def test_what_cannot_be_called_is_refused() -> None:
    registers: tuple[Any, ...] = (
        sysgenid.after_restore,
        sysgenid.before_snapshot,
        sysgenid.register_after_restore,
        sysgenid.register_before_snapshot,
    )

    def two(one: object, another: object) -> None:
        pass

    async def two_later(one: object, another: object) -> None:
        pass

    def generator() -> Iterator[int]:
        yield 1

    for register in registers:
        with pytest.raises(TypeError, match="function"):
            register(None)
        for hook in (two, two_later):
            with pytest.raises(TypeError, match="cannot be"):
                register(hook)
        with pytest.raises(TypeError, match="generator"):
            register(generator)
    with pytest.raises(TypeError, match="cannot be"):
        sysgenid.before_snapshot(lambda change: None)
    with pytest.raises(TypeError, match="arguments"):
        sysgenid.register_after_restore(two, 1)  # type: ignore[call-arg]
    assert registered() == []


async def _note(ran: list[object], what: object) -> None:
    await asyncio.sleep(0)
    ran.append(what)


def test_asynchronous_hooks_run_to_their_end(ran: list[object]) -> None:
    @sysgenid.after_restore
    async def rebuild(change: sysgenid.Change) -> None:
        await _note(ran, change.generation)

    @sysgenid.before_snapshot
    async def close() -> None:
        await _note(ran, "close")

    sysgenid.register_after_restore(_note, ran, what="noted")
    sysgenid.run_before_snapshot()
    sysgenid.run_after_restore(3)
    assert ran == ["close", 3, "noted"]
    # A function that only makes a coroutine is seen when it runs, and not forgotten without a word.
    sysgenid.after_restore(lambda change: rebuild(change))
    with pytest.raises(sysgenid.HookError, match="yet to run"):
        sysgenid.run_after_restore(1)


def test_an_asynchronous_hook_runs_in_the_loop_that_it_is_of(ran: list[object]) -> None:
    async def main() -> None:
        here = asyncio.get_running_loop()

        @sysgenid.after_restore
        async def rebuild() -> None:
            ran.append(asyncio.get_running_loop() is here)

        await aio.run_after_restore(1)
        assert ran == [True]
        # Here nothing could run it: that is an error and no deadlock.
        with pytest.raises(sysgenid.HookError, match=r"aio\.run_after_restore"):
            sysgenid.run_after_restore(2)

    asyncio.run(main())
    sysgenid.run_after_restore(3)  # in another one, because that one has ended
    assert ran == [True, False]

    async def another() -> None:
        sysgenid.run_after_restore(4)

    asyncio.run(another())
    assert ran == [True, False, False]


def test_an_asynchronous_hook_that_fails() -> None:
    @sysgenid.after_restore
    async def fails() -> None:
        raise KeyError("later")

    with pytest.raises(sysgenid.HookError, match="later") as raised:
        sysgenid.run_after_restore(1)
    assert isinstance(raised.value.__cause__, KeyError)


def test_a_hook_is_told_of_the_change(ran: list[object]) -> None:
    @sysgenid.after_restore
    def look(change: sysgenid.Change) -> None:
        ran.append((type(change), change.generation))
        change.acknowledge()

    with pytest.raises(sysgenid.HookError, match="does not acknowledge"):
        sysgenid.run_after_restore(5)
    assert ran == [(sysgenid.Change, 5)]


def test_sys_exit_in_a_hook_does_not_starve_the_others(ran: list[object]) -> None:
    sysgenid.after_restore(sys.exit)
    sysgenid.after_restore(lambda: ran.append("runs"))
    with pytest.raises(sysgenid.HookError, match="SystemExit"):
        sysgenid.run_after_restore(1)
    assert ran == ["runs"]


CELL = """
import sysgenid

@sysgenid.after_restore
def rebuild():
    ran.append("REBUILT")

for number in (1, 2):
    @sysgenid.after_restore
    def each(number=number):
        ran.append(number)

@sysgenid.after_restore
def _():
    ran.append("one")

@sysgenid.after_restore
def _():
    ran.append("another")

sysgenid.before_snapshot(rebuild.function)
"""


@pytest.mark.parametrize("name", ["<cell 1>", "<cell 2>"])
def test_a_cell_that_is_run_twice_registers_once(ran: list[object], name: str) -> None:
    for text, file in (("OLD", "<cell 1>"), ("NEW", name)):
        cell = CELL.replace("REBUILT", text)
        exec(compile(cell, file, "exec"), {"ran": ran, "__name__": "__main__"})
    sysgenid.run_after_restore(1)
    assert ran.count("NEW") == 1
    assert "OLD" not in ran
    assert {1, 2, "one", "another"} <= set(ran), "what one definition makes is not one hook"
    assert sum(hook._before for hook in registered()) == 1


def test_one_function_is_registered_once(ran: list[object]) -> None:
    class Service:
        def reset(self) -> None:
            ran.append(self)

    one, other = Service(), Service()
    for reset in (one.reset, other.reset, one.reset):
        sysgenid.after_restore(reset)
    sysgenid.run_after_restore(1)
    assert ran == [other, one]


def test_the_hooks_of_snap_start_run_as_well(
    ran: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    sysgenid.after_restore(lambda: ran.append("after"))
    sysgenid.before_snapshot(lambda: ran.append("before"))
    # As that module keeps them.
    module = types.ModuleType("snapshot_restore_py")
    module.get_after_restore = lambda: [  # type: ignore[attr-defined]
        (ran.append, ("theirs",), {}),
        (divmod, (1, 0), {}),
        (ran.append, ("theirs too",), {}),
    ]
    before: list[tuple[object, ...]] = [(ran.append, (it,), {}) for it in ("first", "second")]
    module.get_before_snapshot = lambda: before  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "snapshot_restore_py", module)
    sysgenid.run_before_snapshot()
    assert ran == ["before", "second", "first"]
    assert len(before) == 2, "they are there for the runtime still"
    ran.clear()
    with pytest.raises(
        sysgenid.HookError, match=r"a hook failed: divmod \(ZeroDivisionError"
    ) as it:
        sysgenid.run_after_restore(1)
    assert ran == ["theirs", "theirs too", "after"]
    assert it.value.failures[0][0] is divmod


def test_registration_has_the_keywords_of_snap_start(ran: list[object]) -> None:
    def note(*, name: str) -> None:
        ran.append(name)

    sysgenid.register_after_restore(func=note, name="named")
    sysgenid.run_after_restore(1)
    assert ran == ["named"]


def test_a_snapshot_block(ran: list[object]) -> None:
    sysgenid.before_snapshot(lambda: ran.append("before"))
    sysgenid.after_restore(lambda: ran.append("after"))
    with sysgenid.snapshot():
        ran.append("snapshot")
    assert ran == ["before", "snapshot", "after"]
    ran.clear()
    with pytest.raises(ZeroDivisionError), sysgenid.snapshot():
        raise ZeroDivisionError
    assert ran == ["before", "after"]
    ran.clear()
    fails = sysgenid.before_snapshot(lambda: 1 // 0)
    with pytest.raises(sysgenid.HookError, match="ZeroDivisionError"), sysgenid.snapshot():
        ran.append("snapshot")
    assert ran == ["before", "after"], "what was closed is open again"
    fails.remove()

    async def main() -> None:
        async with aio.snapshot():
            ran.append("snapshot")
        sysgenid.before_snapshot(lambda: 1 // 0)
        with pytest.raises(sysgenid.HookError):
            async with aio.snapshot():
                ran.append("never")

    ran.clear()
    asyncio.run(main())
    assert ran == ["before", "snapshot", "after", "before", "after"]


def test_a_hook_error_can_be_pickled() -> None:
    sysgenid.after_restore(lambda: 1 // 0)
    with pytest.raises(sysgenid.HookError) as raised:
        sysgenid.run_after_restore(1)
    assert isinstance(raised.value, sysgenid.Error)
    copied = pickle.loads(pickle.dumps(raised.value))
    assert (type(copied), str(copied)) == (sysgenid.HookError, str(raised.value))


def test_a_hook_that_runs_hooks_gets_an_error() -> None:
    @sysgenid.after_restore
    def again(change: sysgenid.Change) -> None:
        sysgenid.run_after_restore(change.generation)

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
    def warm_up() -> None:
        raise OSError("cold")

    sysgenid.after_restore(lambda change: ran.append(change.generation))
    sysgenid.run_after_restore(1)
    assert ran == [1]
    (record,) = caplog.records
    assert "warm_up failed, which is ignored" in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], OSError)

    # Beside one that counts it is in the error as well, and the other is the cause.
    @sysgenid.after_restore
    def counts() -> None:
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
    def slow() -> None:
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
    sysgenid.after_restore(lambda change: ran.append(change.generation))

    def run() -> list[object]:
        sysgenid.run_after_restore(9)
        return ran

    assert in_child(run) == [9]
    assert ran == []
