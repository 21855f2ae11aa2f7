# SPDX-License-Identifier: Apache-2.0 OR MIT
"""numpy behind `protect`. Not collected where there is no numpy."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import forking
import numpy as np
import pytest
import support
from numpy.random import PCG64, Generator, RandomState, default_rng
from sysgenid import random as safe

pytestmark = pytest.mark.v6_only

#: What numpy's generators have in common, old and new.
DRAWS: dict[str, Callable[[Any], Any]] = {
    "random": lambda rng: rng.random(),
    "random array": lambda rng: rng.random(9),
    "bytes": lambda rng: rng.bytes(16),
    "choice": lambda rng: rng.choice(10**9, 4),
    "permutation": lambda rng: rng.permutation(30),
    "shuffle": lambda rng: shuffled(rng),
    "standard_normal": lambda rng: rng.standard_normal(),
    "normal": lambda rng: rng.normal(size=3),
    "standard_exponential": lambda rng: rng.standard_exponential(),
    "gamma": lambda rng: rng.gamma(2, 3),
    "binomial": lambda rng: rng.binomial(10**9, 0.5, 4),
    "poisson": lambda rng: rng.poisson(10**6, 4),
    "multinomial": lambda rng: rng.multinomial(10**9, [0.2, 0.3, 0.5]),
    "multivariate_normal": lambda rng: rng.multivariate_normal([0, 0], [[1, 0], [0, 1]]),
    "dirichlet": lambda rng: rng.dirichlet([1, 2, 3]),
    "zipf": lambda rng: rng.zipf(1.1, 20),
}
MODERN: dict[str, Callable[[Any], Any]] = {
    **DRAWS,
    "integers": lambda rng: rng.integers(2**60),
    "integers of 32 bits": lambda rng: rng.integers(2**31, size=3, dtype=np.uint32),
    "float32": lambda rng: rng.random(4, dtype=np.float32),
    "permuted": lambda rng: rng.permuted(np.arange(30)),
    "multivariate_hypergeometric": lambda rng: rng.multivariate_hypergeometric([10**6] * 3, 10**5),
    "raw": lambda rng: rng.bit_generator.random_raw(2),
    "spawned": lambda rng: rng.spawn(1)[0].random(),
    "spawned by its seeds": lambda rng: default_rng(
        rng.bit_generator.seed_seq.spawn(1)[0]
    ).random(),
    "jumped": lambda rng: Generator(rng.bit_generator.jumped()).random(),
}
OLD: dict[str, Callable[[Any], Any]] = {
    **DRAWS,
    "rand": lambda rng: rng.rand(2, 2),
    "randint": lambda rng: rng.randint(2**60),
    "randn": lambda rng: rng.randn(),
    "random_sample": lambda rng: rng.random_sample(3),
}
NAMES = {name: getattr(np.random, name) for name in np.random.__all__}
modern = pytest.mark.parametrize("draw", MODERN.values(), ids=MODERN.keys())
old = pytest.mark.parametrize("draw", OLD.values(), ids=OLD.keys())


def shuffled(rng: Any) -> list[int]:
    items = list(range(30))
    rng.shuffle(items)
    return items


def same(a: Any, b: Any) -> bool:
    return bool(np.all(np.asarray(a) == np.asarray(b)))


def unguarded(seed: int) -> Generator:
    return Generator(PCG64(seed))


@pytest.fixture(autouse=True)
def _protected() -> Iterator[None]:
    safe.protect(seeded="renew")
    yield
    safe.unprotect()
    assert type(np.random.default_rng().bit_generator) is PCG64
    assert {name: getattr(np.random, name) for name in NAMES} == NAMES


@old
def test_a_seed_of_the_module_is_good_until_a_change(
    draw: Callable[[Any], Any], trigger: support.Trigger
) -> None:
    np.random.seed(42)
    control = RandomState(42)
    for _ in range(3):
        assert same(draw(np.random), draw(control))
    trigger()
    assert not same(draw(np.random), draw(control))


@modern
def test_a_seed_of_a_generator_is_good_until_a_change(
    draw: Callable[[Any], Any], trigger: support.Trigger
) -> None:
    ours, control = default_rng(42), unguarded(42)
    for _ in range(3):
        assert same(draw(ours), draw(control))
    trigger()
    assert not same(draw(ours), draw(control))


@modern
def test_forked_children_draw_their_own_numbers(draw: Callable[[Any], Any]) -> None:
    ours, control = default_rng(42), unguarded(42)
    one, other = (support.in_child(lambda: draw(ours)) for _ in range(2))
    assert not same(one, other)
    assert same(draw(ours), draw(control)), "nothing changed for the parent"


def test_number_kept_for_the_next_call_is_forgotten(trigger: support.Trigger) -> None:
    np.random.seed(42)
    control = RandomState(42)
    assert np.random.randn() == control.randn()
    trigger()
    assert np.random.randn() != control.randn()


def test_a_seed_or_state_that_is_set_after_a_change_is_used(trigger: support.Trigger) -> None:
    control = RandomState(42)
    control.randn()
    state = control.get_state()
    trigger()
    np.random.seed(42)
    assert np.random.rand() == RandomState(42).rand()
    trigger()
    np.random.set_state(state)
    assert [np.random.randn() for _ in range(2)] == [control.randn() for _ in range(2)]
    rng = default_rng()
    trigger()
    rng.bit_generator.state = unguarded(42).bit_generator.state
    assert rng.random() == unguarded(42).random()


def test_a_state_of_before_a_change_is_never_returned(trigger: support.Trigger) -> None:
    np.random.seed(42)
    rng = default_rng(42)
    trigger()
    assert not same(np.random.get_state()[1], RandomState(42).get_state()[1])  # type: ignore[index]
    assert rng.bit_generator.state != unguarded(42).bit_generator.state


def test_a_module_is_seeded_by_all_that_seeds_it() -> None:
    for seed in (0, [1, 2, 3], np.arange(5)):
        np.random.seed(seed)
        assert np.random.rand() == RandomState(seed).rand()
    np.random.seed(None)
    np.random.seed()


def test_generators_of_before_are_found(trigger: support.Trigger) -> None:
    safe.unprotect()
    rng = default_rng(42)
    shared, sharing = default_rng(7), Generator(PCG64(0))
    sharing.__init__(shared.bit_generator)  # type: ignore[misc]
    by_hand = RandomState(1)
    control = copy.deepcopy(rng)
    safe.protect(seeded="renew")
    assert rng.random() == control.random()
    assert rng.spawn(1)[0].random() == control.spawn(1)[0].random()
    assert shared.bit_generator is sharing.bit_generator
    trigger()
    assert rng.random() != control.random()
    assert by_hand.rand() == RandomState(1).rand(), "as the documentation says"


def test_what_is_derived_from_a_generator_is_guarded(trigger: support.Trigger) -> None:
    for derived in (
        lambda rng: rng.spawn(1)[0],
        copy.deepcopy,
        copy.copy,
        lambda rng: Generator(rng.bit_generator.jumped()),
    ):
        one, other = derived(default_rng(42)), derived(default_rng(42))
        assert one.random() == other.random()
        trigger()
        assert one.random() != other.random()


def test_a_pickled_generator_is_numpys_own(trigger: support.Trigger) -> None:
    rng = default_rng(42)
    stored = pickle.dumps(rng)
    assert b"sysgenid" not in stored
    copied = pickle.loads(stored)
    assert copied.random() == rng.random()
    safe.unprotect()
    assert type(pickle.loads(stored).bit_generator) is PCG64
    assert "PCG64" in repr(rng)
    assert isinstance(rng.bit_generator, PCG64)


def test_unprotecting_leaves_the_states(trigger: support.Trigger) -> None:
    np.random.seed(42)
    control = RandomState(42)
    for protected in (False, True, False, True):
        (safe.protect if protected else safe.unprotect)()
        assert np.random.randn() == control.randn()


def test_an_unprotected_module_draws_what_clones_draw(trigger: support.Trigger) -> None:
    np.random.seed(42)
    control = RandomState(42)
    safe.unprotect()
    trigger()
    assert np.random.rand() == control.rand()
    safe.protect(seeded="renew")
    assert np.random.rand() == control.rand()
    trigger()
    assert np.random.rand() != control.rand()


def test_a_bit_generator_ends_without_the_garbage_collector() -> None:
    gc.disable()
    try:
        rng = default_rng()
        gone: Any = weakref.ref(rng.bit_generator)
        rng.random()
        del rng
        assert gone() is None
    finally:
        gc.enable()


def test_the_lock_is_one_for_others_too() -> None:
    lock: Any = default_rng().bit_generator.lock
    with lock:
        taken = threading.Thread(target=lambda: results.append(lock.acquire(False)))
        results: list[bool] = []
        taken.start()
        taken.join()
        assert results == [False]
    assert lock.acquire(timeout=1)
    lock.release()


def test_threads_draw_while_everything_changes(trigger: support.Trigger) -> None:
    done = threading.Event()
    rng = default_rng()
    failures: list[object] = []

    def draw_on() -> None:
        try:
            while not done.is_set():
                drawn = rng.random(5000)
                np.random.seed(42)
                np.random.rand(5000)
                if not 0.4 < drawn.mean() < 0.6:
                    failures.append(drawn)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=draw_on) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        trigger()
        time.sleep(0.001)
    done.set()
    for thread in threads:
        thread.join(support.patient(10))
        assert not thread.is_alive()
    assert not failures


def test_threads_draw_while_protection_comes_and_goes() -> None:
    done = threading.Event()
    failures: list[object] = []
    safe.unprotect()
    rngs = [default_rng() for _ in range(20)]

    def draw_on() -> None:
        try:
            while not done.is_set():
                for rng in rngs:
                    drawn = rng.random(2000), np.random.random(2000)
                    if not all(0.4 < numbers.mean() < 0.6 for numbers in drawn):
                        failures.append(drawn)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=draw_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        safe.protect(seeded="renew")
        safe.unprotect()
    rngs[:] = [default_rng() for _ in range(20)]
    for _ in range(20):
        safe.protect(seeded="renew")
        safe.unprotect()
    done.set()
    for thread in threads:
        thread.join(support.patient(10))
        assert not thread.is_alive()
    assert not failures


#: numpy keeps no bit generator for who draws from it, and two who draw at once break its state.
REPLACED_UNDER_ITS_LOCK = """
import threading
import numpy as np
from sysgenid import random as safe

