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
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest
import support
import sysgenid
import telling


@pytest.fixture
def watcher(source: str) -> Iterator[sysgenid.Watcher]:
    with sysgenid.Watcher(source) as watcher:
        yield watcher


def test_it_starts_up_to_date(watcher: sysgenid.Watcher, trigger: support.Trigger) -> None:
    assert watcher.try_changed() is None
    generation = trigger()
    assert watcher.generation == generation
    # It tells until it is acknowledged.
    assert telling.told(watcher) == telling.wait(watcher, 0) == telling.told(watcher) == generation
    telling.acknowledge(watcher)
    telling.acknowledge(watcher)
    assert watcher.try_changed() is None


def test_a_generation_is_an_int(watcher: sysgenid.Watcher, trigger: support.Trigger) -> None:
    assert type(trigger()) is int
    assert type(telling.wait(watcher, 0)) is int
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


def test_what_was_never_a_generation_is_stale(orchestrator: sysgenid.Orchestrator) -> None:
    with pytest.raises(sysgenid.StaleError) as caught:
        orchestrator.acknowledge(orchestrator.generation + 12345)
    assert caught.value.current == orchestrator.generation


def test_a_change_acknowledges_what_it_told_of(
    watcher: sysgenid.Watcher, trigger: support.Trigger
) -> None:
    before = watcher.generation
    told = trigger()
    mine, another = watcher.wait(0), watcher.wait(0)
    assert (mine.generation, mine.previous, mine.source) == (told, before, watcher.path)
    newer = trigger()
    # Another task is told of the newer one, and this one acknowledges nothing of it.
    newest = watcher.wait(0)
    assert not mine.acknowledge()
    assert not another.acknowledge()
    assert telling.told(watcher) == newer
    assert newest.acknowledge()
    assert newest.acknowledge(), "twice is fine"
    assert watcher.try_changed() is None
    assert not mine.acknowledge()


@pytest.mark.broker_only
def test_a_change_says_why(watcher: sysgenid.Watcher, trigger: support.Trigger) -> None:
    trigger()
    change = watcher.wait(0)
    assert change.cause == "trigger"
    assert repr(change) == f"<sysgenid.Change to generation {change.generation} of {watcher.path}>"
    for copied in (copy.copy, pickle.dumps):
        with pytest.raises(TypeError, match="where it was told"):
            copied(change)
    assert change.acknowledge()


def test_no_number_is_acknowledged(watcher: sysgenid.Watcher) -> None:
    assert not hasattr(watcher, "acknowledge"), "a change acknowledges itself"
    assert not hasattr(watcher, "handle")


def test_iteration_tells_of_each_change(
    watcher: sysgenid.Watcher, trigger: support.Trigger
) -> None:
    wanted = [trigger()]
    seen = []
    changing = threading.Thread()
    for change in watcher:
        assert telling.told(watcher) == change.generation
        seen.append(change.generation)
        assert change.acknowledge()
        if len(seen) == 4:
            break
        changing = threading.Timer(0.02, lambda: wanted.append(trigger()))
        changing.start()
    changing.join()
    assert seen == wanted
    assert watcher.try_changed() is None


def test_a_change_that_is_not_acknowledged_is_told_again_after_a_pause(
    watcher: sysgenid.Watcher, trigger: support.Trigger
) -> None:
    generation = trigger()
    times = []
    for change in watcher.changes(timeout=support.patient(20)):
        assert change.generation == generation
        times.append(time.monotonic())
        if len(times) == 3:
            assert change.acknowledge()
            break
    first, second = times[1] - times[0], times[2] - times[1]
    assert first >= 0.1
    assert second >= 0.2
    # A newer one is told at once.
    trigger()
    changes = watcher.changes(timeout=support.patient(20))
    before = next(changes)
    newer = trigger()
    assert next(changes).generation == newer
    assert not before.acknowledge()
    telling.acknowledge(watcher)


def test_iteration_ends_at_its_timeout(watcher: sysgenid.Watcher, trigger: support.Trigger) -> None:
    assert list(watcher.changes(timeout=0.01)) == []
    generation = trigger()
    told = list(watcher.changes(timeout=0.01))
    assert [change.generation for change in told] == [generation]
    telling.acknowledge(watcher)


def test_a_body_that_raises_acknowledges_nothing(
    watcher: sysgenid.Watcher, trigger: support.Trigger
) -> None:
    def fail() -> None:
        for _ in watcher:
            raise ZeroDivisionError

    generation = trigger()
    with pytest.raises(ZeroDivisionError):
        fail()
    assert telling.told(watcher) == generation
    # Another loop begins with it.
    assert next(iter(watcher)).generation == generation


