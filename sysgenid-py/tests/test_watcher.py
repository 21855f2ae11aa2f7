# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A watcher: from a change to its acknowledgement."""

from __future__ import annotations

import copy
import fcntl
import gc
import itertools
import os
import pickle
import selectors
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest
import support
import sysgenid


@pytest.fixture
def watcher(source: str) -> Iterator[sysgenid.Watcher]:
    with sysgenid.Watcher(source) as watcher:
        yield watcher


def test_it_starts_up_to_date(watcher: sysgenid.Watcher, trigger: support.Trigger) -> None:
    assert watcher.try_changed() is None
    generation = trigger()
    assert watcher.generation == generation
    # It tells until it is acknowledged.
    assert watcher.try_changed() == watcher.wait(0) == watcher.try_changed() == generation
    watcher.acknowledge()
    watcher.acknowledge()
    assert watcher.try_changed() is None


def test_a_generation_is_an_int(watcher: sysgenid.Watcher, trigger: support.Trigger) -> None:
    assert type(trigger()) is int
    assert type(watcher.wait(0)) is int
    assert type(watcher.generation) is int


@pytest.mark.broker_only
def test_a_change_is_by_at_least_one(trigger: support.Trigger) -> None:
    before = sysgenid.generation()
    assert trigger() == before + 1
    assert trigger(before + 10) == before + 10


@pytest.mark.parametrize("wrong", [-1, 2**32, 2**64])
def test_a_generation_has_32_bits(orchestrator: sysgenid.Orchestrator, wrong: int) -> None:
    with pytest.raises(OverflowError):
        orchestrator.trigger(wrong)


@pytest.mark.parametrize("wrong", ["1", 1.5, b"1"])
def test_a_generation_is_no_other_type(watcher: sysgenid.Watcher, wrong: object) -> None:
    with pytest.raises(TypeError):
        watcher.acknowledge(wrong)  # type: ignore[arg-type]


def test_what_was_never_a_generation_is_stale(watcher: sysgenid.Watcher) -> None:
    with pytest.raises(sysgenid.StaleError) as caught:
        watcher.acknowledge(watcher.generation + 12345)
    assert caught.value.current == watcher.generation


def test_ack_is_for_what_was_told(watcher: sysgenid.Watcher, trigger: support.Trigger) -> None:
    told = trigger()
    assert watcher.wait(0) == told
    newer = trigger()
    with pytest.raises(sysgenid.StaleError):
        watcher.acknowledge()
    assert watcher.wait(0) == newer
    watcher.acknowledge()


def test_to_iterate_acknowledges_what_was_handled(
    watcher: sysgenid.Watcher, trigger: support.Trigger
) -> None:
    wanted = [trigger()]
    seen = []
    changing = threading.Thread()
    for generation in watcher:
        # Until the next is asked for, nothing is acknowledged.
        assert watcher.try_changed() == generation
        seen.append(generation)
        if len(seen) == 4:
            break
        changing = threading.Timer(0.02, lambda: wanted.append(trigger()))
        changing.start()
    changing.join()
    assert seen == wanted
    assert watcher.try_changed() == seen[-1]


def test_a_body_that_raises_acknowledges_nothing(
    watcher: sysgenid.Watcher, trigger: support.Trigger
) -> None:
    def fail() -> None:
        for _ in watcher:
            raise ZeroDivisionError

    generation = trigger()
    with pytest.raises(ZeroDivisionError):
        fail()
    assert watcher.try_changed() == generation
    # Another loop begins with it.
    assert next(iter(watcher)) == generation


def test_a_change_during_the_body_is_yielded_at_once(
    watcher: sysgenid.Watcher, trigger: support.Trigger
) -> None:
    first = trigger()
    changes = iter(watcher)
    assert next(changes) == first
    newer = trigger()
    assert next(changes) == newer
    assert watcher.try_changed() == newer


def test_handle_acknowledges(watcher: sysgenid.Watcher, trigger: support.Trigger) -> None:
    handled: list[int] = []
    generation = trigger()
    assert watcher.handle(handled.append, 0) == generation
    assert handled == [generation]
    assert watcher.try_changed() is None


