# SPDX-License-Identifier: Apache-2.0 OR MIT
"""An orchestrator: from a change until everybody has acknowledged it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest
import support
import sysgenid


def test_it_waits_until_all_have_acknowledged(
    orchestrator: sysgenid.Orchestrator, source: str
) -> None:
    with sysgenid.Watcher(source) as first, sysgenid.Watcher(source) as second:
        generation = orchestrator.trigger()
        assert orchestrator.ack() == generation
        for watcher in (first, second):
            with pytest.raises(sysgenid.TimedOutError):
                orchestrator.wait_for_watchers(0.01)
            watcher.ack(generation)
        # Without waiting: it looks.
        orchestrator.wait_for_watchers(0)


def test_it_is_told_when_the_last_acknowledges(
    orchestrator: sysgenid.Orchestrator, source: str
) -> None:
    with sysgenid.Watcher(source) as watcher:
        generation = orchestrator.trigger()
        orchestrator.ack()
        timer = threading.Timer(0.05, watcher.ack, [generation])
        timer.start()
        orchestrator.wait_for_watchers(support.patient(10))
        timer.join()


def test_a_watcher_that_closes_is_not_waited_for(
    orchestrator: sysgenid.Orchestrator, source: str
) -> None:
    watcher = sysgenid.Watcher(source)
    orchestrator.trigger()
    orchestrator.ack()
    timer = threading.Timer(0.05, watcher.close)
    timer.start()
    orchestrator.wait_for_watchers(support.patient(10))
    timer.join()


def test_who_is_outdated_does_not_wait(orchestrator: sysgenid.Orchestrator) -> None:
    generation = orchestrator.trigger()
    assert orchestrator.try_changed() == generation
    with pytest.raises(sysgenid.OutdatedError) as caught:
        orchestrator.wait_for_watchers(1)
    assert caught.value.errno
    assert orchestrator.ack() == generation
    assert orchestrator.try_changed() is None


def test_settle_does_all_of_it(orchestrator: sysgenid.Orchestrator, source: str) -> None:
    with sysgenid.Watcher(source) as watcher:
        rebuilt: list[int] = []
        generation = orchestrator.trigger()
        thread = threading.Thread(target=lambda: watcher.handle(rebuilt.append, support.patient(5)))
        thread.start()
        assert orchestrator.settle(rebuilt.append, support.patient(10)) == generation
        thread.join()
        assert rebuilt == [generation, generation]
        # Nothing has changed since: nothing is rebuilt.
        assert orchestrator.settle(rebuilt.append, support.patient(5)) == generation
        assert len(rebuilt) == 2


def test_settle_starts_over(orchestrator: sysgenid.Orchestrator) -> None:
    rebuilt: list[int] = []

    def rebuild(generation: int) -> None:
        rebuilt.append(generation)
        if len(rebuilt) < 3:
            orchestrator.trigger()

    orchestrator.trigger()
    settled = orchestrator.settle(rebuild, support.patient(10))
    assert len(rebuilt) == 3
    assert settled == rebuilt[-1] == orchestrator.generation


def test_settle_raises_what_its_callback_raises(orchestrator: sysgenid.Orchestrator) -> None:
    generation = orchestrator.trigger()
    with pytest.raises(ZeroDivisionError):
        orchestrator.settle(lambda generation: 1 // 0, 0)
    assert orchestrator.try_changed() == generation


@pytest.mark.v6_only
def test_stragglers_are_named(orchestrator: sysgenid.Orchestrator, source: str) -> None:
    with sysgenid.Watcher(source) as watcher:
        before = watcher.generation
        generation = orchestrator.trigger()
        (straggler,) = orchestrator.stragglers()
        assert straggler.pid == os.getpid()
        assert straggler.acknowledged == before
        assert straggler.command
        assert f"pid {os.getpid()}" in str(straggler)
        assert str(straggler) in repr(straggler)
        watcher.ack(generation)
        assert orchestrator.stragglers() == []


@pytest.mark.v6_only
def test_status_counts_watchers(source: str, orchestrator: sysgenid.Orchestrator) -> None:
    before = sysgenid.status(source)
    assert before.watchers is not None
    with sysgenid.Watcher(source):
        orchestrator.trigger()
        status = sysgenid.status(source)
        assert status.watchers is not None
        assert status.watchers.total == before.watchers.total + 1
        assert status.watchers.tracked == before.watchers.tracked + 1
        assert status.watchers.outdated == before.watchers.outdated + 1
        assert status.generation == orchestrator.generation
        assert (status.kind, status.path) == (orchestrator.kind, orchestrator.path)


USES: dict[str, Callable[[sysgenid.Orchestrator], object]] = {
    "trigger": lambda orchestrator: orchestrator.trigger(),
    "ack": lambda orchestrator: orchestrator.ack(),
    "wait": lambda orchestrator: orchestrator.wait(0),
    "wait_for_watchers": lambda orchestrator: orchestrator.wait_for_watchers(0),
    "settle": lambda orchestrator: orchestrator.settle(print, 0),
    "stragglers": lambda orchestrator: orchestrator.stragglers(),
    "try_changed": lambda orchestrator: orchestrator.try_changed(),
    "generation": lambda orchestrator: orchestrator.generation,
    "fileno": lambda orchestrator: orchestrator.fileno(),
    "reconnect": lambda orchestrator: orchestrator.reconnect(),
    "reopen": lambda orchestrator: orchestrator.reopen(),
    "with": lambda orchestrator: orchestrator.__enter__(),
}


@pytest.mark.parametrize("use", USES)
def test_a_closed_orchestrator(use: str, source: str) -> None:
    orchestrator = sysgenid.Orchestrator(source)
    orchestrator.close()
    orchestrator.close()
    assert orchestrator.closed
    with pytest.raises(ValueError, match="closed"):
        USES[use](orchestrator)


def test_it_is_lost_with_its_broker(broker: support.Broker) -> None:
    with (
        sysgenid.Watcher(broker.source) as watcher,
        sysgenid.Orchestrator(broker.source) as orchestrator,
    ):
        orchestrator.trigger()
        orchestrator.ack()
        timer = threading.Timer(0.05, broker.kill)
        timer.start()
        with pytest.raises(sysgenid.LostError):
            orchestrator.wait_for_watchers(support.patient(10))
        timer.join()
        with pytest.raises(sysgenid.LostError):
            orchestrator.trigger()
        broker.start()
        orchestrator.reconnect()
        watcher.reconnect()
        generation = orchestrator.trigger()
        watcher.handle(lambda generation: None, support.patient(5))
        assert orchestrator.settle(lambda generation: None, support.patient(5)) == generation
