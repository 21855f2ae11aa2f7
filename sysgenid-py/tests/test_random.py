# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The generator: the standard library's numbers until something changes, and its own after that."""

from __future__ import annotations

import copy
import gc
import pickle
import random as stdlib
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import support
import sysgenid
import sysgenid.random
from sysgenid._native import GuardedDraws, entropy
from sysgenid.random import Random

pytestmark = pytest.mark.v6_only

LETTERS = "abcdefghijklmnopqrstuvwxyz"

#: Every method that draws, with what tells two states apart.
DRAWS: dict[str, Callable[[Any], object]] = {
    "random": lambda rng: rng.random(),
    "getrandbits": lambda rng: rng.getrandbits(100),
    "randbytes": lambda rng: rng.randbytes(16),
    "randrange": lambda rng: rng.randrange(10**20),
    "randrange with a step": lambda rng: rng.randrange(3, 10**20, 7),
    "randint": lambda rng: rng.randint(-(10**20), 10**20),
    "choice": lambda rng: rng.choice(range(10**15)),
    "choices": lambda rng: rng.choices(LETTERS, k=20),
    "choices by weight": lambda rng: rng.choices(range(99), range(99), k=20),
    "sample": lambda rng: rng.sample(LETTERS, 20),
    "shuffle": lambda rng: shuffled(rng, list(LETTERS)),
    "uniform": lambda rng: rng.uniform(-3, 9),
    "triangular": lambda rng: rng.triangular(-3, 9, 2),
    "betavariate": lambda rng: rng.betavariate(2, 3),
    "expovariate": lambda rng: rng.expovariate(2),
    "gammavariate": lambda rng: rng.gammavariate(2, 3),
    "gauss": lambda rng: rng.gauss(2, 3),
    "lognormvariate": lambda rng: rng.lognormvariate(0, 1),
    "normalvariate": lambda rng: rng.normalvariate(2, 3),
    "vonmisesvariate": lambda rng: rng.vonmisesvariate(0, 4),
    "paretovariate": lambda rng: rng.paretovariate(3),
    "weibullvariate": lambda rng: rng.weibullvariate(1, 3),
}
if sys.version_info >= (3, 12):
    DRAWS["binomialvariate"] = lambda rng: [rng.binomialvariate(10**6, 0.5) for _ in range(5)]

draws = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())


def shuffled(rng: Any, items: list[str]) -> list[str]:
    rng.shuffle(items)
    return items


def clone_of(rng: stdlib.Random) -> stdlib.Random:
    """What a generator is in a clone that nothing protects."""
    clone = stdlib.Random()
    clone.setstate(rng.getstate())
    return clone


@draws
@pytest.mark.parametrize("seed", [42, -1, 2**5000, 1.5, "a seed", b"a seed"])
def test_draws_what_the_standard_library_draws(draw: Callable[[Any], object], seed: Any) -> None:
    ours, theirs = Random(seed), stdlib.Random(seed)
    assert [draw(ours) for _ in range(5)] == [draw(theirs) for _ in range(5)]
    assert ours.getstate() == theirs.getstate()


def test_an_old_version_of_seeding_is_the_same() -> None:
    ours, theirs = Random(), stdlib.Random()
    for rng in ours, theirs:
        rng.seed("a seed", version=1)
    assert ours.random() == theirs.random()
    for rng in ours, theirs:
        rng.seed(bytearray(b"a seed"))
    assert ours.random() == theirs.random()


def test_what_is_no_seed_is_none_here() -> None:
    # Of Python 3.10 a warning.
    with pytest.raises((TypeError, DeprecationWarning)):
        Random([])
    rng, control = Random(1), stdlib.Random(1)
    with pytest.raises((TypeError, DeprecationWarning)):
        rng.seed([])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"bits|negative"):
        rng.getrandbits(-1)
    assert rng.random() == control.random(), "nothing happened to the state"


@draws
def test_draws_something_else_after_a_change(
    draw: Callable[[Any], object], trigger: support.Trigger
) -> None:
    rng = Random(42)
    # An odd number of draws: a number is kept for the next call of gauss.
    draw(rng)
    clone = clone_of(rng)
    assert draw(clone) == draw(clone_of(rng)), "clones draw the same"
    clone = clone_of(rng)
    trigger()
    assert draw(rng) != draw(clone)


@draws
def test_two_clones_draw_different_numbers(
    draw: Callable[[Any], object], trigger: support.Trigger
) -> None:
    state = Random().getstate()
    clones = Random(), Random()
    for clone in clones:
        clone.setstate(state)
    trigger()
    assert draw(clones[0]) != draw(clones[1])


@draws
def test_a_forked_child_draws_its_own_numbers(draw: Callable[[Any], object]) -> None:
    rng, control = Random(42), stdlib.Random(42)
    children = [support.in_child(lambda: (draw(rng), draw(control))) for _ in range(2)]
    assert children[0][1] == children[1][1], "they are copies"
    assert children[0][0] != children[1][0]
    assert draw(rng) == draw(control), "nothing changed for the parent"
    assert children[0][0] != children[0][1] != children[1][0]


