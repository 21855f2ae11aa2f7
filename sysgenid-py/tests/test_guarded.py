# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Values that a restore or a fork makes outdated."""

from __future__ import annotations

import gc
import pickle
import threading
import time
import weakref
from collections.abc import Callable
from itertools import count

import pytest
import sysgenid
from forking import in_child
from support import Trigger, patient


class Counted:
    """A build that can tell how often it was made."""

    def __init__(self) -> None:
        self.numbers = count(1)
        self.meanwhile: Callable[[], object] = lambda: None

    def __call__(self) -> list[int]:
        number = next(self.numbers)
        self.meanwhile()
        return [number]


@pytest.fixture
def build() -> Counted:
    return Counted()


@pytest.mark.v6_only
def test_it_is_built_once_for_each_generation(build: Counted, trigger: Trigger) -> None:
    guard = sysgenid.Guarded(build)
    assert repr(guard) == "<sysgenid.Guarded, empty>"
    assert guard.get() is guard.get()
    assert guard.get() == [1]
    generation = trigger()
    assert guard.get() == [2]
    assert repr(guard) == f"<sysgenid.Guarded, built in generation {generation}>"


@pytest.mark.v6_only
def test_a_build_that_a_change_overtakes_is_made_again(build: Counted, trigger: Trigger) -> None:
    guard = sysgenid.Guarded(build)
    changes = iter([trigger, trigger])
    build.meanwhile = lambda: next(changes, lambda: 0)()
    assert guard.get() == [3]


@pytest.mark.v6_only
def test_a_build_that_is_overtaken_each_time_is_given_up(build: Counted, trigger: Trigger) -> None:
    guard = sysgenid.Guarded(build)
    build.meanwhile = trigger
    with pytest.raises(sysgenid.UnsettledError) as raised:
        guard.get()
    assert not isinstance(raised.value, OSError)
    assert next(build.numbers) == 5, "there are four attempts"
    build.meanwhile = lambda: None
    assert guard.get() == [6]


@pytest.mark.v6_only
def test_a_result_that_a_change_overtakes_is_made_again(build: Counted, trigger: Trigger) -> None:
    guard = sysgenid.Guarded(build)
    seen = []

    def use(value: list[int]) -> int:
        seen.append(value[0])
        if len(seen) < 3:
            trigger()
        return value[0]

    assert guard.use(use) == 3
    assert seen == [1, 2, 3], "no value that was overtaken is used again"


@pytest.mark.v6_only
def test_a_use_that_is_overtaken_each_time_is_given_up(build: Counted, trigger: Trigger) -> None:
    guard = sysgenid.Guarded(build)
    seen = []

    def use(value: list[int]) -> None:
        seen.append(value[0])
        trigger()

    with pytest.raises(sysgenid.UnsettledError):
        guard.use(use)
    assert seen == [1, 2, 3, 4]
    assert guard.get() == [5]


@pytest.mark.v6_only
def test_a_build_that_fails_leaves_no_old_value(trigger: Trigger) -> None:
    outcomes = iter(["old", None, "new"])

    def build() -> str:
        outcome = next(outcomes)
        if outcome is None:
            raise ZeroDivisionError
        return outcome

    guard = sysgenid.Guarded(build)
    assert guard.get() == "old"
    trigger()
    with pytest.raises(ZeroDivisionError):
        guard.get()
    assert repr(guard) == "<sysgenid.Guarded, empty>"
    assert guard.get() == "new"


def test_what_a_use_raises_comes_through(build: Counted) -> None:
    guard = sysgenid.Guarded(build)
    with pytest.raises(IndexError):
        guard.use(lambda value: value[1])
    assert guard.get() == [1], "the value is as it was"


def test_a_build_that_uses_its_guard_is_an_error() -> None:
    guard: sysgenid.Guarded[int] = sysgenid.Guarded(lambda: guard.get() + 1)
    with pytest.raises(sysgenid.ReentrantError):
        guard.get()
    with pytest.raises(sysgenid.ReentrantError):
        guard.use(lambda value: value)


def test_a_use_may_use_the_guard(build: Counted) -> None:
    guard = sysgenid.Guarded(build)
    assert guard.use(lambda outer: guard.use(lambda inner: inner is outer))


