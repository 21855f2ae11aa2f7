# SPDX-License-Identifier: Apache-2.0 OR MIT
"""numpy's generators behind `protect`, however they were made, and what interrupts their calls.

Not collected where there is no numpy.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import forking
import numpy as np
import pytest
import support
import sysgenid
from sysgenid import _seeds
from sysgenid import random as safe

pytestmark = pytest.mark.v6_only

#: The classes as they are before anything is protected.
BEFORE = {name: getattr(np.random, name) for name in np.random.__all__}

BIT_GENERATORS = ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"]


@pytest.fixture(autouse=True)
def _unprotected_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_seeds, "_has_warned", False)
    yield
    safe.unprotect()


def control(seed: int = 42, name: str = "PCG64") -> Any:
    return BEFORE["Generator"](BEFORE[name](seed))


class Sequence(list[int]):
    """A list that something happens to while numpy shuffles it."""

    def __init__(self, size: int, happens: Callable[[], object], times: int = 1) -> None:
        super().__init__(range(size))
        self._happens, self._times = happens, times
        self.moved = 0

    def __setitem__(self, index: Any, item: Any) -> None:
        super().__setitem__(index, item)
        self.moved += 1
        # Half-way through.
        if self.moved == len(self) and self._times:
            self._times -= 1
            self.moved = 0
            self._happens()


class Simulation(np.random.Generator):
    """A generator of a program's own, which is not made of a bit generator."""

    made = 0

    def __init__(self, name: str, seed: int) -> None:
        super().__init__(BEFORE["PCG64"](seed))
        self.name = name
        Simulation.made += 1


def test_a_constructor_of_the_programs_is_not_called(trigger: support.Trigger) -> None:
    simulation = Simulation("weather", 42)
    made = Simulation.made
    safe.protect(seeded="renew")
    assert (Simulation.made, simulation.name) == (made, "weather")
    trigger()
    assert simulation.random() != control().random()


@pytest.mark.parametrize("name", BIT_GENERATORS)
@pytest.mark.parametrize("is_made_before", [True, False])
def test_generators_are_covered_whenever_they_were_made(
    name: str, is_made_before: bool, trigger: support.Trigger
) -> None:
    def make() -> Any:
        return np.random.Generator(getattr(np.random, name)(42))

    rng = make() if is_made_before else None
    safe.protect(seeded="renew")
    rng = rng or make()
    assert rng.random() == control(name=name).random()
    trigger()
    plain = control(name=name)
    plain.random()
    assert rng.random() != plain.random()


def test_names_stand_for_numpys_own() -> None:
    before = np.random.default_rng(1)
    safe.protect(seeded="renew")
    assert isinstance(before, np.random.Generator)
    assert isinstance(before.bit_generator, np.random.PCG64)
    assert isinstance(np.random.default_rng(1), BEFORE["Generator"])
    assert issubclass(BEFORE["Generator"], np.random.Generator)

    class Own(np.random.Generator):
        pass

    assert not isinstance(before, Own)
    assert not isinstance(np.random.default_rng(1), Own)
    assert isinstance(Own(np.random.PCG64(1)), Own)
    assert np.random.default_rng(before) is before
    bits = np.random.PCG64(7)
    assert np.random.default_rng(bits).bit_generator is bits
    assert np.random.default_rng([1, 2]).random() == BEFORE["default_rng"]([1, 2]).random()
    assert np.random.Generator.random.__doc__ == BEFORE["Generator"].random.__doc__
    assert pickle.loads(pickle.dumps(np.random.rand))() >= 0


SHUFFLES: dict[str, Callable[[], Callable[[Any], Any]]] = {
    "of default_rng": lambda: np.random.default_rng(42).shuffle,
    "made by hand": lambda: np.random.Generator(np.random.PCG64(42)).shuffle,
    "what it has spawned": lambda: np.random.default_rng(42).spawn(1)[0].shuffle,
    "of the module": lambda: np.random.shuffle,
}


@pytest.mark.parametrize("shuffle", SHUFFLES.values(), ids=SHUFFLES.keys())
def test_a_call_that_a_change_overtakes_is_made_again(
    shuffle: Callable[[], Callable[[Any], Any]], trigger: support.Trigger
) -> None:
    safe.protect(seeded="renew")
    size = 50
    items = Sequence(size, trigger)
    shuffle()(items)
    # Two moves for each place but the last: from the start, after the change.
    assert items.moved >= 2 * (size - 1)
    assert sorted(items) == list(range(size))