def test_number_kept_by_gauss_is_the_standard_librarys() -> None:
    ours, theirs = Random(1), stdlib.Random(1)
    assert ours.gauss(0, 1) == theirs.gauss(0, 1)
    assert ours.gauss_next == theirs.gauss_next is not None  # type: ignore[attr-defined]
    assert ours.gauss(0, 1) == theirs.gauss(0, 1)
    assert ours.gauss_next is None


def test_number_kept_by_gauss_goes_with_its_state(trigger: support.Trigger) -> None:
    rng = Random(1)
    rng.gauss(0, 1)
    state, kept = rng.getstate(), rng.gauss_next
    rng.gauss(0, 1)
    rng.setstate(state)
    assert rng.gauss_next == kept
    trigger()
    rng.random()
    assert rng.gauss_next is None
    rng.gauss(0, 1)
    rng.seed(1)
    assert rng.gauss_next is None


def test_a_state_of_before_a_change_is_never_returned(trigger: support.Trigger) -> None:
    rng = Random(42)
    rng.gauss(0, 1)
    before = rng.getstate()
    trigger()
    after = rng.getstate()
    assert before[1] != after[1]
    assert after[2] is None
    assert stdlib.Random(42).getstate()[1] != pickle.loads(pickle.dumps(rng)).getstate()[1]


def test_a_seed_or_state_that_is_set_after_a_change_is_used(trigger: support.Trigger) -> None:
    rng, control = Random(), stdlib.Random(42)
    trigger()
    rng.seed(42)
    assert rng.random() == control.random()
    trigger()
    rng.setstate(control.getstate())
    assert rng.random() == control.random()


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))]
)
def test_copies_draw_the_same_until_a_change(
    copied: Callable[[Random], Random], trigger: support.Trigger
) -> None:
    rng = Random(42)
    rng.gauss(0, 1)
    other = copied(rng)
    assert type(other) is Random
    assert [rng.gauss(0, 1), rng.random()] == [other.gauss(0, 1), other.random()]
    trigger()
    assert rng.random() != other.random()


def test_a_bound_method_can_be_copied(trigger: support.Trigger) -> None:
    rng = Random(42)
    draw = pickle.loads(pickle.dumps(rng.random))
    assert rng.random() == draw()
    trigger()
    assert rng.random() != draw()


class Shaken:
    """A generator in the place of the one in C, that has things change in the middle of draws."""

    def __init__(self, change: Callable[[], object], changes: int) -> None:
        self.change = change
        self.changes = changes
        self.seeds: list[int] = []
        self.drawn: list[float] = []

    def random(self) -> float:
        if self.changes > 0:
            self.changes -= 1
            self.change()
        self.drawn.append(-1 - len(self.drawn))
        return self.drawn[-1]

    def getrandbits(self, k: int) -> int:
        return int(self.random())

    def seed(self, seed: int) -> None:
        self.seeds.append(seed)


@pytest.mark.parametrize("changes", range(4))
def test_what_is_drawn_across_a_change_is_drawn_again(
    changes: int, trigger: support.Trigger
) -> None:
    core = Shaken(trigger, changes)
    assert GuardedDraws(core).random() == core.drawn[-1]
    assert len(core.drawn) == changes + 1
    assert len(set(core.seeds)) == changes
    assert all(seed.bit_length() > 624 * 32 - 64 for seed in core.seeds)
    core.changes = changes
    assert GuardedDraws(core).getrandbits(5) == core.drawn[-1]


def test_a_seed_that_was_drawn_across_a_change_is_not_used(trigger: support.Trigger) -> None:
    class Seeded(Shaken):
        def seed(self, seed: int) -> None:
            super().seed(seed)
            if len(self.seeds) == 1:
                trigger()

    core = Seeded(trigger, 1)
    assert GuardedDraws(core).random() == core.drawn[-1]
    assert len(core.seeds) == 2


def test_a_draw_ends_though_changes_do_not(trigger: support.Trigger) -> None:
    guarded = GuardedDraws(Shaken(trigger, sys.maxsize))
    drawn = [guarded.random() for _ in range(10)]
    assert all(0 <= number < 1 for number in drawn)
    assert len(set(drawn)) == 10
    assert all(number * 2**53 % 1 == 0 for number in drawn)
    for bits in (0, 1, 7, 8, 9, 64, 1000):
        numbers = [guarded.getrandbits(bits) for _ in range(60)]
        assert all(0 <= number < 2**bits for number in numbers)
        assert max(numbers).bit_length() == bits or bits > 9


def test_an_error_of_the_generator_comes_through(trigger: support.Trigger) -> None:
    class Broken(Shaken):
        def seed(self, seed: int) -> None:
            raise KeyError("seed")

    guarded = GuardedDraws(Broken(trigger, 1))
    for _ in range(2):
        with pytest.raises(KeyError):
            guarded.random()


