# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Changes in an event loop: handled, or iterated over, through restarts of the broker."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator

import pytest
import sysgenid
from loops import FACTORIES, Factory, run
from support import Broker, patient
from sysgenid import aio


@pytest.fixture(params=FACTORIES)
def loop(request: pytest.FixtureRequest) -> Factory:
    return FACTORIES[request.param]


@pytest.fixture(autouse=True)
def _source(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found is the broker of the test."""
    monkeypatch.setenv("SYSGENID_SOURCE", broker.source)


def counts(broker: Broker) -> sysgenid.WatcherCounts:
    counts = sysgenid.status(broker.source).watchers
    assert counts is not None
    return counts


async def until(condition: object, what: str) -> None:
    deadline = asyncio.get_running_loop().time() + patient(20)
    while not condition():  # type: ignore[operator]
        assert asyncio.get_running_loop().time() < deadline, what
        await asyncio.sleep(0.005)


def test_watch_goes_on_through_restarts_of_the_broker(loop: Factory, broker: Broker) -> None:
    seen: list[int] = []

    async def follow() -> None:
        async for change in aio.watch():
            seen.append(change.generation)
            assert change.acknowledge()

    async def main() -> None:
        following = asyncio.create_task(follow())
        for number in (1, 2, 3):
            await until(lambda: counts(broker).tracked == 1, "it watches")
            assert sysgenid.trigger(broker.source) == number
            await until(lambda: len(seen) == sysgenid.status().generation, "it is told")
            await until(lambda: counts(broker).outdated == 0, "it is acknowledged")
            broker.kill()
            await asyncio.sleep(0.02)
            broker.start()
        # One that it missed is told, too.
        broker.kill()
        broker.start()
        sysgenid.trigger(broker.source)
        await until(lambda: seen[-1:] == [4], "what was missed")
        following.cancel()
        await asyncio.wait([following])

    run(loop, main(), timeout=patient(60))
    assert seen == [1, 2, 3, 4]


def test_a_loop_that_raises_leaves_a_straggler(loop: Factory, broker: Broker) -> None:
    async def rebuild(changes: AsyncGenerator[sysgenid.Change, None]) -> None:
        async for _ in changes:
            raise ZeroDivisionError

    async def main() -> None:
        with sysgenid.Orchestrator(broker.source) as orchestrator:
            failing = asyncio.create_task(rebuild(aio.watch()))
            await until(lambda: counts(broker).tracked == 1, "it watches")
            generation = orchestrator.trigger()
            with pytest.raises(ZeroDivisionError):
                await failing
            del failing
            await asyncio.sleep(0.05)
            orchestrator.acknowledge(generation)
            with pytest.raises(sysgenid.TimedOutError):
                orchestrator.wait_for_watchers(0.3)
            assert len(orchestrator.stragglers()) == 1

    run(loop, main())


def test_a_loop_that_is_left_without_a_change_is_closed(loop: Factory, broker: Broker) -> None:
    async def main() -> None:
        async with contextlib.aclosing(aio.watch()) as changes:
            asyncio.get_running_loop().call_later(0.1, sysgenid.trigger, broker.source)
            change = await changes.__anext__()
            kept = change
            assert change.acknowledge()
        await until(lambda: counts(broker).total == 0, "it is closed")
        assert kept.acknowledge(), "twice is fine"

        # What is acknowledged after its loop was left closes the watcher then.
        async with contextlib.aclosing(aio.watch()) as changes:
            asyncio.get_running_loop().call_later(0.1, sysgenid.trigger, broker.source)
            change = await changes.__anext__()
        await asyncio.sleep(0.05)
        assert counts(broker).outdated == 1
        assert change.acknowledge()
        await until(lambda: counts(broker).total == 0, "it is closed")

        waiting = asyncio.create_task(aio.watch().__anext__())
        await until(lambda: counts(broker).total == 1, "it watches")
        waiting.cancel()
        await asyncio.wait([waiting])
        await until(lambda: counts(broker).total == 0, "it is closed when it is cancelled")

    run(loop, main())


def test_what_is_handled_is_acknowledged_and_what_fails_is_tried_again(
    loop: Factory, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "sysgenid")
    attempts: list[int] = []
    may_succeed = asyncio.Event()

    async def rebuild(change: sysgenid.Change) -> None:
        attempts.append(change.generation)
        if not may_succeed.is_set():
            raise OSError("no entropy")

    async def main() -> None:
        async with aio.handling(rebuild), aio.Orchestrator(broker.source) as orchestrator:
            assert counts(broker).tracked >= 1, "it watches from the beginning of the block"
            generation = await orchestrator.trigger()
            orchestrator.acknowledge(generation)
            await until(lambda: len(attempts) >= 2, "another attempt")
            with pytest.raises(sysgenid.TimedOutError):
                await orchestrator.wait_for_watchers(0.1)
            # The broker ends meanwhile, and comes back.
            broker.kill()
            broker.start()
            may_succeed.set()
            await orchestrator.reconnect(patient(20))
            await until(lambda: counts(broker).total == 2, "it is there again")
            settled = await orchestrator.wait_for_watchers(patient(20))
            assert settled.generation == generation
        await until(lambda: counts(broker).total == 0, "it is closed")

    run(loop, main(), timeout=patient(60))
    assert set(attempts) == {1}
    assert "rebuild failed; it is tried again" in caplog.records[0].getMessage()


def test_handling_that_ends_unhandled_leaves_a_straggler(loop: Factory, broker: Broker) -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def rebuild() -> None:
            begun.set()
            await asyncio.Event().wait()

        async with aio.handling(rebuild):
            sysgenid.trigger(broker.source)
            await begun.wait()
        await asyncio.sleep(0.05)
        assert counts(broker).outdated == 1

    run(loop, main())


def test_callbacks_are_checked_at_once(loop: Factory) -> None:
    async def two(one: object, another: object) -> None:
        pass

    async def main() -> None:
        for wrong, message in ((print, "coroutine function"), (two, "without arguments")):
            with pytest.raises(TypeError, match=message):
                async with aio.handling(wrong):  # type: ignore[arg-type]
                    pass

    run(loop, main())


def test_a_guarded_value_is_built_asynchronously(loop: Factory) -> None:
    built: list[int] = []

    async def build() -> int:
        built.append(len(built))
        await asyncio.sleep(0.01)
        return built[-1]

    async def main() -> None:
        guard = aio.Guarded(build)
        assert set(await asyncio.gather(*(guard.get() for _ in range(5)))) == {0}
        sysgenid.assume_restored()
        assert await guard.get() == 1
        async with guard.use() as value:
            assert value == 1
        with pytest.raises(sysgenid.UnsettledError):
            async with guard.use():
                sysgenid.assume_restored()
        assert await guard.get() == 2
        guard.forget()
        assert await guard.get() == 3

    run(loop, main())


def test_a_build_that_a_change_overtakes_is_made_again(loop: Factory) -> None:
    built: list[int] = []

    async def build() -> int:
        built.append(1)
        if len(built) < 3:
            sysgenid.assume_restored()
        return len(built)

    async def always() -> None:
        sysgenid.assume_restored()

    async def main() -> None:
        assert await aio.Guarded(build).get() == 3
        with pytest.raises(sysgenid.UnsettledError):
            await aio.Guarded(always).get()

    run(loop, main())
    with pytest.raises(TypeError, match="coroutine function"):
        aio.Guarded(lambda: None)  # type: ignore[arg-type, return-value]
