# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A broker that is killed and started again, under many watchers."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
import sysgenid
import telling
from loops import FACTORIES, Factory, run
from support import Broker, eventually, patient
from sysgenid import aio

WATCHERS = 20


@pytest.fixture(params=FACTORIES)
def loop(request: pytest.FixtureRequest) -> Factory:
    return FACTORIES[request.param]


def counts(source: str) -> tuple[int, int, int]:
    """How many watchers there are, how many of them tracked, and how many of those outdated."""
    told = sysgenid.status(source, patient(10)).watchers
    assert told is not None
    return told.total, told.tracked, told.outdated


def restart_in_a_moment(broker: Broker) -> None:
    """Gives those who reconnect the time to find nothing."""
    time.sleep(0.2)
    broker.start()


@pytest.mark.parametrize("has_changed", [False, True])
def test_all_watchers_are_back(broker: Broker, has_changed: bool) -> None:
    watchers = [sysgenid.Watcher(broker.source) for _ in range(WATCHERS)]
    broker.kill()
    generation = None
    if has_changed:  # while none of them is connected
        broker.start()
        generation = sysgenid.trigger(broker.source)
        broker.kill()
    failures: list[BaseException] = []

    def come_back(watcher: sysgenid.Watcher) -> None:
        try:
            watcher.reconnect(patient(30))
            if has_changed:
                assert telling.wait(watcher, patient(10)) == generation
            else:
                assert watcher.try_changed() is None
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=come_back, args=[watcher]) for watcher in watchers]
    for thread in threads:
        thread.start()
    restart_in_a_moment(broker)
    for thread in threads:
        thread.join()
    assert not failures
    assert counts(broker.source) == (WATCHERS, WATCHERS, WATCHERS if has_changed else 0)
    for watcher in watchers:
        telling.acknowledge(watcher)
    with sysgenid.Orchestrator(broker.source, require_watchers=WATCHERS) as orchestrator:
        assert orchestrator.wait_for_watchers(patient(10)).watchers == WATCHERS
    for watcher in watchers:
        watcher.close()


def test_loops_that_reconnect_survive_each_restart(broker: Broker) -> None:
    """As the book writes them, and as people copy them."""
    handled: list[list[int]] = [[] for _ in range(WATCHERS)]
    stopping = threading.Event()
    failures: list[BaseException] = []

    def follow(seen: list[int]) -> None:
        try:
            with sysgenid.Watcher(broker.source) as watcher:
                while not stopping.is_set():
                    try:
                        telling.handle(watcher, seen.append, timeout=0.05)
                    except sysgenid.TimedOutError:
                        pass
                    except sysgenid.LostError:
                        watcher.reconnect(patient(30))
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=follow, args=[seen]) for seen in handled]
    for thread in threads:
        thread.start()
    generation = 0
    for _ in range(3):
        with sysgenid.Orchestrator(broker.source, require_watchers=WATCHERS) as orchestrator:
            generation = orchestrator.trigger()
            settled = orchestrator.settle(patient(20))
        assert (settled.generation, settled.watchers) == (generation, WATCHERS)
        broker.kill()
        restart_in_a_moment(broker)
    stopping.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert [seen[-1] for seen in handled] == [generation] * WATCHERS


@pytest.mark.parametrize("has_changed", [False, True])
def test_all_watchers_of_a_loop_are_back(loop: Factory, broker: Broker, has_changed: bool) -> None:
    async def main() -> None:
        watchers = [await aio.Watcher.open(broker.source) for _ in range(WATCHERS)]
        broker.kill()
        generation = None
        if has_changed:
            broker.start()
            generation = sysgenid.trigger(broker.source)
            broker.kill()
        restarting = threading.Thread(target=restart_in_a_moment, args=[broker])
        restarting.start()
        await asyncio.gather(*(watcher.reconnect(patient(30)) for watcher in watchers))
        restarting.join()
        if has_changed:
            changes = await asyncio.gather(*(watcher.changed() for watcher in watchers))
            told = [change.generation for change in changes]
            assert told == [generation] * WATCHERS
        else:
            assert [watcher.try_changed() for watcher in watchers] == [None] * WATCHERS
        assert counts(broker.source) == (WATCHERS, WATCHERS, WATCHERS if has_changed else 0)
        for watcher in watchers:
            watcher.close()

    run(loop, main(), timeout=patient(60))