def test_a_call_without_a_change_is_made_once() -> None:
    safe.protect(seeded="renew")
    items = Sequence(50, lambda: None)
    np.random.default_rng(42).shuffle(items)
    assert items.moved < 2 * 49, "it was counted from the middle"


def test_a_seed_that_another_thread_sets_is_no_change() -> None:
    safe.protect(seeded="renew")
    items = Sequence(50, lambda: None)
    rng = np.random.default_rng(1)
    plain = control(1)
    items._happens = lambda: rng.bit_generator.__setstate__(plain.bit_generator.__getstate__())  # type: ignore[attr-defined]
    rng.shuffle(items)
    assert items.moved < 2 * 49


def test_a_call_that_changes_overtake_each_time_fails(trigger: support.Trigger) -> None:
    safe.protect(seeded="renew")
    items = Sequence(50, trigger, times=1000)
    with pytest.raises(sysgenid.UnsettledError, match="try again"):
        np.random.default_rng(42).shuffle(items)


def test_a_renewal_names_the_generator(trigger: support.Trigger) -> None:
    safe.protect()
    before = safe.coverage().renewed
    fresh = np.random.default_rng()
    fresh.spawn(2)[1].random()
    rng = np.random.default_rng(42)
    trigger()
    fresh.random()
    fresh.spawn(1)[0].random()
    assert safe.coverage().renewed == before, "nobody has chosen those"
    with pytest.warns(safe.SeedRenewedWarning, match=r"^numpy\.random\.default_rng\(42\) was"):
        rng.random()
    np.random.seed(42)
    trigger()
    np.random.rand()
    rng.random()
    assert safe.coverage().renewed == before + 2


def test_keep_goes_on_with_the_numbers_of_the_seed(trigger: support.Trigger) -> None:
    safe.protect(seeded="keep")
    rng, plain = np.random.default_rng(42), control()
    np.random.seed(42)
    module = BEFORE["RandomState"](42)
    fresh, copied = np.random.default_rng(), control()
    copied.bit_generator.state = fresh.bit_generator.state
    for _ in range(2):
        assert rng.random() == plain.random()
        assert np.random.randn() == module.randn()
        trigger()
        assert rng.spawn(1)[0].random() == plain.spawn(1)[0].random()
        trigger()
        assert np.random.randn() == module.randn(), "the other one of the pair"
    items = Sequence(20, trigger)
    rng.shuffle(items)
    other = list(range(20))
    plain.shuffle(other)
    assert items == other, "it is not drawn again"
    assert fresh.random() != copied.random()


def first(rng: Any) -> float:
    return float(rng.random())


def first_after_a_change(rng: Any) -> float:
    sysgenid.assume_restored()
    return first(rng)


def put_first(rng: Any, queue: Any) -> None:
    queue.put(first(rng))


@pytest.mark.parametrize("seeded", ["renew", "keep"])
def test_children_that_are_forked_with_generators(seeded: Any) -> None:
    """As documented: a fork is a change, and `keep` gives each child the numbers of its seed."""
    safe.protect(seeded=seeded)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    rngs, plain = np.random.default_rng(42).spawn(2), control().spawn(2)
    processes = [context.Process(target=put_first, args=(rng, queue)) for rng in rngs]
    with forking.warned_of_threads() as check:
        for process in processes:
            process.start()
    check()
    drawn = {queue.get(timeout=support.patient(20)) for _ in rngs}
    for process in processes:
        process.join(support.patient(20))
        assert process.exitcode == 0
    numbers = {first(rng) for rng in plain}
    assert len(drawn) == 2
    assert (drawn == numbers) is (seeded == "keep")
    assert {first(rng) for rng in rngs} == numbers, "nothing has changed here"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_generators_that_are_sent_are_used_as_they_are(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As documented: what is pickled is a state that is set again. Until something changes."""
    monkeypatch.setenv("SYSGENID_PROTECT", "1")
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(__file__))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    safe.protect(seeded="renew")
    rngs, numbers = np.random.default_rng(42).spawn(3), [first(it) for it in control().spawn(3)]
    with forking.warned_of_threads(), multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map_async(first, rngs).get(support.patient(60)) == numbers
        if method == "fork":
            # Those of spawn are protected where the package is installed: see test_at_start.
            later = pool.map_async(first_after_a_change, rngs).get(support.patient(60))
            assert not set(later) & set(numbers)
        pool.close()
        pool.join()