def is_held_up(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(0.2)
    threads.append(thread)
    return thread.is_alive()

threads = []
for make in (lambda: np.random.mtrand._rand), np.random.default_rng:
    rng = make()
    bit_generator, draw = rng._bit_generator, rng.standard_normal
    with bit_generator.lock:
        assert is_held_up(lambda: safe.protect(require_source=False)), "nothing is replaced"
        assert rng._bit_generator is bit_generator, "it is replaced"
    threads.pop().join()
    with bit_generator.lock:
        assert is_held_up(draw), "it is another lock"
    threads.pop().join()
    safe.unprotect()
"""


def test_a_bit_generator_is_replaced_while_nobody_draws() -> None:
    support.run_python(REPLACED_UNDER_ITS_LOCK)


@pytest.mark.broker_only
def test_without_entropy_nothing_is_drawn() -> None:
    rng = default_rng(42)

    def draw_without_entropy() -> str:
        support.forbid("getrandom")
        with pytest.raises(OSError, match="random"):
            rng.random()
        lock = PCG64.lock.__get__(rng.bit_generator)  # type: ignore[attr-defined]
        free: list[bool] = []
        thread = threading.Thread(target=lambda: free.append(lock.acquire(False)))
        thread.start()
        thread.join()
        assert free == [True]
        return "told"

    assert support.in_child(draw_without_entropy) == "told"


IMPORTED_LATER = """
import sys
from sysgenid import random as safe
assert "numpy" not in sys.modules
finders = list(sys.meta_path)
covered = safe.protect(require_source=False).covered["numpy.random"]
assert "not imported yet" in covered, covered
safe.protect(require_source=False)
# That of tempfile is the other one.
assert len(sys.meta_path) == len(finders) + 2
import numpy
numpy.random.rand()
import tempfile
assert sys.meta_path == finders
assert type(numpy.random.__loader__) is type(numpy.__loader__) is type(numpy.random.__spec__.loader)
assert "not imported" not in safe.coverage().covered["numpy.random"]
guarded = type(numpy.random.default_rng().bit_generator)
assert guarded is numpy.random.PCG64
safe.unprotect()
assert guarded is not numpy.random.PCG64
assert type(numpy.random.default_rng().bit_generator) is numpy.random.PCG64
"""


def test_numpy_may_be_imported_later() -> None:
    support.run_python(IMPORTED_LATER)


def test_an_import_does_not_fail_for_us() -> None:
    fails = IMPORTED_LATER.partition("import numpy\n")[0] + (
        "import warnings, sysgenid._numpy\n"
        "sysgenid._numpy.cover = lambda: 1 / 0\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    import numpy.random\n"
        "told = str(caught[0].message)\n"
        "assert 'numpy.random is not protected: division by zero' in told, caught\n"
        "numpy.random.rand()\n"
    )
    support.run_python(fails)


def test_nothing_is_imported_that_nobody_uses() -> None:
    support.run_python(
        "import sys, sysgenid.random\n"
        "sysgenid.random.protect(require_source=False)\n"
        "assert not any(name.partition('.')[0] == 'numpy' for name in sys.modules)\n"
    )
    assert "numpy" in sys.modules


@pytest.mark.parametrize("is_legacy", [False, True])
def test_a_child_does_not_wait_for_a_thread_of_its_parent_that_draws(is_legacy: bool) -> None:
    ours: Any = np.random.mtrand._rand if is_legacy else default_rng()  # type: ignore[attr-defined,unused-ignore]
    lock = ours._bit_generator.lock
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            go_on.wait(support.patient(20))

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(support.patient(10))
    try:
        assert 0 <= forking.in_child(lambda: float(ours.random())) < 1
    finally:
        go_on.set()
        thread.join(support.patient(10))


def test_a_fork_by_the_thread_that_holds_the_lock_leaves_it_held() -> None:
    ours = default_rng()

    def draw() -> float:
        return float(ours.random())

    with ours.bit_generator.lock:
        # The child is this thread, and holds it as well.
        assert 0 <= forking.in_child(draw) < 1
    assert 0 <= draw() < 1