def test_a_cancelled_attempt_ends_its_thread_soon(loop: Factory, broker: Broker) -> None:
    def is_trying() -> bool:
        return any(thread.name == "sysgenid-call" for thread in threading.enumerate())

    async def main() -> None:
        async with aio.Watcher(broker.source) as watcher:
            broker.kill()
            reconnecting = asyncio.ensure_future(watcher.reconnect(None))
            ticks = 0
            while ticks < 100:  # the loop goes on meanwhile
                await asyncio.sleep(0.001)
                ticks += 1
            assert not reconnecting.done()
            assert is_trying()
            reconnecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reconnecting
            eventually(lambda: not is_trying(), "the end of the attempt", timeout=1)
            broker.start()
            await watcher.reconnect(patient(10))
            assert watcher.try_changed() is None

    run(loop, main())


@pytest.mark.parametrize("close", [True, False])
def test_a_watcher_may_be_used_and_closed_while_it_reconnects(broker: Broker, close: bool) -> None:
    with sysgenid.Watcher(broker.source) as watcher:
        broker.kill()
        ended: list[BaseException | None] = []

        def come_back() -> None:
            try:
                watcher.reconnect(patient(30))
                ended.append(None)
            except BaseException as failure:
                ended.append(failure)

        thread = threading.Thread(target=come_back)
        thread.start()
        time.sleep(0.1)
        with pytest.raises(sysgenid.LostError):
            watcher.try_changed()
        if close:
            watcher.close()
        broker.start()
        thread.join()
        (end,) = ended
        if close:
            assert isinstance(end, ValueError)
        else:
            assert end is None
            assert watcher.try_changed() is None
        eventually(
            lambda: counts(broker.source)[0] == (0 if close else 1), "the number of watchers"
        )


WITHOUT_A_BROKER: dict[str, Callable[[str], object]] = {
    "trigger": lambda source: sysgenid.trigger(source, 10.0),
    "status": lambda source: sysgenid.status(source, 10.0),
    "Watcher": lambda source: sysgenid.Watcher(source, answer_within=10.0),
}


@pytest.mark.parametrize("name", WITHOUT_A_BROKER)
def test_only_reconnect_waits_for_a_broker(broker: Broker, name: str) -> None:
    broker.kill()
    begun = time.monotonic()
    with pytest.raises(sysgenid.LostError):
        WITHOUT_A_BROKER[name](broker.source)
    assert time.monotonic() - begun < patient(2)


def test_reconnect_tries_until_its_deadline(broker: Broker) -> None:
    with sysgenid.Watcher(broker.source) as watcher:
        broker.kill()
        begun = time.monotonic()
        with pytest.raises(sysgenid.LostError):
            watcher.reconnect(0.3)
        assert 0.3 <= time.monotonic() - begun < patient(1.3)
        # Then it is as it was.
        with pytest.raises(sysgenid.LostError):
            watcher.try_changed()
        assert not watcher.closed


def test_ctrl_c_ends_an_attempt(broker: Broker) -> None:
    script = (
        "import sys, sysgenid\n"
        "watcher = sysgenid.Watcher(sys.argv[1])\n"
        "print('opened', flush=True)\n"
        "sys.stdin.readline()\n"
        "try:\n"
        "    watcher.reconnect(None)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, broker.source],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "opened\n"
        broker.kill()
        process.stdin.write("\n")
        process.stdin.flush()
        time.sleep(1)  # until the pauses are long
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        assert time.monotonic() - begun < patient(0.5)
        assert process.wait(patient(10)) == 0