def test_a_guard_is_not_pickled_or_made_of_nothing(build: Counted) -> None:
    with pytest.raises(TypeError, match="other process"):
        pickle.dumps(sysgenid.Guarded(build))
    with pytest.raises(TypeError, match="build"):
        sysgenid.Guarded("not a function")  # type: ignore[arg-type]

    async def slow() -> None:
        pass

    with pytest.raises(TypeError, match="build"):
        sysgenid.Guarded(slow)


def test_forget(build: Counted) -> None:
    guard = sysgenid.Guarded(build)
    assert guard.get() == [1]
    guard.forget()
    assert guard.get() == [2]


def test_it_is_built_anew_once_a_restore_is_assumed(build: Counted) -> None:
    guard = sysgenid.Guarded(build)
    before = sysgenid.uniqueness()
    generation = sysgenid.generation()
    assert guard.get() == guard.use(lambda value: value) == [1]
    sysgenid.assume_restored()
    assert guard.get() == guard.use(lambda value: value) == [2]
    assert not before.is_current()
    assert sysgenid.generation() == generation, "no source has shown it"


# Threads


@pytest.mark.v6_only
def test_of_many_threads_one_builds(build: Counted, trigger: Trigger) -> None:
    guard = sysgenid.Guarded(build)
    together = threading.Barrier(8)
    seen: list[int] = []
    build.meanwhile = lambda: time.sleep(0.002)

    def use() -> None:
        for _ in range(20):
            if threading.current_thread() is threads[0]:
                trigger()
            together.wait(patient(10))
            seen.append(guard.get()[0])
            together.wait(patient(10))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patient(30))
    rounds = [seen[at : at + 8] for at in range(0, len(seen), 8)]
    assert len(rounds) == 20
    assert [set(numbers) for numbers in rounds] == [{number} for number in range(1, 21)]


def test_after_a_build_that_failed_the_next_thread_builds() -> None:
    at_work, go_on = threading.Event(), threading.Event()

    def build() -> str:
        if not at_work.is_set():
            at_work.set()
            go_on.wait(patient(10))
            raise ValueError
        return "built"

    guard = sysgenid.Guarded(build)
    outcomes: list[str] = []

    def fail() -> None:
        with pytest.raises(ValueError):  # noqa: PT011
            guard.get()
        outcomes.append("failed")

    first = threading.Thread(target=fail)
    first.start()
    assert at_work.wait(patient(10))
    second = threading.Thread(target=lambda: outcomes.append(guard.get()))
    second.start()
    second.join(0.05)
    assert second.is_alive(), "it waits for the first"
    go_on.set()
    for thread in (first, second):
        thread.join(patient(10))
    assert sorted(outcomes) == ["built", "failed"]


# Forks


def test_a_child_builds_its_own(build: Counted) -> None:
    guard = sysgenid.Guarded(build)
    assert guard.get() == [1]
    assert in_child(guard.get) == [2]
    assert in_child(lambda: in_child(guard.get)) == [2]
    assert guard.get() == [1], "the parent's is as it was"


def test_a_child_does_not_wait_for_a_thread_of_its_parent(build: Counted) -> None:
    guard = sysgenid.Guarded(build)
    at_work, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        if threading.current_thread() is thread:
            at_work.set()
            go_on.wait(patient(20))

    build.meanwhile = wait
    thread = threading.Thread(target=guard.get)
    thread.start()
    assert at_work.wait(patient(10))
    assert in_child(guard.get) == [2]
    go_on.set()
    thread.join(patient(10))


def test_a_fork_in_a_build_leaves_the_child_a_guard_that_works(build: Counted) -> None:
    guard = sysgenid.Guarded(build)

    children = []

    def fork() -> None:
        build.meanwhile = lambda: None
        children.append(in_child(guard.get))

    build.meanwhile = fork
    assert guard.get() == [1]
    assert children == [[2]], "the child does not wait for the build that it is in the middle of"


# Wiping


@pytest.mark.v6_only
def test_an_old_value_is_wiped(trigger: Trigger) -> None:
    wiped: list[bytes] = []

    def wipe(key: bytearray) -> None:
        wiped.append(bytes(key))
        key[:] = bytes(len(key))

    numbers = count(1)
    wiped_before: list[int] = []

    def build() -> bytearray:
        wiped_before.append(len(wiped))
        return bytearray([next(numbers)])

    guard = sysgenid.Guarded(build, wipe=wipe)
    assert guard.use(bytes) == b"\1"
    trigger()
    assert wiped == []
    assert guard.use(bytes) == b"\2"
    assert wiped == [b"\1"]
    assert wiped_before == [0, 1], "before another is built"
    guard.forget()
    assert wiped == [b"\1", b"\2"]
    guard.use(bytes)
    del guard
    gc.collect()
    assert wiped == [b"\1", b"\2", b"\3"]


