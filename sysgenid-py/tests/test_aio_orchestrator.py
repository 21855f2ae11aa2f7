# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Orchestrators in an event loop."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import textwrap
import threading
import time
from datetime import timedelta

import pytest
import sysgenid
import telling
from loops import FACTORIES, Factory, run
from support import Broker, eventually, patient
from sysgenid import _tasks, aio


@pytest.fixture(params=FACTORIES)
def loop(request: pytest.FixtureRequest) -> Factory:
    return FACTORIES[request.param]


def helpers() -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("sysgenid-")]


@pytest.fixture(autouse=True)
def _no_helper_is_left() -> object:
    yield
    eventually(lambda: not helpers(), f"the end of {helpers()}")


def test_it_triggers_waits_and_settles(loop: Factory, source: str) -> None:
    async def main() -> None:
        async with await aio.Orchestrator.open() as orchestrator, aio.Watcher() as service:
            before = orchestrator.generation
            generation = await orchestrator.trigger()
            assert generation == before + 1 == (await orchestrator.changed()).generation
            with pytest.raises(sysgenid.OutdatedError):
                await orchestrator.wait_for_watchers(10.0)
            orchestrator.acknowledge(generation)
            with pytest.raises(sysgenid.StaleError):
                orchestrator.acknowledge(before)
            with pytest.raises(sysgenid.TimedOutError) as late:
                await orchestrator.wait_for_watchers(0.05)
            assert late.value.filename == source == orchestrator.path
            stragglers = await orchestrator.stragglers()
            assert len(stragglers) == 1
            waiting = asyncio.ensure_future(orchestrator.wait_for_watchers(None))
            telling.acknowledge(service)
            await waiting
            assert await orchestrator.trigger(generation + 10) == generation + 10

    run(loop, main())


def test_settle_rebuilds_acknowledges_and_waits(loop: Factory) -> None:
    async def main() -> None:
        async with aio.Orchestrator() as orchestrator, aio.Watcher() as service:
            seen: list[int] = []

            @sysgenid.after_restore
            async def rebuild(change: sysgenid.Change) -> None:
                seen.append(change.generation)
                if len(seen) == 1:
                    await orchestrator.trigger()

            handling = asyncio.ensure_future(serve(service))
            first = await orchestrator.trigger()
            settled = await orchestrator.settle(timedelta(seconds=20))
            assert settled.generation == first + 1
            # A driver of the v5 dialect tracks every open file.
            assert settled.watchers is None or settled.watchers >= 1
            assert seen == [first, first + 1]
            assert service.try_changed() is None
            again = await orchestrator.settle(20.0)
            assert again.generation == settled.generation, "there is nothing to do"
            assert seen == [first, first + 1]
            handling.cancel()
            rebuild.remove()

    async def serve(service: aio.Watcher) -> None:
        async for change in service:
            change.acknowledge()

    run(loop, main())


def test_settle_starts_over_when_the_generation_moves_while_it_waits(loop: Factory) -> None:
    async def main() -> None:
        async with aio.Orchestrator() as orchestrator, aio.Watcher() as service:
            seen: list[int] = []

            rebuild = sysgenid.after_restore(lambda change: seen.append(change.generation))
            first = await orchestrator.trigger()
            settling = asyncio.ensure_future(orchestrator.settle(20.0))
            while not seen:
                await asyncio.sleep(0.01)
            second = await orchestrator.trigger()
            while len(seen) < 2:
                await asyncio.sleep(0.01)
            telling.acknowledge(service)
            assert (await settling).generation == second
            assert seen == [first, second]
            rebuild.remove()

    run(loop, main())


