# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`protect`: what is behind the functions of `random`, also for those who imported them before."""

from __future__ import annotations

import multiprocessing.synchronize
import pickle
import random as stdlib
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from random import choice, gauss, getrandbits, getstate, seed, setstate
from random import random as imported_random
from types import SimpleNamespace
from typing import Any

import forking
import pytest
import support
import sysgenid
from sysgenid import _protect, _seeds
from sysgenid import random as safe
from test_documentation import run
from test_random import DRAWS, draws

pytestmark = pytest.mark.v6_only

FUNCTIONS = {name: getattr(stdlib, name) for name in stdlib.__all__}


@pytest.fixture(autouse=True)
def _protected() -> Iterator[None]:
    safe.protect(seeded="renew")
    yield
    safe.unprotect()
    assert {name: getattr(stdlib, name) for name in FUNCTIONS} == FUNCTIONS


def clone() -> stdlib.Random:
    """The hidden generator as it is in a clone that nothing protects."""
    clone = stdlib.Random()
    clone.setstate(stdlib.getstate())
    return clone


@draws
def test_a_seed_is_good_until_a_change(
    draw: Callable[[Any], object], trigger: support.Trigger
) -> None:
    control = stdlib.Random(42)
    stdlib.seed(42)
    assert [draw(stdlib) for _ in range(3)] == [draw(control) for _ in range(3)]
    trigger()
    assert draw(stdlib) != draw(control)


@draws
def test_forked_children_draw_their_own_numbers(draw: Callable[[Any], object]) -> None:
    stdlib.seed(42)
    children = [support.in_child(lambda: draw(stdlib)) for _ in range(2)]
    assert children[0] != children[1]
    assert draw(stdlib) == draw(stdlib.Random(42)), "nothing changed for the parent"


@pytest.mark.parametrize("name", ["choice", "gauss"])
def test_functions_that_were_imported_before_are_protected(
    name: str, trigger: support.Trigger
) -> None:
    draw, imported, control = DRAWS[name], SimpleNamespace(choice=choice, gauss=gauss), clone()
    assert draw(imported) == draw(control)
    trigger()
    assert draw(imported) != draw(control)


def test_seeding_functions_that_were_imported_before_are_known_of(
    trigger: support.Trigger,
) -> None:
    trigger()
    seed(42)
    control = stdlib.Random(42)
    assert stdlib.random() == control.random()
    stdlib.gauss(0, 1)
    state = getstate()
    kept = stdlib.gauss(0, 1)
    trigger()
    assert getstate() != state
    setstate(state)
    assert stdlib.gauss(0, 1) == kept
    control.gauss(0, 1)
    assert stdlib.random() == control.random()


def test_imported_random_does_not_look_but_draws_from_the_same_state(
    trigger: support.Trigger,
) -> None:
    """What the documentation says is not covered."""
    control = clone()
    assert imported_random() == control.random()
    trigger()
    assert imported_random() == control.random()
    assert getrandbits(64) == control.getrandbits(64)
    stdlib.choice("abc")
    control.choice("abc")
    assert imported_random() != control.random()
    assert getrandbits(64) != control.getrandbits(64)


def test_random_is_a_function_that_can_be_copied() -> None:
    drawn = pickle.loads(pickle.dumps([stdlib.random, stdlib.choice]))
    assert 0 <= drawn[0]() < 1
    assert drawn[1]("abc") in "abc"


def test_temporary_names_are_not_the_clones(trigger: support.Trigger) -> None:
    several: list[Any] = [
        tempfile._get_candidate_names(),  # type: ignore[attr-defined]
        multiprocessing.synchronize.SemLock._rand,  # type: ignore[attr-defined]
    ]
    for names in several:
        control = stdlib.Random()
        control.setstate(names.rng.getstate())
        assert next(names) == "".join(control.choices(names.characters, k=8))
        trigger()
        assert next(names) != "".join(control.choices(names.characters, k=8))


def test_protecting_again_changes_nothing() -> None:
    stdlib.seed(42)
    stdlib.gauss(0, 1)
    state, function = stdlib.getstate(), stdlib.random
    safe.protect(seeded="renew")
    assert stdlib.getstate() == state
    assert stdlib.random is function


def test_the_state_outlives_protection() -> None:
    control = stdlib.Random(42)
    stdlib.seed(42)
    # Each second call of gauss takes the number that the one before has kept.
    for protected in (True, False, False, True):
        (safe.protect if protected else safe.unprotect)()
        assert stdlib.gauss(0, 1) == control.gauss(0, 1)
        assert stdlib.random() == control.random()


def test_a_seed_that_was_set_between_two_protections_is_used(trigger: support.Trigger) -> None:
    safe.unprotect()
    trigger()
    stdlib.seed(42)
    safe.protect(seeded="renew")
    assert stdlib.random() == stdlib.Random(42).random()


def test_protecting_again_ends_what_a_fork_has_cut_short() -> None:
    """The child of a fork in the middle of another thread's call."""
    stdlib.random, stdlib.getrandbits = FUNCTIONS["random"], FUNCTIONS["getrandbits"]
    safe.protect(seeded="renew")
    assert stdlib.random not in FUNCTIONS.values()
    assert stdlib.getrandbits not in FUNCTIONS.values()


