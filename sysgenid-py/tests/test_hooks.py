# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Functions before a snapshot and after a restore."""

from __future__ import annotations

import pytest
import sysgenid
from forking import in_child
from sysgenid import hooks


@pytest.fixture(autouse=True)
def _none_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "_after", [])
    monkeypatch.setattr(hooks, "_before", [])


@pytest.fixture
def ran() -> list[object]:
    """What ran, in order."""
    return []


def test_a_change_runs_hooks_in_the_order_of_registration(ran: list[object]) -> None:
    @sysgenid.on_change
    def first(generation: int) -> None:
        ran.append(("first", generation))

    sysgenid.register_after_restore(ran.append, "second")
    third = sysgenid.on_change(lambda generation: ran.append(("third", generation)))
    sysgenid.run_on_change(7)
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
    sysgenid.run_on_change()
    sysgenid.run_before_snapshot()
    assert ran == [((1, 2), {"name": "after"}), ((3,), {"name": "before"})]


def test_without_a_number_it_is_the_current_generation(ran: list[object]) -> None:
    sysgenid.on_change(ran.append)
    sysgenid.run_on_change()
    assert ran == [sysgenid.generation()]


def test_a_hook_that_fails_keeps_no_other_from_running(ran: list[object]) -> None:
    @sysgenid.on_change
    def fails(generation: int) -> None:
        raise OSError("first")

    sysgenid.on_change(ran.append)

    @sysgenid.on_change
    def fails_too(generation: int) -> None:
        raise KeyError("second")

    sysgenid.register_after_restore(ran.append, "last")
    with pytest.raises(sysgenid.HookError) as raised:
        sysgenid.run_on_change(3)
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
    @sysgenid.on_change
    def interrupted(generation: int) -> None:
        raise KeyboardInterrupt

    sysgenid.on_change(ran.append)
    with pytest.raises(KeyboardInterrupt):
        sysgenid.run_on_change(1)
    assert ran == []


def test_unregister(ran: list[object]) -> None:
    sysgenid.on_change(ran.append)
    sysgenid.register_after_restore(ran.append, "again")
    sysgenid.register_before_snapshot(ran.append, "before")
    hooks.unregister(ran.append)  # another object, which is equal
    hooks.unregister(ran.append)
    sysgenid.run_on_change(1)
    sysgenid.run_before_snapshot()
    assert ran == []


def test_hooks_may_change_hooks(ran: list[object]) -> None:
    def late(generation: int) -> None:
        ran.append("late")

    def removed(generation: int) -> None:
        ran.append("removed")

    @sysgenid.on_change
    def first(generation: int) -> None:
        ran.append("first")
        hooks.unregister(first)
        hooks.unregister(removed)
        sysgenid.on_change(late)

    sysgenid.on_change(removed)
    sysgenid.run_on_change(1)
    assert ran == ["first"], "one is removed, and one comes too late"
    sysgenid.run_on_change(2)
    assert ran == ["first", "late"]


def test_a_hook_that_is_registered_meanwhile_runs_the_next_time(ran: list[object]) -> None:
    @sysgenid.register_after_restore
    def register() -> None:
        sysgenid.register_after_restore(ran.append, "late")

    sysgenid.run_on_change(1)
    assert ran == []
    sysgenid.run_on_change(2)
    assert ran == ["late"]


def test_coroutines_are_refused() -> None:
    async def rebuild(generation: int = 0) -> None:
        pass

    class Service:
        async def rebuild(self, generation: int) -> None:
            pass

    for register in (
        sysgenid.on_change,
        sysgenid.before_snapshot,
        sysgenid.register_after_restore,
        sysgenid.register_before_snapshot,
    ):
        for hook in (rebuild, Service().rebuild):
            with pytest.raises(TypeError, match="aio"):
                register(hook)
        with pytest.raises(TypeError, match="function"):
            register(None)  # type: ignore[type-var]
    # Seen when it runs, and not forgotten without a word.
    sysgenid.on_change(lambda generation: rebuild(generation))
    with pytest.raises(sysgenid.HookError, match="aio"):
        sysgenid.run_on_change(1)


def test_a_child_has_its_parents_hooks(ran: list[object]) -> None:
    sysgenid.on_change(ran.append)

    def run() -> list[object]:
        sysgenid.run_on_change(9)
        return ran

    assert in_child(run) == [9]
    assert ran == []


def test_they_run_by_a_watcher(orchestrator: sysgenid.Orchestrator, ran: list[object]) -> None:
    sysgenid.on_change(ran.append)
    with sysgenid.Watcher() as watcher:
        generation = orchestrator.trigger()
        assert watcher.handle(sysgenid.run_on_change, 10.0) == generation
        assert ran == [generation]

        @sysgenid.on_change
        def fails(generation: int) -> None:
            raise ValueError

        generation = orchestrator.trigger()
        with pytest.raises(sysgenid.HookError):
            watcher.handle(sysgenid.run_on_change, 10.0)
        assert watcher.try_changed() == generation, "it is not acknowledged"
