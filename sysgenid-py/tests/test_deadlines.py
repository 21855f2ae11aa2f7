# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Every call ends by its timeout, also when the broker's process is stopped in the middle of it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

import pytest
import sysgenid
import telling
from loops import FACTORIES, Factory, run
from support import Broker, eventually, patient
from sysgenid import _attempts, aio

TIMEOUT = 0.3
#: After its timeout, a call takes a tenth of a second at most. Machines that are busy take longer.
LATE = patient(1)

#: Looked at while the broker is stopped: what is called, and whether it has to wait for an answer.
Call = Callable[[str, sysgenid.Watcher, sysgenid.Orchestrator], object]

#: Those that raise `TimedOutError`, and not before their timeout.
TIMED: dict[str, Call] = {
    "Watcher": lambda source, _, __: sysgenid.Watcher(source, answer_within=TIMEOUT),
    "Orchestrator": lambda source, _, __: sysgenid.Orchestrator(source, answer_within=TIMEOUT),
    "status": lambda source, _, __: sysgenid.status(source, TIMEOUT),
    "trigger": lambda source, _, __: sysgenid.trigger(source, TIMEOUT),
    "Watcher.wait": lambda _, watcher, __: watcher.wait(TIMEOUT),
    "Watcher.handle": lambda _, watcher, __: telling.handle(watcher, print, TIMEOUT),
    "Watcher.reconnect": lambda _, watcher, __: watcher.reconnect(TIMEOUT),
    "Orchestrator.wait": lambda _, __, orchestrator: orchestrator.wait(TIMEOUT),
    "Orchestrator.reconnect": lambda _, __, orchestrator: orchestrator.reconnect(TIMEOUT),
    "Orchestrator.trigger": lambda _, __, orchestrator: orchestrator.trigger(),
    "stragglers": lambda _, __, orchestrator: orchestrator.stragglers(),
    "wait_for_watchers": lambda _, __, orchestrator: orchestrator.wait_for_watchers(TIMEOUT),
    "settle": lambda _, __, orchestrator: orchestrator.settle(TIMEOUT),
}

#: Those that never wait, and do what they are for.
PROMPT: dict[str, Call] = {
    "try_changed": lambda _, watcher, __: watcher.try_changed(),
    "acknowledge": lambda _, watcher, __: telling.acknowledge(watcher),
    "set_tracking": lambda _, watcher, __: watcher.set_tracking(False),
    "generation": lambda _, watcher, __: watcher.generation,
    "Orchestrator.acknowledge": lambda _, __, orchestrator: telling.acknowledge(orchestrator),
    "close": lambda _, watcher, __: watcher.close(),
}

Later = Callable[[str, aio.Watcher, aio.Orchestrator], Awaitable[object]]


async def nothing(_generation: int) -> None:
    pass


async def at_once(call: Callable[[], object]) -> object:
    return call()


#: The same in an event loop.
TIMED_LATER: dict[str, Later] = {
    "Watcher.open": lambda source, _, __: aio.Watcher.open(source, answer_within=TIMEOUT),
    "Orchestrator.open": lambda source, _, __: aio.Orchestrator.open(source, answer_within=TIMEOUT),
    "Watcher.reconnect": lambda _, watcher, __: watcher.reconnect(TIMEOUT),
    "Orchestrator.reconnect": lambda _, __, orchestrator: orchestrator.reconnect(TIMEOUT),
    "trigger": lambda _, __, orchestrator: orchestrator.trigger(),
    "stragglers": lambda _, __, orchestrator: orchestrator.stragglers(),
    "wait_for_watchers": lambda _, __, orchestrator: orchestrator.wait_for_watchers(TIMEOUT),
    "settle": lambda _, __, orchestrator: orchestrator.settle(TIMEOUT),
}

#: Those whose timeout is asyncio's.
ASYNCIOS_TIMEOUT: dict[str, Later] = {
    "changed": lambda _, watcher, __: asyncio.wait_for(watcher.changed(), TIMEOUT),
    "changed, of an orchestrator": lambda _, __, it: asyncio.wait_for(it.changed(), TIMEOUT),
}

PROMPT_LATER: dict[str, Later] = {
    "try_changed": lambda _, watcher, __: at_once(watcher.try_changed),
    "acknowledge": lambda _, watcher, __: at_once(lambda: telling.acknowledge(watcher)),
    "set_tracking": lambda _, watcher, __: at_once(lambda: watcher.set_tracking(False)),
    "Orchestrator.acknowledge": lambda _, __, orchestrator: at_once(
        lambda: telling.acknowledge(orchestrator)
    ),
    "close": lambda _, watcher, __: at_once(watcher.close),
}


@pytest.fixture(params=FACTORIES)
def loop(request: pytest.FixtureRequest) -> Factory:
    return FACTORIES[request.param]


@pytest.mark.parametrize("name", TIMED)
@pytest.mark.parametrize("is_main", [True, False])
def test_it_ends_by_its_timeout(name: str, is_main: bool, broker: Broker) -> None:
    took: list[float] = []

    def call() -> None:
        begun = time.monotonic()
        with pytest.raises(sysgenid.TimedOutError):
            TIMED[name](broker.source, watcher, orchestrator)
        took.append(time.monotonic() - begun)

    with (
        sysgenid.Watcher(broker.source) as watcher,
        sysgenid.Orchestrator(broker.source, answer_within=TIMEOUT) as orchestrator,
        broker.frozen(),
    ):
        if is_main:
            call()
        else:
            thread = threading.Thread(target=call)
            thread.start()
            thread.join()
    (seconds,) = took
    assert TIMEOUT <= seconds < TIMEOUT + LATE