def test_a_child_of_a_thread_that_protects_does_not_wait_for_it() -> None:
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with _protect._lock:
            held.set()
            go_on.wait(support.patient(20))

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(support.patient(10))
    try:
        # Also in a handler that comes before all of this package's.
        assert "random" in forking.in_child(lambda: safe.protect(seeded="renew").covered)
    finally:
        go_on.set()
        thread.join(support.patient(10))


def test_unprotecting_leaves_alone_what_others_have_replaced() -> None:
    stdlib.random = replacement = lambda: 0.5
    safe.unprotect()
    assert stdlib.random is replacement
    stdlib.random = FUNCTIONS["random"]


def test_threads_draw_while_protection_comes_and_goes() -> None:
    done = threading.Event()
    failures: list[Exception] = []

    def draw_on() -> None:
        try:
            while not done.is_set():
                for draw in DRAWS.values():
                    draw(stdlib)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=draw_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(40):
        safe.unprotect()
        safe.protect(seeded="renew")
    done.set()
    for thread in threads:
        thread.join(support.patient(10))
        assert not thread.is_alive()
    assert not failures


def test_a_watcher_has_imported_random_draw_from_a_new_state(trigger: support.Trigger) -> None:
    control = clone()
    sysgenid.run_after_restore(trigger())
    assert imported_random() != control.random()


def test_an_assumed_restore_reaches_the_functions_of_random() -> None:
    stdlib.seed(42)
    sysgenid.assume_restored()
    assert stdlib.random() != stdlib.Random(42).random()


def test_coverage_tells_what_is_covered(source: str) -> None:
    coverage = safe.protect(seeded="renew")
    assert coverage == safe.coverage()
    assert coverage.source is not None
    assert coverage.source.startswith(source)
    assert coverage.problem is None
    assert {"random", "tempfile, multiprocessing", "numpy.random"} <= coverage.covered.keys()
    assert not coverage.covered.keys() & coverage.uncovered.keys()
    report = str(coverage)
    for name in coverage.covered | coverage.uncovered:
        assert f"  {name}: " in report
    safe.unprotect()
    assert "random" not in safe.coverage().covered
    assert "random, tempfile, multiprocessing" in safe.coverage().uncovered


NO_SOURCE = """
import random, warnings, sysgenid
from sysgenid import random as safe  # warns of nothing
before = dict(vars(random))
try:
    safe.protect(seeded="renew")
except sysgenid.AbsentError as error:
    assert error.filename == "/nonexistent", error
else:
    raise SystemExit("it protects from nothing, and does not say so")
assert vars(random) == before
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    coverage = safe.protect(require_source=False)
    for draw in safe.random, safe.Random(42).random, safe.Random().random, random.random:
        assert draw() != draw()
assert [warning.category for warning in caught] == [sysgenid.UnprotectedWarning], caught
assert "verify" in str(caught[0].message)
assert coverage.source is None
assert isinstance(coverage.problem, sysgenid.AbsentError)
assert str(coverage).startswith("Only forks are sure to be seen: ")
for name in "random", "tempfile, multiprocessing", "sysgenid.random", "numpy.random":
    assert "clones draw the same" in coverage.uncovered[name], name
assert [name.split(",")[0] for name in coverage.covered] == ["sysgenid.entropy"]
assert random.random != before["random"]
"""

UNPROTECTED_DRAW = """
import sysgenid
from sysgenid import random
try:
    {draw}
except sysgenid.UnprotectedWarning:
    pass
else:
    raise SystemExit("it did not warn")
assert 0 < random.random() < 1, "it warns once"
{draw}
"""


def test_without_a_source_it_refuses_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SYSGENID_SOURCE", "/nonexistent")
    support.run_python(NO_SOURCE)


KILLED = """
import random, warnings, sysgenid
from sysgenid import random as safe
before = dict(vars(random))
assert sysgenid.protection().shows_restores, "its page is there"
for refuse in sysgenid.verify, safe.protect:
    try:
        refuse()
    except sysgenid.LostError as error:
        assert "no broker is running" in str(error), error
    else:
        raise SystemExit(f"{refuse} does not say that no broker changes the page")
assert vars(random) == before
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    coverage = safe.protect(require_source=False)
assert [warning.category for warning in caught] == [sysgenid.UnprotectedWarning], caught
assert coverage.source is None and isinstance(coverage.problem, sysgenid.LostError)
assert "Restores are seen" not in str(coverage), coverage
assert [name.split(",")[0] for name in coverage.covered] == ["sysgenid.entropy"], coverage
"""


@pytest.mark.broker_only
def test_the_page_of_a_broker_that_was_killed_does_not_count(
    broker: support.Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYSGENID_SOURCE", broker.source)
    broker.kill()
    support.run_python(KILLED)


@pytest.mark.parametrize(
    "draw", ["random.random()", "random.randint(1, 6)", "random.seed(42)", "random.Random()"]
)
def test_a_seeded_generator_warns_where_no_source_shows_restores(
    draw: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYSGENID_SOURCE", "/nonexistent")
    support.run_python(UNPROTECTED_DRAW.format(draw=draw))


@pytest.mark.broker_only
def test_the_examples_in_the_book(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[2] / "docs/src/python-random.md"
    # A warning is an error here, and readers see it once.
    monkeypatch.setattr(_seeds, "_has_warned", True)
    run(page.name, re.sub("^```.*$", "", page.read_text(), flags=re.MULTILINE))
