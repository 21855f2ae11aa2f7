# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What is returned can be shown, compared, kept in sets, and sent to other processes or not."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable, Iterator

import pytest
import sysgenid
import telling
from sysgenid import aio

COUNTS = sysgenid.WatcherCounts(3, 2, 1)

#: Each with another that is different.
PLAIN = [
    (COUNTS, sysgenid.WatcherCounts(3, 2, 0)),
    (
        sysgenid.Status("broker", "/a", 7, COUNTS, None, None),
        sysgenid.Status("broker", "/a", 7, None, None, None),
    ),
    (sysgenid.Settled(7, 2), sysgenid.Settled(7, None)),
]


@pytest.mark.parametrize(("value", "other"), PLAIN)
def test_plain_values_are_compared_kept_shown_and_sent(value: object, other: object) -> None:
    for sent in pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value):
        assert sent == value
        assert hash(sent) == hash(value)
        assert type(sent) is type(value)
    assert value != other
    assert {value, other, copy.copy(value)} == {value, other}
    assert eval(repr(value)) == value


def test_a_status_is_equal_to_that_of_the_same_moment(source: str) -> None:
    status = sysgenid.status(source)
    assert status == sysgenid.status(source)
    assert pickle.loads(pickle.dumps(status)) == status
    assert eval(repr(status)) == status


def test_a_protection_is_compared_and_kept() -> None:
    protection = sysgenid.protection()
    assert {protection, sysgenid.protection()} == {protection}
    # A driver of the v5 dialect is none for a process.
    assert all(path in repr(protection) for _, path in protection.sources)


def test_a_uniqueness_is_the_key_of_a_dictionary() -> None:
    before = sysgenid.uniqueness()
    results = {before: "old"}
    assert results[sysgenid.uniqueness()] == "old"
    sysgenid.assume_restored()
    assert sysgenid.uniqueness() not in results
    assert repr(before) == f"<sysgenid.Uniqueness, generation {before.generation}>"


def test_stragglers_are_compared_and_kept(orchestrator: sysgenid.Orchestrator, source: str) -> None:
    with sysgenid.Watcher(source) as watcher:
        orchestrator.trigger()
        [straggler] = orchestrator.stragglers()
        [again] = orchestrator.stragglers()
        assert straggler == again
        assert {straggler, again} == {straggler}
        assert str(straggler.acknowledged) in repr(straggler)
        for refused in pickle.dumps, copy.copy, copy.deepcopy:
            with pytest.raises(TypeError, match="attributes"):
                refused(straggler)
        telling.acknowledge(watcher)
        telling.acknowledge(orchestrator)


#: What is a process's own, or a thread's.
OWN: dict[str, Callable[[], object]] = {
    "Uniqueness": sysgenid.uniqueness,
    "Protection": sysgenid.protection,
    "Probe": sysgenid.Probe,
    "Watcher": sysgenid.Watcher,
    "Orchestrator": sysgenid.Orchestrator,
    "aio.Watcher": aio.Watcher,
    "aio.Orchestrator": aio.Orchestrator,
    "Guarded": lambda: sysgenid.Guarded(list),
}


#: A probe alone is none on a driver of the v5 dialect.
MADE = [pytest.param(name, marks=[pytest.mark.v6_only] * (name == "Probe")) for name in OWN]


@pytest.fixture(params=MADE)
def own(request: pytest.FixtureRequest) -> Iterator[object]:
    made = OWN[request.param]()
    yield made
    if hasattr(made, "close"):
        made.close()


def test_what_is_a_process_s_own_says_that_it_cannot_be_sent(own: object) -> None:
    for refused in pickle.dumps, copy.copy, copy.deepcopy:
        with pytest.raises(TypeError, match="cannot be pickled"):
            refused(own)


def test_a_copy_of_a_watcher_does_not_close_it() -> None:
    watcher = aio.Watcher()
    with pytest.raises(TypeError):
        copy.copy(watcher)
    gc.collect()
    assert not watcher.closed
    watcher.close()


def test_a_cached_function_is_its_own_copy() -> None:
    @sysgenid.cached
    def once() -> None: ...

    assert copy.copy(once) is copy.deepcopy(once) is once
