# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Watchers in an event loop."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import sysgenid
import telling
from forking import in_child
from loops import FACTORIES, Factory, run
from support import Broker, Trigger, patient
from sysgenid import _tasks, aio


@pytest.fixture(params=FACTORIES)
def loop(request: pytest.FixtureRequest) -> Factory:
    return FACTORIES[request.param]


async def turns(number: int = 20) -> None:
    """Lets everybody else get on."""
    for _ in range(number):
        await asyncio.sleep(0.001)


def outdated(source: str) -> int:
    counts = sysgenid.status(source).watchers
    assert counts is not None
    return counts.outdated


def total(source: str) -> int:
    counts = sysgenid.status(source).watchers
    assert counts is not None
    return counts.total


# Waiting


def test_a_change_is_told_until_it_is_acknowledged(loop: Factory, trigger: Trigger) -> None:
    async def main() -> None:
        async with aio.Watcher() as watcher:
            waiting = asyncio.ensure_future(watcher.changed())
            await turns()
            assert not waiting.done()
            assert watcher.try_changed() is None
            generation = trigger()
            assert (await waiting).generation == generation
            assert (await watcher.changed()).generation == generation
            assert watcher.generation == telling.told(watcher) == generation
            telling.acknowledge(watcher)
            waiting = asyncio.ensure_future(watcher.changed())
            await turns()
            assert not waiting.done()
            generation = trigger()
            assert (await waiting).generation == generation
            telling.acknowledge(watcher)

    run(loop, main())


def test_one_that_is_outdated_before_it_waits_is_told(loop: Factory, trigger: Trigger) -> None:
    async def main() -> None:
        async with await aio.Watcher.open() as watcher:
            generation = trigger()
            assert (await watcher.changed()).generation == generation
            telling.acknowledge(watcher)

    run(loop, main())


def test_many_changes(loop: Factory, trigger: Trigger) -> None:
    async def main() -> None:
        async with aio.Watcher() as watcher:
            for _ in range(200):
                generation = trigger()
                assert (await watcher.changed()).generation == generation
                telling.acknowledge(watcher)

    run(loop, main())


def test_all_who_wait_are_told(loop: Factory, trigger: Trigger) -> None:
    async def main() -> None:
        async with aio.Watcher() as watcher:
            waiting = [asyncio.ensure_future(watcher.changed()) for _ in range(5)]
            await turns()
            waiting.pop(2).cancel()
            generation = trigger()
            told = await asyncio.gather(*waiting)
            assert [change.generation for change in told] == [generation] * 4
            telling.acknowledge(watcher)

    run(loop, main())