def test_everything_is_seeded_anew_once_a_restore_is_assumed() -> None:
    rng, control = Random(42), stdlib.Random(42)
    sysgenid.assume_restored()
    assert rng.random() != control.random()
    rng.seed(42)
    assert rng.random() == stdlib.Random(42).random()


def test_a_watcher_tells_of_what_the_process_does_not_see() -> None:
    """As on a driver of the v5 dialect."""
    rng, control = Random(42), stdlib.Random(42)
    sysgenid.run_after_restore(sysgenid.generation())
    assert rng.random() == control.random()
    sysgenid.run_after_restore(sysgenid.generation() + 1)
    assert rng.random() != control.random()


@pytest.mark.broker_only
def test_without_entropy_nothing_is_drawn() -> None:
    rng = Random(42)

    def draw_without_entropy() -> list[str]:
        support.forbid("getrandom")
        told = []
        for draw in (rng.random, rng.random, lambda: rng.getrandbits(8), rng.getstate):
            try:
                draw()
            except sysgenid.EntropyError as error:
                told.append(str(error))
        rng.seed(42)
        assert rng.random() == stdlib.Random(42).random()
        return told

    told = support.in_child(draw_without_entropy)
    assert len(told) == 4
    assert "random" in told[0]


def test_entropy_is_what_it_says() -> None:
    assert entropy(0) == b""
    assert len(entropy(1000)) == 1000
    assert entropy(16) != entropy(16)
    assert bytes(16) not in entropy(10_000)


class Half(Random):
    """With a generator of its own."""

    def random(self) -> float:
        return super().random() / 2


class Bits(Random):
    def getrandbits(self, k: int, /) -> int:
        return super().getrandbits(k) & ~1


def test_a_subclass_may_draw_in_its_own_way(trigger: support.Trigger) -> None:
    rng, control = Half(42), stdlib.Random(42)
    assert rng.random() == control.random() / 2
    assert rng.uniform(0, 1) == control.random() / 2
    assert max(rng.choices(range(100), k=1000)) < 50
    clone = clone_of(rng)
    trigger()
    assert rng.random() != clone.random() / 2
    even = Bits(42)
    assert all(even.randrange(8) % 2 == 0 for _ in range(20))
    assert type(pickle.loads(pickle.dumps(even))) is Bits


def test_threads_draw_while_everything_changes(trigger: support.Trigger) -> None:
    """Each thread compares two generators that would draw the same."""
    done = threading.Event()
    failures: list[object] = []
    shared = Random()

    def compare() -> None:
        one, other = Random(), Random()
        while not done.is_set():
            state = one.getstate()
            one.setstate(state)
            other.setstate(state)
            before = sysgenid.uniqueness()
            a, b = one.getrandbits(64), other.getrandbits(64)
            if a == b and not before.is_current():
                # Both were drawn before the change. What is drawn now is not.
                a, b = one.getrandbits(64), other.getrandbits(64)
                if a == b:
                    failures.append(a)
            if shared.gauss(0, 1) == shared.gauss(0, 1):
                failures.append("shared")

    threads = [threading.Thread(target=compare) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        trigger()
    done.set()
    for thread in threads:
        thread.join(support.patient(10))
        assert not thread.is_alive()
    assert not failures


def test_a_generator_ends_without_the_garbage_collector() -> None:
    gc.disable()
    try:
        rng = Random()
        draw = rng.random
        gone = weakref.ref(rng)
        del rng
        assert gone() is None
        assert draw() != draw(), "the method lives on"
    finally:
        gc.enable()


def test_a_cycle_through_a_generator_is_collected() -> None:
    class Core(stdlib.Random):
        pass

    core = Core()
    core.myself = GuardedDraws(core)  # type: ignore[attr-defined]
    gone = weakref.ref(core)
    del core
    gc.collect()
    assert gone() is None


def test_draws_leave_no_references() -> None:
    rng = Random()
    bits = 10**6
    before = sys.getrefcount(bits), sys.getrefcount(rng), sys.getrefcount(rng._draws)
    for _ in range(1000):
        rng.random()
        rng.getrandbits(bits)
        rng.gauss(0, 1)
    assert (sys.getrefcount(bits), sys.getrefcount(rng), sys.getrefcount(rng._draws)) == before


def test_the_module_stands_in_for_the_standard_librarys() -> None:
    assert set(stdlib.__all__) <= set(sysgenid.random.__all__)
    sysgenid.random.seed(42)
    control = stdlib.Random(42)
    for draw in DRAWS.values():
        assert draw(sysgenid.random) == draw(control)


def test_the_functions_of_the_module_draw_something_else_after_a_change(
    trigger: support.Trigger,
) -> None:
    for draw in DRAWS.values():
        sysgenid.random.seed(42)
        trigger()
        assert draw(sysgenid.random) != draw(stdlib.Random(42))
