# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What is opened and dropped often leaves nothing behind.

SYSGENID_TEST_OPENINGS says how often watchers are opened and closed.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import support
import sysgenid
import telling

OPENINGS = int(
    os.environ.get("SYSGENID_TEST_OPENINGS", "20000" if support.PATIENCE == 1 else "1000")
)

#: How often the other operations are done: as often as shows a leak of a few bytes each.
REPETITIONS = 2000 if support.PATIENCE == 1 else 200

#: An interpreter's own tables grow a little now and then: by so many objects in all, or KiB. A leak
#: is one object each time, at least.
OBJECTS, KIB = REPETITIONS // 2, 1024


class Possessions:
    """What this process has."""

    def __init__(self) -> None:
        gc.collect()
        self.descriptors = sorted(os.listdir("/proc/self/fd"))
        self.threads = len(os.listdir("/proc/self/task"))
        self.mappings = len(Path("/proc/self/maps").read_text().splitlines())
        self.objects = sys.getallocatedblocks()
        status = Path("/proc/self/status").read_text()
        self.resident = int(status.partition("VmRSS:")[2].split()[0])

    def __repr__(self) -> str:
        return (
            f"{len(self.descriptors)} descriptors, {self.threads} threads, "
            f"{self.mappings} mappings, {self.objects} objects, {self.resident} KiB"
        )


def check(before: Possessions, after: Possessions) -> None:
    told = f"before: {before}; after: {after}"
    assert after.descriptors == before.descriptors, told
    assert after.threads == before.threads, told
    # The allocator may map another arena.
    assert after.mappings <= before.mappings + 4, told
    assert after.objects <= before.objects + OBJECTS, told
    assert after.resident <= before.resident + KIB, told


def expect_nothing_left(work: Callable[[], None]) -> None:
    """A leak shows each time. That a table of the interpreter grows shows once."""
    for is_last in (False, False, True):
        before = Possessions()
        work()
        try:
            check(before, Possessions())
        except AssertionError:
            if is_last:
                raise
        else:
            return


def open_and_close(source: str) -> None:
    sysgenid.Watcher(source).close()