def test_a_settling_that_ends_early_acknowledges_nothing(loop: Factory) -> None:
    async def main() -> None:
        async with aio.Orchestrator() as orchestrator:
            fail = sysgenid.after_restore(lambda: 1 // 0)
            generation = await orchestrator.trigger()
            with pytest.raises(sysgenid.HookError):
                await orchestrator.settle(20.0)
            assert telling.told(orchestrator) == generation
            fail.remove()

            @sysgenid.after_restore
            async def hang() -> None:
                hanging.set()
                await released.wait()

            hanging, released = asyncio.Event(), asyncio.Event()
            settling = asyncio.ensure_future(orchestrator.settle(20.0))
            await hanging.wait()
            settling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await settling
            assert telling.told(orchestrator) == generation
            released.set()
            assert (await orchestrator.settle(20.0)).generation == generation
            hang.remove()

    run(loop, main())


def test_settle_has_a_deadline_also_if_the_generation_never_rests(loop: Factory) -> None:
    async def main() -> None:
        async with aio.Orchestrator() as orchestrator:

            @sysgenid.after_restore
            async def move() -> None:
                await orchestrator.trigger()

            await orchestrator.trigger()
            with pytest.raises(sysgenid.TimedOutError):
                await orchestrator.settle(0.2)
            move.remove()

    run(loop, main())


def test_who_is_cancelled_leaves_the_others_waiting(loop: Factory) -> None:
    async def main() -> None:
        async with aio.Orchestrator() as orchestrator, aio.Watcher() as service:
            await orchestrator.trigger()
            telling.acknowledge(orchestrator)
            waits = [
                asyncio.ensure_future(orchestrator.wait_for_watchers(timeout))
                for timeout in (None, None, 0.1, 20.0)
            ]
            await asyncio.sleep(0.01)
            waits.pop(0).cancel()
            with pytest.raises(sysgenid.TimedOutError):
                await waits.pop(1)
            assert not any(wait.done() for wait in waits)
            assert helpers() == ["sysgenid-wait"], "one for all"
            telling.acknowledge(service)
            await asyncio.gather(*waits)

    run(loop, main())


def test_a_wait_that_is_cancelled_ends_its_helper_soon(loop: Factory) -> None:
    async def main() -> None:
        async with aio.Orchestrator() as orchestrator, aio.Watcher():
            await orchestrator.trigger()
            telling.acknowledge(orchestrator)
            waiting = asyncio.ensure_future(orchestrator.wait_for_watchers(None))
            await asyncio.sleep(0.01)
            assert helpers()
            waiting.cancel()
            await asyncio.wait([waiting])
            eventually(lambda: not helpers(), "the end of the helper", timeout=1)
            with pytest.raises(sysgenid.TimedOutError):
                await orchestrator.wait_for_watchers(0.01)

    run(loop, main())


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_a_loop_that_ends_takes_its_helper_along(loop: Factory, is_cancelled: bool) -> None:
    orchestrator = sysgenid.Orchestrator()
    with sysgenid.Watcher():
        orchestrator.trigger()
        telling.acknowledge(orchestrator)
        abandoned = loop()
        waiter = aio.Orchestrator.of(orchestrator)
        waiting = abandoned.create_task(waiter.wait_for_watchers(None))
        abandoned.run_until_complete(asyncio.sleep(0.05))
        assert helpers()
        if is_cancelled:
            waiting.cancel()
            abandoned.run_until_complete(asyncio.wait([waiting]))
        abandoned.close()
        eventually(lambda: not helpers(), "the end of the helper")
        waiter.close()
        assert orchestrator.closed


@pytest.mark.parametrize("end", ["", "loop.close()"])
def test_a_wait_that_is_left_behind_does_not_keep_the_interpreter(end: str) -> None:
    script = f"""
        import asyncio, sysgenid
        from sysgenid import aio
        loop = asyncio.new_event_loop()
        service, orchestrator = sysgenid.Watcher(), aio.Orchestrator()
        loop.run_until_complete(orchestrator.trigger())
        orchestrator.try_changed().acknowledge()
        waiting = loop.create_task(orchestrator.wait_for_watchers(None))
        loop.run_until_complete(asyncio.sleep(0.1))
        assert not waiting.done()
        {end}
    """
    program = [sys.executable, "-c", textwrap.dedent(script)]
    assert subprocess.run(program, stderr=subprocess.DEVNULL, timeout=patient(20)).returncode == 0


def test_a_lost_broker_ends_the_waits(loop: Factory, broker: Broker) -> None:
    async def main() -> None:
        async with aio.Orchestrator(broker.source) as orchestrator, aio.Watcher(broker.source):
            await orchestrator.trigger()
            telling.acknowledge(orchestrator)
            waiting = asyncio.ensure_future(orchestrator.wait_for_watchers(None))
            await asyncio.sleep(0.05)
            broker.kill()
            with pytest.raises(sysgenid.LostError):
                await waiting
            for call in (orchestrator.trigger(), orchestrator.stragglers(), orchestrator.changed()):
                with pytest.raises(sysgenid.LostError):
                    await call
            broker.start()
            await orchestrator.reconnect(patient(10))
            assert await orchestrator.trigger() == orchestrator.generation

    run(loop, main())


def test_fewer_watchers_than_required(loop: Factory, broker: Broker) -> None:
    async def main() -> None:
        opening = aio.Orchestrator.open(broker.source, require_watchers=1)
        async with await opening as orchestrator:
            for timeout in (0, 0.3):  # in one slice, and in several
                begun = time.monotonic()
                with pytest.raises(sysgenid.MissingError):
                    await orchestrator.wait_for_watchers(timeout)
                assert time.monotonic() - begun >= timeout
            with pytest.raises(sysgenid.MissingError):
                await orchestrator.settle(0.05)
            waiting = asyncio.ensure_future(orchestrator.settle(20.0))
            await asyncio.sleep(0.3)
            assert not waiting.done()
            async with aio.Watcher(broker.source):
                settled = await waiting
            assert (settled.generation, settled.watchers) == (0, 1)

    run(loop, main())


def test_timeouts_are_those_of_the_package(loop: Factory) -> None:
    async def main() -> None:
        async with aio.Orchestrator() as orchestrator:
            for wrong in (math.nan, math.inf):
                with pytest.raises(ValueError, match="finite"):
                    await orchestrator.wait_for_watchers(wrong)
            with pytest.raises(TypeError, match="seconds"):
                await orchestrator.wait_for_watchers("soon")  # type: ignore[arg-type]
            for timeout in (1, 1.0, timedelta(seconds=1), None, 0.5):
                await orchestrator.wait_for_watchers(timeout)

    run(loop, main())


class Scripted:
    """An orchestrator whose waits end when the test says so."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)

    def wait_for_watchers(self, timeout: float) -> None:
        self.begun.release()
        assert self.go_on.acquire(timeout=patient(10))


def test_who_comes_late_is_not_told_what_was_true_before(loop: Factory) -> None:
    async def main() -> None:
        scripted = Scripted()
        waits = _tasks.WatcherWait(scripted)  # type: ignore[arg-type]
        first = asyncio.ensure_future(waits.wait(math.inf))
        while not scripted.begun.acquire(blocking=False):
            await asyncio.sleep(0.001)
        late = asyncio.ensure_future(waits.wait(math.inf))
        await asyncio.sleep(0.01)
        scripted.go_on.release()
        await first
        assert scripted.begun.acquire(timeout=patient(10))
        await asyncio.sleep(0.05)
        assert not late.done(), "the answer of the first wait is not about its time"
        scripted.go_on.release()
        await late

    run(loop, main())


def test_a_call_does_not_hold_up_the_loop(loop: Factory) -> None:
    async def main() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        ticking = asyncio.ensure_future(tick())
        await _tasks.in_thread(time.sleep, 0.2)
        assert ticks > 10
        with pytest.raises(KeyError):
            await _tasks.in_thread({}.__getitem__, "mine")
        cancelled = asyncio.ensure_future(_tasks.in_thread(time.sleep, 0.1))
        await asyncio.sleep(0.01)
        cancelled.cancel()
        ticking.cancel()
        await asyncio.wait([cancelled, ticking])

    run(loop, main())