@pytest.mark.v6_only
def test_a_value_in_use_is_not_wiped(trigger: Trigger) -> None:
    numbers = count(1)
    guard = sysgenid.Guarded(lambda: bytearray([next(numbers)]), wipe=bytearray.clear)
    in_use, go_on = threading.Event(), threading.Event()
    seen: list[bytes] = []

    def use(key: bytearray) -> bytes:
        if not in_use.is_set():
            in_use.set()
            assert go_on.wait(patient(10))
        seen.append(bytes(key))
        return bytes(key)

    results: list[bytes] = []
    thread = threading.Thread(target=lambda: results.append(guard.use(use)))
    thread.start()
    assert in_use.wait(patient(10))
    trigger()
    assert guard.use(bytes) == b"\2"
    go_on.set()
    thread.join(patient(10))
    assert seen == [b"\1", b"\2"], "whole while it was used, and thrown away after that"
    assert results == [b"\2"]


@pytest.mark.v6_only
def test_a_value_that_a_change_overtook_is_wiped(trigger: Trigger) -> None:
    wiped: list[int] = []
    numbers = count(1)

    def build() -> list[int]:
        number = next(numbers)
        if number == 1:
            trigger()
        return [number]

    guard = sysgenid.Guarded(build, wipe=lambda value: wiped.extend(value))
    assert guard.use(list) == [2]
    assert wiped == [1]


@pytest.mark.v6_only
def test_a_value_whose_use_was_overtaken_is_wiped_before_another_is_built(trigger: Trigger) -> None:
    wiped: list[int] = []
    numbers = count(1)
    guard = sysgenid.Guarded(
        lambda: [next(numbers), *wiped], wipe=lambda value: wiped.append(value[0])
    )
    assert guard.use(lambda value: [*value, trigger() if value[0] == 1 else 0]) == [2, 1, 0]


def test_a_guard_that_wipes_hands_nothing_out(build: Counted) -> None:
    guard = sysgenid.Guarded(build, wipe=list.clear)
    with pytest.raises(TypeError, match="use"):
        guard.get()
    assert guard.use(len) == 1


# What the process does not see by itself


@pytest.mark.broker_only
def test_a_change_that_only_a_watcher_sees_is_told_by_the_hooks(build: Counted) -> None:
    guard = sysgenid.Guarded(build)
    assert guard.get() == [1]
    sysgenid.run_after_restore(sysgenid.generation())
    assert guard.get() == [1], "the process sees that one"
    sysgenid.run_after_restore(sysgenid.generation() + 1)
    assert guard.get() == [2]


# The garbage collector


def test_a_guard_in_a_circle_with_its_value_is_collected() -> None:
    holder: list[object] = []
    guard = sysgenid.Guarded(lambda: (holder[0],))
    holder.append(guard)
    guard.get()
    gone = weakref.ref(guard)
    holder.clear()
    del guard
    gc.collect()
    assert gone() is None


def test_a_value_in_a_circle_is_wiped() -> None:
    wiped: list[int] = []

    class Secret:
        guard: object = None

    def make() -> None:
        guard = sysgenid.Guarded(Secret, wipe=lambda secret: wiped.append(1))
        guard.use(lambda secret: setattr(secret, "guard", guard))

    make()
    gc.collect()
    assert wiped == [1]


def test_a_block_uses_the_value_and_looks_again() -> None:
    wiped: list[bytes] = []

    def wipe(value: bytearray) -> None:
        wiped.append(bytes(value))
        value.clear()

    key = sysgenid.Guarded(lambda: bytearray(sysgenid.entropy(4)), wipe=wipe)
    with key.use() as secret:
        assert len(secret) == 4
        key.forget()
        assert len(secret) == 4, "it is not wiped while it is used"
        assert wiped == []
    assert len(wiped) == 1
    with key.use() as secret:
        first = bytes(secret)
    with pytest.raises(sysgenid.UnsettledError, match="drop"), key.use():
        sysgenid.assume_restored()
    with key.use() as secret:
        assert bytes(secret) != first
    # The block's own exception comes through.
    with pytest.raises(ZeroDivisionError), key.use():
        raise ZeroDivisionError
    used = key.use()
    with used, pytest.raises(RuntimeError, match="each block"), used:
        pass