@pytest.mark.parametrize("name", TIMED)
def test_without_time_it_takes_one_look(
    name: str, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which takes a tenth of a second if there is no answer."""
    monkeypatch.setitem(globals(), "TIMEOUT", 0)
    with (
        sysgenid.Watcher(broker.source) as watcher,
        sysgenid.Orchestrator(broker.source, answer_within=TIMEOUT) as orchestrator,
        broker.frozen(),
    ):
        begun = time.monotonic()
        with pytest.raises(sysgenid.TimedOutError):
            TIMED[name](broker.source, watcher, orchestrator)
        assert time.monotonic() - begun < 0.1 + LATE


@pytest.mark.parametrize("name", PROMPT)
def test_it_never_waits(name: str, broker: Broker) -> None:
    with (
        sysgenid.Watcher(broker.source) as watcher,
        sysgenid.Orchestrator(broker.source) as orchestrator,
    ):
        orchestrator.trigger()
        watcher.wait(0)
        with broker.frozen():
            begun = time.monotonic()
            PROMPT[name](broker.source, watcher, orchestrator)
            assert time.monotonic() - begun < LATE


def test_what_was_not_waited_for_is_done(broker: Broker) -> None:
    with (
        sysgenid.Watcher(broker.source) as watcher,
        sysgenid.Orchestrator(broker.source) as orchestrator,
    ):
        orchestrator.trigger()
        telling.acknowledge(orchestrator)
        with broker.frozen():
            watcher.set_tracking(False)
        settled = orchestrator.wait_for_watchers(patient(10))
        assert settled.watchers == 0
        with broker.frozen():
            watcher.set_tracking(True)
        with pytest.raises(sysgenid.TimedOutError):
            orchestrator.wait_for_watchers(0)
        with broker.frozen():
            telling.acknowledge(watcher)
        assert orchestrator.wait_for_watchers(patient(10)).watchers == 1


def in_a_loop(
    loop: Factory, broker: Broker, call: Later, error: type[BaseException] | None
) -> None:
    """Makes a call while the broker is stopped; looks at how long it takes, and at the loop."""

    async def main() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        async with (
            aio.Watcher(broker.source) as watcher,
            aio.Orchestrator(broker.source, answer_within=TIMEOUT) as orchestrator,
        ):
            if error is None:
                await orchestrator.trigger()
                await watcher.changed()
            with broker.frozen():
                ticking = asyncio.ensure_future(tick())
                begun = time.monotonic()
                if error is None:
                    await call(broker.source, watcher, orchestrator)
                    assert time.monotonic() - begun < LATE
                else:
                    with pytest.raises(error):
                        await call(broker.source, watcher, orchestrator)
                    assert TIMEOUT - 0.01 <= time.monotonic() - begun < TIMEOUT + LATE
                    assert ticks > 10, "the loop was held up"
                ticking.cancel()

    run(loop, main())
    eventually(
        lambda: not [it for it in threading.enumerate() if it.name.startswith("sysgenid-")],
        "the end of the helpers",
    )


@pytest.mark.parametrize("name", TIMED_LATER)
def test_in_a_loop_it_ends_by_its_timeout(name: str, loop: Factory, broker: Broker) -> None:
    in_a_loop(loop, broker, TIMED_LATER[name], sysgenid.TimedOutError)


@pytest.mark.parametrize("name", ASYNCIOS_TIMEOUT)
def test_in_a_loop_it_ends_by_asyncios_timeout(name: str, loop: Factory, broker: Broker) -> None:
    in_a_loop(loop, broker, ASYNCIOS_TIMEOUT[name], asyncio.TimeoutError)


@pytest.mark.parametrize("name", PROMPT_LATER)
def test_in_a_loop_it_never_waits(name: str, loop: Factory, broker: Broker) -> None:
    in_a_loop(loop, broker, PROMPT_LATER[name], None)


def test_a_reconnect_waits_for_a_broker_that_is_slow(broker: Broker) -> None:
    with sysgenid.Watcher(broker.source) as watcher:
        with broker.frozen():
            thread = threading.Thread(target=watcher.reconnect, args=[patient(30)])
            thread.start()
            time.sleep(1.5)
            assert thread.is_alive()
        thread.join()
        assert watcher.try_changed() is None


def test_the_thread_starts_and_stops_although_its_broker_hangs(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYSGENID_SOURCE", broker.source)
    with broker.frozen():
        begun = time.monotonic()
        background = sysgenid.background(answer_within=TIMEOUT)
        assert time.monotonic() - begun < TIMEOUT + LATE
        assert background.alive
        assert not background.watching
    eventually(lambda: background.watching, "the answer")
    with broker.frozen():
        assert background.stop(LATE)
    assert not background.alive


def test_a_broker_that_does_not_answer_gets_more_time_and_none_that_is_not_there() -> None:
    late, lost = sysgenid.TimedOutError(62, "late"), sysgenid.LostError(104, "lost")
    given = [_attempts.FIRST]
    while len(given) < 6:
        given.append(_attempts.after(given[-1], late))
    assert given == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert _attempts.after(4.0, lost) == 0.5
