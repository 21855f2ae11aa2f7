# SPDX-License-Identifier: Apache-2.0 OR MIT
"""To close something ends the waits with it in other threads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import pytest
import sysgenid
import telling
from forking import in_child
from support import Trigger, patient

Waiting = sysgenid.Watcher | sysgenid.Orchestrator

WAITS: dict[str, tuple[Callable[[str], Waiting], Callable[..., object]]] = {
    "Watcher.wait": (sysgenid.Watcher, lambda it: it.wait(None)),
    "Watcher.wait, with a deadline": (sysgenid.Watcher, lambda it: it.wait(patient(100))),
    "Watcher.wait, without a timeout": (sysgenid.Watcher, lambda it: it.wait()),
    "for generation in watcher": (sysgenid.Watcher, lambda it: next(iter(it))),
    "Orchestrator.wait": (sysgenid.Orchestrator, lambda it: it.wait(None)),
    "Orchestrator.wait_for_watchers": (
        sysgenid.Orchestrator,
        lambda it: it.wait_for_watchers(None),
    ),
    "Orchestrator.settle": (sysgenid.Orchestrator, lambda it: it.settle(None)),
}


@pytest.mark.parametrize("name", WAITS)
def test_close_ends_the_waits_in_other_threads(name: str, source: str, trigger: Trigger) -> None:
    make, wait = WAITS[name]
    with sysgenid.Watcher(source) as straggler, make(source) as closed:
        if isinstance(closed, sysgenid.Orchestrator):
            trigger()
            telling.acknowledge(closed)
        outcomes: list[object] = []
        started = threading.Barrier(4)

        def end() -> None:
            started.wait(patient(10))
            with pytest.raises(ValueError, match="closed"):
                wait(closed)
            outcomes.append(time.monotonic())

        threads = [threading.Thread(target=end, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        started.wait(patient(10))
        time.sleep(0.1)
        begun = time.monotonic()
        closed.close()
        for thread in threads:
            thread.join(patient(10))
        assert len(outcomes) == 3, "they wait still"
        assert time.monotonic() - begun < patient(5)
        telling.acknowledge(straggler)


def test_a_wait_leaves_nothing_open(source: str) -> None:
    with sysgenid.Watcher(source) as watcher:
        before = os.listdir("/proc/self/fd")
        for _ in range(10):
            with pytest.raises(sysgenid.TimedOutError):
                watcher.wait(0.001)
        assert os.listdir("/proc/self/fd") == before


def test_a_child_that_closes_its_copy_ends_no_wait_of_its_parent(
    source: str, trigger: Trigger
) -> None:
    with sysgenid.Watcher(source) as watcher:
        told: list[int] = []
        thread = threading.Thread(target=lambda: told.append(telling.wait(watcher, patient(20))))
        thread.start()
        time.sleep(0.1)
        in_child(watcher.close)
        assert thread.is_alive()
        generation = trigger()
        thread.join(patient(20))
        assert told == [generation]
        telling.acknowledge(watcher)
