# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Forks, and the processes of multiprocessing."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import multiprocessing.context
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable

import forking
import pytest
import support
import sysgenid
import sysgenid.random
import telling


def in_child(work: Callable[[], object]) -> None:
    """Does something in a forked child, which must succeed."""
    child = forking.fork()
    if child == 0:
        try:
            signal.alarm(int(support.patient(20)))
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


USES: dict[str, Callable[[sysgenid.Watcher], object]] = {
    "wait": lambda watcher: watcher.wait(5),
    "try_changed": lambda watcher: watcher.try_changed(),
    "acknowledge": lambda watcher: telling.acknowledge(watcher),
    "handle": lambda watcher: telling.handle(watcher, print, 5),
    "iter": lambda watcher: next(iter(watcher)),
    "set_tracking": lambda watcher: watcher.set_tracking(True),
}


def test_a_watcher_is_its_parents(source: str, trigger: support.Trigger) -> None:
    with sysgenid.Watcher(source) as watcher:
        generation = trigger()

        def child() -> None:
            for use in USES.values():
                with pytest.raises(sysgenid.ForkedError, match="reopen"):
                    use(watcher)
            # These only look.
            assert watcher.generation == generation
            assert not watcher.closed

        in_child(child)
        # The child has acknowledged nothing.
        assert telling.wait(watcher, 0) == generation


def test_an_orchestrator_is_its_parents(orchestrator: sysgenid.Orchestrator) -> None:
    uses: list[Callable[[], object]] = [
        orchestrator.trigger,
        lambda: orchestrator.acknowledge(1),
        orchestrator.try_changed,
        lambda: orchestrator.wait(5),
        lambda: orchestrator.wait_for_watchers(5),
        lambda: orchestrator.settle(5),
        orchestrator.stragglers,
    ]
    before = orchestrator.generation

    def child() -> None:
        for use in uses:
            with pytest.raises(sysgenid.ForkedError):
                use()
        orchestrator.reopen()
        orchestrator.trigger()
        telling.acknowledge(orchestrator)

    in_child(child)
    assert orchestrator.generation != before
    assert orchestrator.try_changed() is not None


def test_a_child_reopens(source: str, orchestrator: sysgenid.Orchestrator) -> None:
    with sysgenid.Watcher(source) as watcher:
        # In its own process there is nothing to do.
        descriptor = watcher.fileno()
        watcher.reopen()
        assert watcher.fileno() == descriptor
        outdated = orchestrator.trigger()

        def child() -> None:
            watcher.reopen()
            # It takes over what its parent had not handled.
            assert telling.wait(watcher, 0) == outdated
            telling.acknowledge(watcher)
            orchestrator.reopen()
            generation = orchestrator.trigger()
            assert telling.wait(watcher, support.patient(5)) == generation
            telling.acknowledge(watcher)

        in_child(child)
        # The parent's is another one, and has missed nothing.
        changed = watcher.wait(0)
        assert changed.generation != outdated
        assert changed.acknowledge()


def test_a_child_that_ends_takes_nothing_away(
    source: str, orchestrator: sysgenid.Orchestrator
) -> None:
    with sysgenid.Watcher(source) as watcher:
        in_child(lambda: None)
        in_child(watcher.close)
        generation = orchestrator.trigger()
        telling.acknowledge(orchestrator)
        with pytest.raises(sysgenid.TimedOutError):
            orchestrator.wait_for_watchers(0.01)
        assert telling.wait(watcher, 0) == generation
        telling.acknowledge(watcher)
        orchestrator.wait_for_watchers(support.patient(5))


def test_a_probe_works_in_a_child(source: str, trigger: support.Trigger) -> None:
    with sysgenid.Watcher(source) as watcher:
        probe = watcher.probe()
        view = memoryview(probe)
        (reader, writer), (ready, go) = os.pipe(), os.pipe()
        child = forking.fork()
        if child == 0:
            os.read(ready, 1)
            os.write(writer, f"{probe.generation} {view[0]}".encode())
            os._exit(0)
        generation = trigger()
        telling.acknowledge(watcher)
        os.write(go, b".")
        assert os.read(reader, 100).decode() == f"{generation} {generation}"
        os.waitpid(child, 0)
        for descriptor in (reader, writer, ready, go):
            os.close(descriptor)


def test_a_fork_is_seen_by_uniqueness() -> None:
    before = sysgenid.uniqueness()
    generation = sysgenid.generation()

    def child() -> None:
        assert sysgenid.uniqueness() != before
        assert sysgenid.uniqueness() == sysgenid.uniqueness()
        assert sysgenid.generation() == generation

    in_child(child)
    assert sysgenid.uniqueness() == before


