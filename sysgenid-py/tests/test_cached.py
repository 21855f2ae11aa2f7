# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A cache that a restore or a fork empties."""

from __future__ import annotations

import functools
import gc
import pickle
import threading
import weakref
from collections.abc import Callable
from itertools import count

import pytest
import sysgenid
from forking import in_child
from support import Trigger, patient

calls = count(1)


@sysgenid.cached
def numbered(name: str, *, twice: bool = False) -> str:
    """Says how often it was called."""
    number = next(calls)
    return f"{name}{number}" * (2 if twice else 1)


@pytest.fixture(autouse=True)
def _empty() -> None:
    numbered.cache_clear()


def test_it_is_a_cache() -> None:
    assert numbered("a") == numbered("a")
    assert numbered("a") != numbered("b")
    assert numbered("a", twice=True) != numbered("a", twice=False)
    info = numbered.cache_info()
    assert (info.hits, info.misses, info.currsize, info.maxsize) == (2, 4, 4, None)
    numbered.cache_clear()
    assert numbered.cache_info().currsize == 0


def test_it_looks_like_the_function() -> None:
    assert numbered.__name__ == "numbered"
    assert numbered.__doc__ == "Says how often it was called."
    assert numbered.__wrapped__("a") != numbered.__wrapped__("a")
    assert pickle.loads(pickle.dumps(numbered)) is numbered


def test_it_is_empty_once_a_restore_is_assumed() -> None:
    before = numbered("a")
    sysgenid.assume_restored()
    after = numbered("a")
    assert before != after
    assert numbered("a") == after


def test_arguments_must_be_hashable() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        numbered([])  # type: ignore[arg-type]


def test_options_are_those_of_lru_cache() -> None:
    @sysgenid.cached(maxsize=2, typed=True)
    def twice(number: float) -> float:
        return 2 * number

    assert [twice(number) for number in (1, 1.0, 1, 2, 1)] == [2, 2, 2, 4, 2]
    info = twice.cache_info()
    assert (info.maxsize, info.currsize, info.hits) == (2, 2, 2)
    assert twice.cache_parameters() == {"maxsize": 2, "typed": True}
    with pytest.raises(TypeError, match="named"):
        sysgenid.cached(128)  # type: ignore[call-overload]


def test_what_is_raised_is_not_kept() -> None:
    outcomes = iter([ValueError("first"), None])

    @sysgenid.cached
    def sometimes() -> str:
        failure = next(outcomes)
        if failure is not None:
            raise failure
        return "second"

    with pytest.raises(ValueError, match="first"):
        sometimes()
    assert sometimes() == sometimes() == "second"


def test_coroutines_are_refused() -> None:
    async def slow() -> None:
        pass

    with pytest.raises(TypeError, match="cannot be kept"):
        sysgenid.cached(slow)


def test_methods_and_recursion() -> None:
    class Thing:
        def __init__(self, factor: int) -> None:
            self.factor = factor

        @sysgenid.cached
        def times(self, number: int) -> int:
            return self.factor * number + (self.times(number - 1) if number else 0)

        @staticmethod
        @sysgenid.cached
        def alone(number: int) -> int:
            return -number

    two, three = Thing(2), Thing(3)
    assert (two.times(3), three.times(3), two.times(3)) == (12, 18, 12)
    assert Thing.times.cache_info().hits == 1
    assert Thing.alone(1) == -1


@pytest.mark.v6_only
def test_a_restore_empties_it(trigger: Trigger) -> None:
    before = numbered("a")
    trigger()
    assert numbered.cache_info() == functools.lru_cache(None)(len).cache_info()
    after = numbered("a")
    assert after != before
    assert numbered("a") == after


@pytest.mark.v6_only
def test_a_result_that_a_change_overtakes_is_made_again(trigger: Trigger) -> None:
    made: list[int] = []

    @sysgenid.cached
    def slow() -> int:
        made.append(len(made))
        if len(made) < 3:
            trigger()
        return made[-1]

    assert slow() == 2
    assert slow() == 2
    assert made == [0, 1, 2]


@pytest.mark.v6_only
def test_one_that_is_overtaken_each_time_is_given_up(trigger: Trigger) -> None:
    made: list[int] = []

    @sysgenid.cached
    def never() -> None:
        made.append(trigger())

    with pytest.raises(sysgenid.UnsettledError):
        never()
    assert len(made) == 4


def test_a_child_has_an_empty_one() -> None:
    before = numbered("a")
    assert in_child(lambda: numbered("a")) != before
    assert in_child(lambda: numbered.cache_info().hits) == 0
    assert numbered("a") == before


def test_a_child_does_not_wait_for_a_thread_of_its_parent() -> None:
    at_work, go_on = threading.Event(), threading.Event()

    @sysgenid.cached
    def slow() -> str:
        if threading.current_thread() is thread:
            at_work.set()
            go_on.wait(patient(20))
        return "made"

    thread = threading.Thread(target=slow)
    thread.start()
    assert at_work.wait(patient(10))
    assert in_child(slow) == "made"
    go_on.set()
    thread.join(patient(10))


@pytest.mark.broker_only
def test_a_change_that_only_a_watcher_sees_is_told_by_the_hooks() -> None:
    before = numbered("a")
    sysgenid.run_after_restore(sysgenid.generation() + 1)
    assert numbered("a") != before


def test_one_in_a_circle_is_collected() -> None:
    def make() -> Callable[[], object]:
        @sysgenid.cached
        def again() -> object:
            return again

        again()
        return again

    gone = weakref.ref(make())
    gc.collect()
    assert gone() is None


class Client:
    """It has a value that no clone and no forked child uses again."""

    made = 0

    @sysgenid.cached_property
    def session(self) -> str:
        """One for each object."""
        self.made += 1
        return sysgenid.entropy(8).hex()


def test_a_cached_property_is_computed_again_after_a_change() -> None:
    one, other = Client(), Client()
    before = one.session
    assert one.session == before != other.session
    assert one.made == 1
    sysgenid.assume_restored()
    assert one.session not in (before, other.session)
    assert one.made == 2
    del one.session
    assert one.session
    assert one.made == 3
    with pytest.raises(AttributeError):
        one.session = "mine"
    assert Client.session.__doc__ == "One for each object."
    assert in_child(lambda: one.session) != one.session


def test_a_cached_property_that_does_not_settle() -> None:
    class Restless:
        @sysgenid.cached_property
        def value(self) -> None:
            sysgenid.assume_restored()

        @sysgenid.cached_property
        def later(self) -> object:
            return (number for number in (1, 2))

    with pytest.raises(sysgenid.UnsettledError):
        _ = Restless().value
    with pytest.raises(TypeError, match="yet to run"):
        _ = Restless().later