def test_nobody_who_waits_is_no_work(
    loop: Factory, trigger: Trigger, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    look = _tasks.Readiness._on_readable

    def counted(self: _tasks.Readiness) -> None:
        nonlocal looks
        looks += 1
        look(self)

    monkeypatch.setattr(_tasks.Readiness, "_on_readable", counted)

    async def main() -> None:
        async with aio.Watcher() as watcher:
            generation = trigger()
            assert (await watcher.changed()).generation == generation
            await turns(100)  # outdated all the while
            assert looks <= 3
            assert (await watcher.changed()).generation == generation
            telling.acknowledge(watcher)

    run(loop, main())


# Cancelling


def test_waits_that_are_cancelled_lose_nothing(loop: Factory, trigger: Trigger) -> None:
    chance = random.Random(6)

    async def main() -> None:
        async with aio.Watcher() as watcher:
            for _ in range(300):
                waiting = asyncio.ensure_future(watcher.changed())
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
                generation = trigger()
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
                waiting.cancel()
                told = (await asyncio.gather(waiting, return_exceptions=True))[0]
                if not isinstance(told, BaseException):
                    assert told.generation in (generation, generation - 1)
                assert (await watcher.changed()).generation == generation
                if chance.random() < 0.7:
                    telling.acknowledge(watcher)
            telling.acknowledge(watcher)
            assert not watcher._readiness._waiting, "who was cancelled is forgotten"

    run(loop, main())


def test_a_timeout_is_the_callers(loop: Factory) -> None:
    async def main() -> None:
        async with aio.Watcher() as watcher:
            for _ in range(3):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(watcher.changed(), 0.01)
            assert not watcher._readiness._waiting

    run(loop, main())


# Iteration


def test_iteration_tells_of_each_change(loop: Factory, broker: Broker) -> None:
    async def main() -> None:
        with sysgenid.Orchestrator(broker.source) as orchestrator:
            async with aio.Watcher(broker.source) as watcher:
                orchestrator.trigger()
                seen = []
                async for change in watcher:
                    seen.append(change.generation)
                    if change.generation == 2:
                        orchestrator.trigger()  # before the one at hand is handled
                        assert not change.acknowledge()
                    if change.generation == 1:
                        assert change.acknowledge()
                        asyncio.get_running_loop().call_later(0.05, orchestrator.trigger)
                    if change.generation == 3:
                        break
                assert seen == [1, 2, 3]
                assert telling.told(watcher) == 3, "it is not acknowledged"

    run(loop, main())


def test_a_change_that_is_not_acknowledged_is_told_again_after_a_pause(
    loop: Factory, trigger: Trigger
) -> None:
    async def main() -> None:
        async with aio.Watcher() as watcher:
            generation = trigger()
            times = []
            async for change in watcher.changes():
                assert change.generation == generation
                times.append(time.monotonic())
                if len(times) == 3:
                    assert change.acknowledge()
                    break
            assert times[1] - times[0] >= 0.1
            assert times[2] - times[1] >= 0.2

    run(loop, main())


# Closing


def test_who_waits_is_told_that_it_is_closed(loop: Factory) -> None:
    async def main() -> None:
        watcher = aio.Watcher()
        waiting = asyncio.ensure_future(watcher.changed())
        await turns()
        watcher.close()
        with pytest.raises(ValueError, match="closed"):
            await waiting
        watcher.close()
        assert watcher.closed
        assert repr(watcher) == f"<sysgenid.aio.Watcher of {watcher.path}, closed>"
        for call in (watcher.changed(), watcher.__aenter__()):
            with pytest.raises(ValueError, match="closed"):
                await call

    run(loop, main())


async def use_again(number: int) -> None:
    """Waits for another file with the number of one that is closed."""
    event = os.eventfd(1, os.EFD_CLOEXEC)
    os.dup2(event, number)
    try:
        readable = asyncio.Event()
        asyncio.get_running_loop().add_reader(number, readable.set)
        await asyncio.wait_for(readable.wait(), patient(5))
        asyncio.get_running_loop().remove_reader(number)
    finally:
        for descriptor in {event, number}:
            os.close(descriptor)


def test_a_closed_ones_descriptor_may_be_used_again(loop: Factory) -> None:
    async def main() -> None:
        watcher = aio.Watcher()
        await asyncio.gather(asyncio.wait_for(watcher.changed(), 0.01), return_exceptions=True)
        number = watcher.fileno()
        watcher.close()
        await use_again(number)

    run(loop, main())


def test_one_that_is_dropped_is_closed_with_a_warning(loop: Factory, broker: Broker) -> None:
    async def main() -> None:
        watcher = aio.Watcher(broker.source)
        await asyncio.gather(asyncio.wait_for(watcher.changed(), 0.01), return_exceptions=True)
        number = watcher.fileno()
        with pytest.warns(ResourceWarning, match="unclosed"):  # noqa: PT031
            del watcher
            await turns()
            gc.collect()
        while total(broker.source):
            await asyncio.sleep(0.001)
        await use_again(number)

    run(loop, main())


def test_one_loop_at_a_time(loop: Factory, trigger: Trigger) -> None:
    watcher = aio.Watcher()
    one, other = loop(), loop()
    try:
        generation = trigger()
        assert one.run_until_complete(watcher.changed()).generation == generation
        with pytest.raises(RuntimeError, match="another event loop"):
            other.run_until_complete(watcher.changed())
        one.close()
        assert other.run_until_complete(watcher.changed()).generation == generation
        other.close()
        watcher.close()
    finally:
        one.close()
        other.close()


def test_it_is_no_childs(loop: Factory, trigger: Trigger) -> None:
    async def ask(watcher: aio.Watcher) -> str:
        with pytest.raises(sysgenid.ForkedError):
            await watcher.changed()
        with pytest.raises(sysgenid.ForkedError):
            watcher.try_changed()
        return "refused"

    watcher = aio.Watcher()
    assert in_child(lambda: run(loop, ask(watcher))) == "refused"
    used = aio.Watcher()
    generation = trigger()
    assert run(loop, used.changed()).generation == generation
    assert in_child(lambda: run(loop, ask(used))) == "refused"
    for opened in (watcher, used):
        opened.close()


# A broker that ends


def test_a_lost_broker_is_an_error_and_may_come_back(loop: Factory, broker: Broker) -> None:
    async def main() -> None:
        async with aio.Watcher(broker.source) as watcher:
            waiting = [asyncio.ensure_future(watcher.changed()) for _ in range(2)]
            await turns()
            broker.kill()
            for lost in waiting:
                with pytest.raises(sysgenid.LostError):
                    await lost
            with pytest.raises(sysgenid.LostError):
                await watcher.changed()
            with pytest.raises(sysgenid.LostError):
                await watcher.reconnect(0)
            broker.start()
            async with aio.Orchestrator(broker.source) as orchestrator:
                generation = await orchestrator.trigger()
            await watcher.reconnect(patient(10))
            assert (await watcher.changed()).generation == generation, "it was missed, and is told"
            telling.acknowledge(watcher)

    run(loop, main())


def test_an_opening_that_is_cancelled_leaves_nothing_open(loop: Factory, broker: Broker) -> None:
    async def main() -> None:
        for delay in (0, 0, 0.0005, 0.002):
            opening = asyncio.ensure_future(aio.Watcher.open(broker.source))
            await asyncio.sleep(delay)
            opening.cancel()
            opened = (await asyncio.gather(opening, return_exceptions=True))[0]
            if isinstance(opened, aio.Watcher):
                opened.close()
        while any(thread.name == "sysgenid-call" for thread in threading.enumerate()):
            await asyncio.sleep(0.001)
        while total(broker.source):  # the broker notices it in a moment
            await asyncio.sleep(0.001)

    run(loop, main())


@pytest.mark.parametrize("opening", [aio.Watcher.open, aio.Orchestrator.open])
def test_errors_of_opening(loop: Factory, opening: Callable[[str], Any]) -> None:
    async def main() -> None:
        with pytest.raises(sysgenid.AbsentError):
            await opening("/nonexistent/sysgenid")

    run(loop, main(), timeout=patient(10))