def test_handle_starts_over(watcher: sysgenid.Watcher, trigger: support.Trigger) -> None:
    handled: list[int] = []

    def handle(generation: int) -> None:
        handled.append(generation)
        if len(handled) < 3:
            trigger()

    trigger()
    assert watcher.handle(handle, support.patient(5)) == handled[-1] == watcher.generation
    assert len(handled) == 3
    assert watcher.try_changed() is None


def test_a_callback_that_raises_acknowledges_nothing(
    watcher: sysgenid.Watcher, trigger: support.Trigger
) -> None:
    class Failure(Exception):
        pass

    failure = Failure()

    def fail(_: int) -> None:
        raise failure

    generation = trigger()
    with pytest.raises(Failure) as caught:
        watcher.handle(fail, 0)
    # It is the caller's own.
    assert caught.value is failure
    assert watcher.try_changed() == generation


def test_a_callback_must_be_callable(watcher: sysgenid.Watcher, trigger: support.Trigger) -> None:
    trigger()
    with pytest.raises(TypeError):
        watcher.handle(3, 0)  # type: ignore[call-overload]


USES: dict[str, Callable[[sysgenid.Watcher], object]] = {
    "wait": lambda watcher: watcher.wait(0),
    "try_changed": lambda watcher: watcher.try_changed(),
    "acknowledge": lambda watcher: watcher.acknowledge(),
    "handle": lambda watcher: watcher.handle(print, 0),
    "iter": lambda watcher: next(iter(watcher)),
    "generation": lambda watcher: watcher.generation,
    "fileno": lambda watcher: watcher.fileno(),
    "probe": lambda watcher: watcher.probe(),
    "set_tracking": lambda watcher: watcher.set_tracking(True),
    "reconnect": lambda watcher: watcher.reconnect(0),
    "reopen": lambda watcher: watcher.reopen(),
    "with": lambda watcher: watcher.__enter__(),
}

#: Those that end by themselves, whether anything changes or not.
ENDING = [use for name, use in USES.items() if name != "iter"]


@pytest.mark.parametrize("use", USES)
def test_a_closed_watcher(use: str, watcher: sysgenid.Watcher) -> None:
    assert not watcher.closed
    watcher.close()
    watcher.close()
    assert watcher.closed
    with pytest.raises(ValueError, match="closed"):
        USES[use](watcher)
    assert "closed" in repr(watcher)


def test_a_block_closes(source: str) -> None:
    with sysgenid.Watcher(source) as watcher:
        descriptor = watcher.fileno()
    assert watcher.closed
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_watcher_that_is_dropped_is_closed(source: str) -> None:
    watcher = sysgenid.Watcher(source)
    reference = weakref.ref(watcher)
    descriptor = watcher.fileno()
    del watcher
    gc.collect()
    assert reference() is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.v6_only
def test_nobody_waits_for_an_untracked_one(
    orchestrator: sysgenid.Orchestrator, source: str
) -> None:
    with sysgenid.Watcher(source, tracked=False) as watcher:
        orchestrator.trigger()
        orchestrator.acknowledge()
        orchestrator.wait_for_watchers(support.patient(5))
        watcher.set_tracking(True)
        with pytest.raises(sysgenid.TimedOutError):
            orchestrator.wait_for_watchers(0.01)
        watcher.set_tracking(False)
        orchestrator.wait_for_watchers(support.patient(5))


def test_tracked_is_a_keyword(source: str) -> None:
    with pytest.raises(TypeError):
        sysgenid.Watcher(source, False)  # type: ignore[call-arg]