USES: dict[str, Callable[[sysgenid.Watcher], object]] = {
    "wait": lambda watcher: watcher.wait(0),
    "try_changed": lambda watcher: watcher.try_changed(),
    "acknowledge": lambda watcher: telling.acknowledge(watcher),
    "changes": lambda watcher: next(watcher.changes(0), None),
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


def is_waited_for(orchestrator: sysgenid.Orchestrator) -> bool:
    telling.acknowledge(orchestrator)
    try:
        orchestrator.wait_for_watchers(0.05)
    except sysgenid.TimedOutError:
        return True
    return False


def rebuild_in_vain(watcher: sysgenid.Watcher) -> None:
    for _ in watcher:
        raise ZeroDivisionError


def test_one_that_an_exception_leaves_outdated_stays_a_straggler(broker: support.Broker) -> None:
    with sysgenid.Orchestrator(broker.source) as orchestrator:
        watcher = sysgenid.Watcher(broker.source)
        orchestrator.trigger()
        with pytest.raises(ZeroDivisionError), watcher:
            rebuild_in_vain(watcher)
        assert is_waited_for(orchestrator), "it has rebuilt nothing"
        assert not watcher.closed
        # Another block goes on with it.
        with watcher:
            change = watcher.wait(0)
            assert change.acknowledge()
            assert not is_waited_for(orchestrator)
            orchestrator.trigger()
            telling.acknowledge(watcher)
        assert watcher.closed

        # What is acknowledged later closes it, so that the next change waits for no leftover.
        watcher = sysgenid.Watcher(broker.source)
        orchestrator.trigger()
        change = watcher.wait(0)
        with pytest.raises(ZeroDivisionError), watcher:
            raise ZeroDivisionError
        assert is_waited_for(orchestrator)
        assert change.acknowledge()
        assert watcher.closed
        orchestrator.trigger()
        assert not is_waited_for(orchestrator)

        # One that is up to date is closed whatever happened.
        with pytest.raises(ZeroDivisionError), sysgenid.Watcher(broker.source) as watcher:
            raise ZeroDivisionError
        assert watcher.closed


def test_one_that_is_dropped_outdated_stays_a_straggler(broker: support.Broker) -> None:
    with sysgenid.Orchestrator(broker.source) as orchestrator:
        thread = threading.Timer(0.1, orchestrator.trigger)
        thread.start()
        with pytest.raises(ZeroDivisionError):
            rebuild_in_vain(sysgenid.Watcher(broker.source))
        thread.join()
        gc.collect()
        assert is_waited_for(orchestrator)
        # The same for what goes on through restarts.
    script = f"""
        import os, sysgenid
        os.environ["SYSGENID_SOURCE"] = {broker.source!r}
        orchestrator = sysgenid.Orchestrator()
        for leave in (False, True):
            try:
                with sysgenid.Changes() as changes:
                    changes.try_next()
                    generation = orchestrator.trigger()
                    change = changes.wait(20)
                    if not leave:
                        change.acknowledge()
                    1 / 0
            except ZeroDivisionError:
                pass
            assert changes.closed != leave
        print(sysgenid.status().watchers.outdated)
        change.acknowledge()
        assert changes.closed
    """
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=support.patient(60),
        check=True,
    )
    # With what this process has left.
    assert told.stdout.split() == ["2"], told.stderr


@pytest.mark.v6_only
def test_nobody_waits_for_an_untracked_one(
    orchestrator: sysgenid.Orchestrator, source: str
) -> None:
    with sysgenid.Watcher(source, tracked=False) as watcher:
        orchestrator.trigger()
        telling.acknowledge(orchestrator)
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
            telling.handle(watcher, lambda generation: None, 0)
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
        return changed.generation

    assert trio.run(main) == watcher.generation


def test_each_thread_is_told(watcher: sysgenid.Watcher, trigger: support.Trigger) -> None:
    told: list[int] = []
    threads = [
        threading.Thread(target=lambda: told.append(telling.wait(watcher, support.patient(10))))
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
                telling.handle(watcher, lambda generation: None, 0.01)
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
        telling.acknowledge(orchestrator)
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
        for use in (watcher.try_changed, lambda: watcher.wait(0)):
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
            assert telling.wait(watcher, support.patient(5)) == generation
            telling.acknowledge(watcher)
            telling.acknowledge(orchestrator)
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
