# SPDX-License-Identifier: Apache-2.0 OR MIT
"""An orchestrator: from a change until everybody has acknowledged it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
import support
import sysgenid
import telling


def test_it_waits_until_all_have_acknowledged(
    orchestrator: sysgenid.Orchestrator, source: str
) -> None:
    with sysgenid.Watcher(source) as first, sysgenid.Watcher(source) as second:
        generation = orchestrator.trigger()
        orchestrator.acknowledge(generation)
        for watcher in (first, second):
            with pytest.raises(sysgenid.TimedOutError):
                orchestrator.wait_for_watchers(0.01)
            telling.acknowledge(watcher)
        # Without waiting: it looks.
        orchestrator.wait_for_watchers(0)


def test_it_is_told_when_the_last_acknowledges(
    orchestrator: sysgenid.Orchestrator, source: str
) -> None:
    with sysgenid.Watcher(source) as watcher:
        orchestrator.trigger()
        telling.acknowledge(orchestrator)
        timer = threading.Timer(0.05, telling.acknowledge, [watcher])
        timer.start()
        orchestrator.wait_for_watchers(support.patient(10))
        timer.join()


def test_a_watcher_that_closes_is_not_waited_for(
    orchestrator: sysgenid.Orchestrator, source: str
) -> None:
    watcher = sysgenid.Watcher(source)
    orchestrator.trigger()
    telling.acknowledge(orchestrator)
    timer = threading.Timer(0.05, watcher.close)
    timer.start()
    orchestrator.wait_for_watchers(support.patient(10))
    timer.join()


def test_who_is_outdated_does_not_wait(orchestrator: sysgenid.Orchestrator) -> None:
    generation = orchestrator.trigger()
    assert telling.told(orchestrator) == generation
    with pytest.raises(sysgenid.OutdatedError, match=orchestrator.path):
        orchestrator.wait_for_watchers(1)
    orchestrator.acknowledge(generation)
    assert orchestrator.try_changed() is None


@pytest.fixture
def rebuilt() -> Iterator[list[int]]:
    """The generations that a hook has run for."""
    rebuilt: list[int] = []
    hook = sysgenid.after_restore(lambda change: rebuilt.append(change.generation))
    yield rebuilt
    hook.remove()


def test_settle_does_all_of_it(
    orchestrator: sysgenid.Orchestrator, source: str, rebuilt: list[int]
) -> None:
    with sysgenid.Watcher(source) as watcher:
        generation = orchestrator.trigger()
        thread = threading.Thread(target=telling.handle, args=(watcher, print, support.patient(5)))
        thread.start()
        settled = orchestrator.settle(support.patient(10))
        assert settled.generation == generation
        thread.join()
        assert rebuilt == [generation]
        # Nothing has changed since: nothing is rebuilt.
        assert orchestrator.settle(support.patient(5)) == settled
        assert len(rebuilt) == 1


def test_settle_starts_over(orchestrator: sysgenid.Orchestrator, rebuilt: list[int]) -> None:
    @sysgenid.after_restore
    def move() -> None:
        if len(rebuilt) < 3:
            orchestrator.trigger()

    orchestrator.trigger()
    settled = orchestrator.settle(support.patient(10))
    move.remove()
    assert len(rebuilt) == 3
    assert settled.generation == rebuilt[-1] == orchestrator.generation


def test_settle_does_not_acknowledge_what_hooks_failed_to_do(
    orchestrator: sysgenid.Orchestrator,
) -> None:
    hook = sysgenid.after_restore(lambda: 1 // 0)
    generation = orchestrator.trigger()
    with pytest.raises(sysgenid.HookError):
        orchestrator.settle(0)
    hook.remove()
    assert telling.told(orchestrator) == generation


@pytest.mark.v6_only
def test_stragglers_are_named(orchestrator: sysgenid.Orchestrator, source: str) -> None:
    with sysgenid.Watcher(source) as watcher:
        before = watcher.generation
        orchestrator.trigger()
        (straggler,) = orchestrator.stragglers()
        assert straggler.pid == os.getpid()
        assert straggler.uid == os.geteuid()
        assert straggler.acknowledged == before
        assert straggler.command
        assert f"pid {os.getpid()}" in str(straggler)
        assert str(straggler) in repr(straggler)
        telling.acknowledge(watcher)
        assert orchestrator.stragglers() == []


def test_a_hostile_name_is_safe_to_print(broker: support.Broker) -> None:
    script = (
        "import sysgenid, sys\n"
        "open('/proc/self/comm', 'w').write('a\\x1b[2Jb\\nc')\n"
        "watcher = sysgenid.Watcher(sys.argv[1])\n"
        "print(flush=True)\n"
        "sys.stdin.read()\n"
    )
    with (
        sysgenid.Orchestrator(broker.source) as orchestrator,
        subprocess.Popen(
            [sys.executable, "-c", script, broker.source],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        orchestrator.trigger()
        (straggler,) = orchestrator.stragglers()
        for text in (straggler.command, str(straggler), repr(straggler)):
            assert text.isprintable()
            # Escaped once.
            assert "[2J" in text
            assert "\\\\" not in text
        process.communicate(b"")


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
    "acknowledge": lambda orchestrator: telling.acknowledge(orchestrator),
    "wait": lambda orchestrator: orchestrator.wait(0),
    "wait_for_watchers": lambda orchestrator: orchestrator.wait_for_watchers(0),
    "settle": lambda orchestrator: orchestrator.settle(0),
    "stragglers": lambda orchestrator: orchestrator.stragglers(),
    "try_changed": lambda orchestrator: orchestrator.try_changed(),
    "generation": lambda orchestrator: orchestrator.generation,
    "fileno": lambda orchestrator: orchestrator.fileno(),
    "reconnect": lambda orchestrator: orchestrator.reconnect(0),
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
        telling.acknowledge(orchestrator)
        timer = threading.Timer(0.05, broker.kill)
        timer.start()
        with pytest.raises(sysgenid.LostError):
            orchestrator.wait_for_watchers(support.patient(10))
        timer.join()
        with pytest.raises(sysgenid.LostError):
            orchestrator.trigger()
        broker.start()
        orchestrator.reconnect(support.patient(10))
        watcher.reconnect(support.patient(10))
        generation = orchestrator.trigger()
        telling.handle(watcher, lambda generation: None, support.patient(5))
        settled = orchestrator.settle(support.patient(5))
        assert settled.generation == generation
        assert settled.watchers is None or settled.watchers >= 1


def test_settled_is_a_value(orchestrator: sysgenid.Orchestrator) -> None:
    settled = orchestrator.wait_for_watchers(0)
    again = orchestrator.wait_for_watchers(0)
    assert settled.generation == orchestrator.generation
    assert settled == again
    assert hash(settled) == hash(again)
    assert repr(settled) == (
        f"sysgenid.Settled(generation={settled.generation}, watchers={settled.watchers})"
    )
    orchestrator.trigger()
    telling.acknowledge(orchestrator)
    assert orchestrator.wait_for_watchers(0) != settled
    with pytest.raises(AttributeError):
        settled.generation = 3  # type: ignore[misc]


def test_fewer_watchers_than_required(broker: support.Broker) -> None:
    with sysgenid.Orchestrator(broker.source, require_watchers=2) as orchestrator:
        watchers = []
        for found in (0, 1):
            for timeout in (0, 0.05, 1.2):  # more than one slice of a wait in the main thread
                with pytest.raises(sysgenid.MissingError) as caught:
                    orchestrator.wait_for_watchers(timeout)
                assert f"{found} tracked" in str(caught.value)
                assert "2 are required" in str(caught.value)
                assert broker.source in str(caught.value)
                assert not isinstance(caught.value, OSError)
                assert not isinstance(caught.value, sysgenid.TimedOutError)
            with pytest.raises(sysgenid.MissingError):
                orchestrator.settle(0.05)
            watchers.append(sysgenid.Watcher(broker.source))
        settled = orchestrator.wait_for_watchers(0)
        assert (settled.generation, settled.watchers) == (orchestrator.generation, 2)
        for watcher in watchers:
            watcher.close()


def test_a_watcher_that_comes_is_one_that_was_required(broker: support.Broker) -> None:
    opened: list[sysgenid.Watcher] = []
    with sysgenid.Orchestrator(broker.source, require_watchers=1) as orchestrator:
        coming = threading.Timer(1.2, lambda: opened.append(sysgenid.Watcher(broker.source)))
        coming.start()
        assert orchestrator.settle(support.patient(10)).watchers == 1
        coming.join()
        opened[0].close()


@pytest.mark.parametrize("wrong", [-1, 2**32])
def test_a_number_of_watchers_has_32_bits(broker: support.Broker, wrong: int) -> None:
    with pytest.raises(OverflowError):
        sysgenid.Orchestrator(broker.source, require_watchers=wrong)


# The function


def test_a_script_that_only_triggers_becomes_no_watcher(broker: support.Broker) -> None:
    with sysgenid.Watcher(broker.source) as watcher:
        assert sysgenid.trigger(broker.source) == 1
        assert telling.wait(watcher, support.patient(5)) == 1
        assert sysgenid.trigger(broker.source, min=10) == 10
        assert sysgenid.trigger(broker.source, support.patient(5), min=3) == 11
        counts = sysgenid.status(broker.source).watchers
        assert counts is not None
        assert counts.total == 1


@pytest.mark.broker_only
def test_trigger_finds_the_source(orchestrator: sysgenid.Orchestrator) -> None:
    assert sysgenid.trigger() == orchestrator.generation == telling.told(orchestrator)


def test_what_takes_no_triggers(broker: support.Broker) -> None:
    page = str(broker.folder / "page")
    with pytest.raises(sysgenid.UnsupportedError) as caught:
        sysgenid.trigger(page)
    assert caught.value.filename == page
    with pytest.raises(TypeError):
        sysgenid.trigger(broker.source, 1.0, 3)  # type: ignore[call-arg]
    broker.kill()
    with pytest.raises(sysgenid.LostError):
        sysgenid.trigger(broker.source)