def test_a_fork_during_calls_of_other_threads(source: str) -> None:
    stopped = threading.Event()
    watcher = sysgenid.Watcher(source)

    def work() -> None:
        while not stopped.is_set():
            with contextlib.suppress(sysgenid.TimedOutError, sysgenid.StaleError):
                telling.handle(watcher, lambda generation: None, 0.001)
            sysgenid.status(source)
            sysgenid.Watcher(source).close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()

    def child() -> None:
        # No lock that one of those threads held is locked for ever.
        watcher.reopen()
        with pytest.raises(sysgenid.TimedOutError):
            watcher.wait(0)
        sysgenid.status(source, support.patient(10))
        sysgenid.uniqueness()
        watcher.close()

    try:
        for _ in range(30):
            in_child(child)
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
        watcher.close()


def forked_worker(watcher: sysgenid.Watcher) -> str:
    try:
        watcher.try_changed()
    except sysgenid.ForkedError:
        watcher.reopen()
    return str(watcher.try_changed())


def own_worker(source: str) -> int:
    with sysgenid.Watcher(source) as watcher:
        return watcher.generation


_inherited: sysgenid.Watcher | None = None


def inheriting_worker(_: int) -> str:
    assert _inherited is not None
    return forked_worker(_inherited)


def test_a_pool_that_forks(source: str) -> None:
    global _inherited
    _inherited = sysgenid.Watcher(source)
    with (
        forking.warned_of_threads() as check,
        multiprocessing.get_context("fork").Pool(2) as pool,
    ):
        told = pool.map_async(inheriting_worker, range(4)).get(support.patient(30))
        assert told == ["None"] * 4
        pool.close()
        pool.join()
    check()
    assert _inherited.try_changed() is None
    _inherited.close()
    _inherited = None


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_pool_of_new_processes(source: str, method: str) -> None:
    with multiprocessing.get_context(method).Pool(1) as pool:
        generation = pool.apply_async(own_worker, (source,)).get(support.patient(60))
        with sysgenid.Watcher(source) as watcher:
            assert generation == watcher.generation
        pool.close()
        pool.join()


def test_a_watcher_is_not_sent_to_a_new_process(source: str) -> None:
    with sysgenid.Watcher(source) as watcher:
        process = multiprocessing.get_context("spawn").Process(
            target=forked_worker, args=(watcher,)
        )
        with pytest.raises(TypeError, match="open one in the other process"):
            process.start()


def test_a_program_that_is_started_inherits_nothing(source: str) -> None:
    with sysgenid.Watcher(source) as watcher:
        program = f"import os; os.fstat({watcher.fileno()})"
        told = subprocess.run(
            [sys.executable, "-c", program],
            close_fds=False,
            capture_output=True,
            text=True,
            timeout=support.patient(30),
        )
        assert "Bad file descriptor" in told.stderr


def test_a_process_ends_in_the_middle_of_waits(source: str) -> None:
    program = (
        "import sys, threading, sysgenid\n"
        "watcher = sysgenid.Watcher(sys.argv[1])\n"
        "for _ in range(4):\n"
        "    threading.Thread(target=watcher.wait, args=(None,), daemon=True).start()\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, source],
        capture_output=True,
        text=True,
        timeout=support.patient(30),
    )
    assert (told.returncode, told.stderr) == (0, "")


def lose_the_advice() -> None:
    """Does what CRIU before 4.2 does to this process: its children's memory is not emptied."""
    keep_on_fork = 19
    libc = ctypes.CDLL(None, use_errno=True)
    lost = 0
    start = end = 0
    with open("/proc/self/smaps") as maps:
        for line in maps:
            first, *others = line.split()
            # Not those that the kernel may drop as well: the C library's, for its random numbers.
            if first == "VmFlags:" and "wf" in others and "dp" not in others:
                address, length = ctypes.c_void_p(start), ctypes.c_size_t(end - start)
                assert libc.madvise(address, length, keep_on_fork) == 0, ctypes.get_errno()
                lost += 1
            elif "-" in first:
                start, end = (int(number, 16) for number in first.split("-"))
    assert lost > 0, "there is a page that the kernel empties"


def test_a_fork_is_seen_where_the_kernel_empties_no_memory(source: str) -> None:
    """As in a process that was restored."""
    guard = sysgenid.Guarded(os.getpid)
    rng = sysgenid.random.Random(42)

    def restored() -> None:
        with sysgenid.Watcher(source) as watcher:
            sysgenid.trigger(source)
            assert guard.get() == os.getpid()
            before = sysgenid.uniqueness()
            rng.seed(42)
            state = rng.getstate()
            lose_the_advice()

            def child() -> None:
                assert guard.get() == os.getpid()
                assert not before.is_current()
                assert rng.getstate() != state
                for use in USES.values():
                    with pytest.raises(sysgenid.ForkedError):
                        use(watcher)

            in_child(child)
            assert watcher.try_changed() is not None
            assert rng.getstate() == state

    in_child(restored)