def test_watchers_that_are_opened_and_closed(
    source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(1000):
        open_and_close(source)
    watchers = sysgenid.status(source).watchers
    before = Possessions()
    begun = time.monotonic()
    for _ in range(OPENINGS):
        open_and_close(source)
    passed = time.monotonic() - begun
    after = Possessions()
    with capsys.disabled():
        print(f"\n{OPENINGS} watchers opened and closed in {passed:.0f} s; {before} -> {after}")
    check(before, after)
    # The other side has closed them, too.
    assert watchers is not None

    def are_gone() -> bool:
        now = sysgenid.status(source).watchers
        return now is not None and now.total == watchers.total

    support.eventually(are_gone, "the source keeps watchers")


class Failure(Exception):
    """A callback's own."""


def fail(generation: int) -> None:
    raise Failure(generation)


def changed(use: Callable[[sysgenid.Watcher], object]) -> Callable[[str], None]:
    """Uses a watcher that is outdated."""

    def operation(source: str) -> None:
        # Not by the watcher itself, which stays open if what is done with it fails.
        opened = contextlib.closing(sysgenid.Watcher(source))
        with opened as watcher, sysgenid.Orchestrator(source) as orchestrator:
            orchestrator.trigger()
            use(watcher)

    return operation


def failing(error: type[BaseException], use: Callable[[str], object]) -> Callable[[str], None]:
    def operation(source: str) -> None:
        with pytest.raises(error):
            use(source)

    return operation


def settle_in_vain(source: str) -> None:
    hook = sysgenid.after_restore(lambda change: fail(change.generation))
    try:
        with sysgenid.Orchestrator(source) as orchestrator:
            orchestrator.trigger()
            orchestrator.settle(0)
    finally:
        hook.remove()


def wait_and_acknowledge(watcher: sysgenid.Watcher) -> None:
    watcher.wait(0)
    telling.acknowledge(watcher)


OPERATIONS: dict[str, Callable[[str], object]] = {
    "a watcher that is dropped": lambda source: sysgenid.Watcher(source),
    "an orchestrator": lambda source: sysgenid.Orchestrator(source).close(),
    "a probe": lambda source: sysgenid.Watcher(source).probe().generation,
    "a view of a probe": lambda source: memoryview(sysgenid.Watcher(source).probe())[0],
    "status": lambda source: sysgenid.status(source).watchers,
    "protection": lambda _: sysgenid.protection().sources,
    "generation": lambda _: sysgenid.generation(),
    "uniqueness": lambda _: sysgenid.uniqueness() == sysgenid.uniqueness(),
    "refresh": lambda _: sysgenid.refresh(),
    "repr": lambda source: repr(sysgenid.Watcher(source)),
    "a change": changed(wait_and_acknowledge),
    "a change that is handled": changed(
        lambda watcher: telling.handle(watcher, lambda generation: None, 0)
    ),
    "a change in a loop": changed(lambda watcher: next(iter(watcher))),
    "nothing there": failing(FileNotFoundError, lambda source: sysgenid.Watcher(source + "/none")),
    "a closed watcher": changed(lambda watcher: contextlib.closing(watcher).__exit__()),
    "a callback that raises": failing(
        Failure, changed(lambda watcher: telling.handle(watcher, fail, 0))
    ),
    "an acknowledgement that is stale": failing(
        sysgenid.StaleError, lambda source: sysgenid.Orchestrator(source).acknowledge(12345)
    ),
    "a wait that times out": failing(
        TimeoutError, lambda source: sysgenid.Watcher(source).wait(0.000001)
    ),
    "an argument that is wrong": failing(
        TypeError,
        lambda source: sysgenid.Watcher(source).wait("1"),  # type: ignore[arg-type]
    ),
    "stragglers": changed(lambda watcher: sysgenid.Orchestrator(watcher.path).stragglers()),
    "settling with a callback that raises": failing(sysgenid.HookError, settle_in_vain),
}


#: A driver of the v5 dialect has no page for the process.
V6_ONLY = {"refresh"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.v6_only) if name in V6_ONLY else name
        for name in OPERATIONS
    ],
)
def test_operations_leave_nothing_behind(name: str, source: str) -> None:
    operation = OPERATIONS[name]

    def repeat(times: int) -> None:
        for _ in range(times):
            operation(source)

    repeat(REPETITIONS // 4)
    expect_nothing_left(lambda: repeat(REPETITIONS))


def test_nothing_holds_on_to_a_callback(source: str, trigger: support.Trigger) -> None:
    failure = Failure()

    def callback(change: object) -> None:
        raise failure

    def fail_in_vain(times: int) -> None:
        for _ in range(times):
            with contextlib.suppress(Failure):
                telling.handle(watcher, callback, 0)
            hook = sysgenid.after_restore(callback)
            with contextlib.suppress(sysgenid.HookError):
                orchestrator.settle(0)
            hook.remove()
            next(iter(watcher))

    opened = contextlib.closing(sysgenid.Watcher(source))
    with opened as watcher, sysgenid.Orchestrator(source) as orchestrator:
        trigger()
        fail_in_vain(1)
        failure.__traceback__ = None
        counts = [sys.getrefcount(it) for it in (callback, failure, watcher, orchestrator)]
        fail_in_vain(100)
        failure.__traceback__ = None
        gc.collect()
        assert [sys.getrefcount(it) for it in (callback, failure, watcher, orchestrator)] == counts


def test_a_view_holds_one_reference(source: str) -> None:
    with sysgenid.Watcher(source) as watcher:
        probe = watcher.probe()

    def references() -> int:
        # In one place, because what an expression holds differs between versions.
        return sys.getrefcount(probe)

    count = references()
    views = [memoryview(probe) for _ in range(10)]
    assert references() == count + 10
    for view in views:
        view.release()
    assert references() == count
    for _ in range(10):
        with pytest.raises(TypeError):
            memoryview(probe)[0] = 1  # type: ignore[index, unused-ignore]
    gc.collect()
    assert references() == count


def test_python_allocates_nothing_that_stays(source: str) -> None:
    def work() -> None:
        for _ in range(REPETITIONS):
            open_and_close(source)

    work()
    tracemalloc.start()
    try:
        work()
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        work()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # One byte each would be more.
    assert after - before < REPETITIONS