def test_its_descriptor_is_for_waiting(watcher: sysgenid.Watcher, trigger: support.Trigger) -> None:
    descriptor = watcher.fileno()
    assert fcntl.fcntl(descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    with selectors.DefaultSelector() as selector:
        selector.register(watcher, selectors.EVENT_READ, "watcher")
        for _ in range(3):
            assert not selector.select(0)
            timer = threading.Timer(0.02, trigger)
            timer.start()
            ((key, _events),) = selector.select(support.patient(5))
            assert key.data == "watcher"
            watcher.handle(lambda generation: None, 0)
            timer.join()


@pytest.mark.needs("trio")
def test_trio_waits_for_it(watcher: sysgenid.Watcher, trigger: support.Trigger) -> None:
    import trio

    async def main() -> int:
        with trio.fail_after(support.patient(5)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, lambda: trigger())
                await trio.lowlevel.wait_readable(watcher.fileno())
        changed = watcher.try_changed()
        assert changed is not None
        return changed

    assert trio.run(main) == watcher.generation


def test_each_thread_is_told(watcher: sysgenid.Watcher, trigger: support.Trigger) -> None:
    told: list[int] = []
    threads = [
        threading.Thread(target=lambda: told.append(watcher.wait(support.patient(10))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    generation = trigger()
    for thread in threads:
        thread.join()
    assert told == [generation] * 8


def test_threads_acknowledge_what_they_are_told(
    watcher: sysgenid.Watcher, orchestrator: sysgenid.Orchestrator
) -> None:
    stopped = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        while not stopped.is_set():
            try:
                watcher.handle(lambda generation: None, 0.01)
            except (sysgenid.TimedOutError, sysgenid.StaleError):
                pass
            except BaseException as failure:
                failures.append(failure)
                raise

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        orchestrator.trigger()
        orchestrator.acknowledge()
        orchestrator.wait_for_watchers(support.patient(5))
    stopped.set()
    for thread in threads:
        thread.join()
    assert not failures


def test_threads_may_close_it_while_others_use_it(source: str) -> None:
    for _ in range(50):
        watcher = sysgenid.Watcher(source)
        ended = threading.Barrier(4)

        def use(watcher: sysgenid.Watcher = watcher, ended: threading.Barrier = ended) -> None:
            ended.wait()
            for use in itertools.cycle(ENDING):
                try:
                    use(watcher)
                except ValueError:
                    return
                except (sysgenid.Error, RuntimeError):
                    continue

        threads = [threading.Thread(target=use) for _ in range(3)]
        for thread in threads:
            thread.start()
        ended.wait()
        watcher.close()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("kind", ["watcher", "orchestrator", "probe"])
def test_it_is_not_copied(
    kind: str, copied: Callable[[object], object], watcher: sysgenid.Watcher, source: str
) -> None:
    opened: dict[str, Callable[[], object]] = {
        "watcher": lambda: watcher,
        "orchestrator": lambda: sysgenid.Orchestrator(source),
        "probe": watcher.probe,
    }
    with pytest.raises(TypeError, match="open one in the other process"):
        copied(opened[kind]())


@pytest.mark.parametrize("kind", [sysgenid.Watcher, sysgenid.Orchestrator, sysgenid.Probe])
def test_it_is_final(kind: type) -> None:
    with pytest.raises(TypeError):
        type("Derived", (kind,), {})


def test_it_is_lost_with_its_broker(broker: support.Broker) -> None:
    with sysgenid.Watcher(broker.source) as watcher:
        timer = threading.Timer(0.05, broker.kill)
        timer.start()
        with pytest.raises(sysgenid.LostError):
            watcher.wait(support.patient(10))
        timer.join()
        for use in (watcher.try_changed, watcher.acknowledge, lambda: watcher.wait(0)):
            with pytest.raises(sysgenid.LostError):
                use()
        with selectors.DefaultSelector() as selector:
            selector.register(watcher, selectors.EVENT_READ)
            assert selector.select(0)


def test_it_reconnects(broker: support.Broker) -> None:
    with sysgenid.Watcher(broker.source) as watcher:
        descriptor = watcher.fileno()
        broker.kill()
        with pytest.raises(sysgenid.LostError):
            watcher.reconnect(0)
        assert not watcher.closed
        broker.start()
        with sysgenid.Orchestrator(broker.source) as orchestrator:
            generation = orchestrator.trigger()
            watcher.reconnect(support.patient(10))
            # What came meanwhile is not missed.
            assert watcher.wait(support.patient(5)) == generation
            watcher.acknowledge()
            orchestrator.acknowledge()
            orchestrator.wait_for_watchers(support.patient(5))
        assert watcher.fileno() == descriptor


def test_it_does_not_reconnect_under_a_call(broker: support.Broker) -> None:
    with sysgenid.Watcher(broker.source) as watcher:
        thread = threading.Thread(target=lambda: watcher.wait(support.patient(10)))
        thread.start()
        time.sleep(0.05)
        with pytest.raises(RuntimeError, match="another thread"):
            watcher.reconnect(support.patient(10))
        with sysgenid.Orchestrator(broker.source) as orchestrator:
            orchestrator.trigger()
        thread.join()
        watcher.reconnect(support.patient(10))
