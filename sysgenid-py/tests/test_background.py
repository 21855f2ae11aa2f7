# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The thread that runs the hooks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sysgenid
import telling
from forking import in_child
from support import Broker, command, eventually, patient
from sysgenid import _native, hooks


@pytest.fixture(autouse=True)
def _none_is_left() -> Iterator[None]:
    assert registered() == []
    # What other tests have changed is handled.
    sysgenid.run_after_restore()
    yield
    for hook in registered():
        hook.remove()
    eventually(lambda: "sysgenid-watch" not in native_threads(), "the end of the thread")


def registered() -> list[hooks.Hook[..., object]]:
    """The hooks of the test."""
    return [hook for hook in _native.registered_hooks() if isinstance(hook, hooks.Hook)]


@pytest.fixture
def found(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Broker:
    """A broker for this test alone, which is the one that is found."""
    monkeypatch.setenv("SYSGENID_SOURCE", broker.source)
    return broker


def native_threads() -> list[str]:
    """The names of this process's threads, Python's and others."""
    names = []
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/self/task/{thread}/comm") as name:
            names.append(name.read().strip())
    return names


def acknowledged(orchestrator: sysgenid.Orchestrator, timeout: float = 10) -> None:
    telling.acknowledge(orchestrator)
    orchestrator.wait_for_watchers(patient(timeout))


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_it_runs_the_hooks_and_acknowledges(orchestrator: sysgenid.Orchestrator) -> None:
    seen: list[int] = []
    sysgenid.after_restore(lambda change: seen.append(change.generation))
    with sysgenid.background() as background:
        assert background.alive
        assert background.path == orchestrator.path
        for _ in range(3):
            generation = orchestrator.trigger()
            acknowledged(orchestrator)
            assert seen[-1] == generation
            eventually(lambda: background.generation == seen[-1], "the number")
        assert background.error is None
    assert not background.alive
    assert len(seen) == 3
    assert repr(background) == f"<sysgenid.Background of {background.path}, stopped>"


def test_it_stops_at_once_and_keeps_nothing_open(orchestrator: sysgenid.Orchestrator) -> None:
    before = descriptors()
    background = sysgenid.background()
    eventually(lambda: "sysgenid-watch" in native_threads(), "the thread")
    assert "generation" in repr(background)
    assert background.stop(patient(10))
    assert background.stop()
    assert descriptors() == before
    orchestrator.trigger()
    acknowledged(orchestrator)  # nobody waits for it any more


def test_there_is_one_and_it_stops_when_all_have_given_it_back(
    orchestrator: sysgenid.Orchestrator,
) -> None:
    program = sysgenid.background()
    with sysgenid.background() as library:
        assert library == program
        with pytest.raises(RuntimeError, match="runs already"):
            sysgenid.background(tracked=False)
    assert program.alive, "another one has it still"
    library.stop()
    assert program.alive, "it was given back before"
    orchestrator.trigger()
    acknowledged(orchestrator)

    async def main() -> None:
        async with sysgenid.background() as another:
            assert another == program

    asyncio.run(main())
    assert program.alive
    assert program.stop(patient(10))
    assert not program.alive
    with sysgenid.background() as later:
        assert later != program


def test_one_that_is_about_to_end_is_not_handed_out(orchestrator: sysgenid.Orchestrator) -> None:
    running, released = threading.Event(), threading.Event()
    seen: list[int] = []

    @sysgenid.after_restore
    def hangs(change: sysgenid.Change) -> None:
        seen.append(change.generation)
        if len(seen) == 1:
            running.set()
            released.wait(patient(20))

    ending = sysgenid.background()
    orchestrator.trigger()
    assert running.wait(patient(20))
    assert not ending.stop(0.05)
    with sysgenid.background() as another:
        assert another != ending
        assert another.alive
        released.set()
        eventually(lambda: not ending.alive, "the end of the first")
        generation = orchestrator.trigger()
        acknowledged(orchestrator)
        assert another.alive
        assert seen[-1] == generation


# A process has no page there, so nothing shows what came before the thread.
@pytest.mark.v6_only
def test_a_change_before_the_thread_starts_is_not_missed(
    orchestrator: sysgenid.Orchestrator,
) -> None:
    seen: list[int] = []
    sysgenid.after_restore(lambda change: seen.append(change.generation))
    generation = orchestrator.trigger()
    with sysgenid.background():
        eventually(lambda: seen == [generation], "the change before")
        acknowledged(orchestrator)
    # One that came while none ran, too; and none that was handled.
    generation = orchestrator.trigger()
    with sysgenid.background():
        eventually(lambda: seen[1:] == [generation], "the change between")
        acknowledged(orchestrator)
    with sysgenid.background():
        sysgenid.after_restore(lambda: None)
        generation = orchestrator.trigger()
        acknowledged(orchestrator)
    assert seen[2:] == [generation]


def test_hooks_are_told_of_the_change(found: Broker) -> None:
    told: list[tuple[object, ...]] = []

    @sysgenid.after_restore
    async def look(change: sysgenid.Change) -> None:
        told.append((change.generation, change.previous, change.source, change.cause))

    with sysgenid.background():
        sysgenid.trigger(found.source)
        eventually(lambda: len(told) == 1, "the change")
    assert told == [(1, 0, found.source, "trigger")]


def test_a_hook_that_hangs_is_named_with_its_stack(
    orchestrator: sysgenid.Orchestrator, caplog: pytest.LogCaptureFixture
) -> None:
    released = threading.Event()
    seen: list[int] = []

    def wait_for_what_never_comes() -> None:
        released.wait(patient(60))

    @sysgenid.after_restore
    def hangs() -> None:
        wait_for_what_never_comes()

    sysgenid.after_restore(lambda: seen.append(1))
    with sysgenid.background(hook_timeout=0.1) as background:
        orchestrator.trigger()
        eventually(lambda: background.error is not None, "its timeout")
        assert seen, "it keeps no other from running"
        eventually(lambda: "hangs failed" in caplog.text, "the log")
        assert "wait_for_what_never_comes" in caplog.text
        released.set()
        acknowledged(orchestrator)


def test_it_works_where_the_standard_library_is_patched() -> None:
    # As eventlet does it, with which `select.poll` is gone.
    out, err, code = run(
        """
        import select
        for name in ("poll", "epoll", "devpoll", "kqueue"):
            if hasattr(select, name):
                delattr(select, name)
        import selectors
        selectors.DefaultSelector = selectors.SelectSelector
        import time, sysgenid
        seen = []
        sysgenid.after_restore(lambda change: seen.append(change.generation))
        with sysgenid.background(), sysgenid.Orchestrator() as orchestrator:
            generation = orchestrator.trigger()
            orchestrator.settle(20)
            print(seen[0] == generation)
        """
    )
    assert (out, err, code) == ("True\n", "", 0)


@pytest.mark.broker_only
def test_a_source_that_appears_is_watched_and_counts_as_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    sysgenid.after_restore(lambda change: seen.append(change.generation))
    folder = tmp_path / "served"
    monkeypatch.setenv("SYSGENID_SOURCE", str(folder))
    with sysgenid.background(look_every=0.01) as background:
        assert background.alive
        assert not background.watching
        assert (background.generation, background.path) == (None, None)
        assert repr(background) == "<sysgenid.Background of no source, waiting>"
        broker = Broker(folder)
        try:
            eventually(lambda: len(seen) == 1 and background.watching, "the appearance")
            with sysgenid.Orchestrator(broker.source) as orchestrator:
                generation = orchestrator.trigger()
                eventually(lambda: seen[-1] == generation, "the change")
        finally:
            broker.stop()


def test_a_change_whose_hook_fails_is_not_acknowledged_and_is_tried_again(
    orchestrator: sysgenid.Orchestrator, caplog: pytest.LogCaptureFixture
) -> None:
    may_succeed = threading.Event()
    attempts: list[int] = []

    @sysgenid.after_restore
    def reseed(change: sysgenid.Change) -> None:
        attempts.append(change.generation)
        if not may_succeed.is_set():
            raise OSError("no entropy")

    with sysgenid.background() as background:
        generation = orchestrator.trigger()
        telling.acknowledge(orchestrator)
        with pytest.raises(sysgenid.TimedOutError):
            orchestrator.wait_for_watchers(0.5)
        assert isinstance(background.error, sysgenid.HookError)
        assert background.generation != generation
        eventually(lambda: len(attempts) >= 2, "another attempt")
        may_succeed.set()
        acknowledged(orchestrator)
        eventually(lambda: background.error is None, "all is well")
        assert background.generation == generation
    assert set(attempts) == {generation}
    # asyncio may log what other tests have left behind.
    record = next(record for record in caplog.records if record.name == "sysgenid")
    assert record.levelno == logging.ERROR
    assert "reseed failed" in record.getMessage()
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "no entropy"


def test_another_generation_is_tried_at_once(orchestrator: sysgenid.Orchestrator) -> None:
    seen: list[int] = []

    @sysgenid.after_restore
    def reseed(change: sysgenid.Change) -> None:
        seen.append(change.generation)
        if change.generation == seen[0]:
            raise OSError

    with sysgenid.background():
        orchestrator.trigger()
        # The pauses between attempts grow to half a minute.
        eventually(lambda: len(seen) >= 4, "some attempts")
        generation = orchestrator.trigger()
        acknowledged(orchestrator)
        assert seen[-1] == generation


def test_a_hook_cannot_end_the_thread_nor_starve_others(
    orchestrator: sysgenid.Orchestrator,
) -> None:
    seen: list[int] = []
    sysgenid.after_restore(lambda: sys.exit("goodbye"))
    sysgenid.after_restore(lambda: seen.append(1))
    with sysgenid.background() as background:
        orchestrator.trigger()
        eventually(lambda: len(seen) >= 2, "the other hook, at each attempt")
        assert background.alive
        assert isinstance(background.error, sysgenid.HookError)


def test_a_hook_may_stop_it(orchestrator: sysgenid.Orchestrator) -> None:
    stopped: list[bool] = []
    background = sysgenid.background()
    sysgenid.after_restore(lambda: stopped.append(background.stop()))
    orchestrator.trigger()
    eventually(lambda: not background.alive, "the end of the thread")
    assert stopped == [False], "it runs still"


def test_a_broker_that_is_restarted_is_watched_again(
    found: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sysgenid")
    seen: list[int] = []
    sysgenid.after_restore(lambda change: seen.append(change.generation))
    with sysgenid.background() as background:
        found.kill()
        eventually(lambda: not background.watching, "the loss")
        assert background.alive
        found.start()
        with sysgenid.Orchestrator(found.source) as orchestrator:
            generation = orchestrator.trigger()
            eventually(lambda: seen == [generation], "the change after the restart")
            acknowledged(orchestrator)
        assert background.watching
        eventually(lambda: levels_of(caplog)[-1] == logging.INFO, "the log")
    levels = levels_of(caplog)
    assert levels[0] == logging.WARNING
    assert levels[-1] == logging.INFO
    assert levels.count(logging.WARNING) == 1, "it is not said at each attempt"


def levels_of(caplog: pytest.LogCaptureFixture) -> list[int]:
    return [record.levelno for record in caplog.records if record.name == "sysgenid"]


def test_a_failure_that_is_ignored_is_logged_and_acknowledged(
    orchestrator: sysgenid.Orchestrator, caplog: pytest.LogCaptureFixture
) -> None:
    @sysgenid.after_restore(on_failure="ignore", timeout=patient(20))
    def warm_up() -> None:
        raise OSError("cold")

    with sysgenid.background() as background:
        orchestrator.trigger()
        acknowledged(orchestrator)
        eventually(lambda: levels_of(caplog) == [logging.WARNING], "the log")
        assert background.error is None
    assert "warm_up failed, which is ignored" in caplog.text


def test_it_stops_while_it_waits_for_a_broker(found: Broker) -> None:
    with sysgenid.background() as background:
        found.kill()
        eventually(lambda: not background.watching, "the loss")
        assert background.stop(patient(1))


# Forks


def test_a_child_has_none(orchestrator: sysgenid.Orchestrator) -> None:
    with sysgenid.background() as background:
        assert in_child(lambda: (background.alive, background.stop())) == (False, True)
        assert background.alive
        orchestrator.trigger()
        acknowledged(orchestrator)


# A driver of the v5 dialect waits for every open file, and tracking cannot be turned off.
@pytest.mark.v6_only
def test_a_childs_copies_hold_nobody_up(orchestrator: sysgenid.Orchestrator) -> None:
    @sysgenid.after_restore
    def fails() -> None:
        raise OSError

    reader, writer = os.pipe()
    with sysgenid.background() as background:
        orchestrator.trigger()
        eventually(lambda: background.error is not None, "the failure")

        def stop_in_the_parent() -> None:
            os.close(writer)
            os.read(reader, 1)

        child = threading.Thread(target=in_child, args=[stop_in_the_parent])
        child.start()
        assert background.stop(patient(10))
        acknowledged(orchestrator)
    os.close(writer)
    child.join()
    os.close(reader)


@pytest.mark.v6_only
def test_a_child_may_have_one_and_misses_nothing(orchestrator: sysgenid.Orchestrator) -> None:
    seen: list[int] = []
    sysgenid.after_restore(lambda change: seen.append(change.generation))

    def watch() -> list[int]:
        # A change that comes before the child has a watcher of its own.
        with sysgenid.Orchestrator() as another:
            generation = another.trigger()
            with sysgenid.background() as background:
                eventually(lambda: background.generation == generation, "the first change")
                generation = another.trigger()
                eventually(lambda: background.generation == generation, "the second change")
        return [generation - number for number in seen]

    with sysgenid.background():
        assert in_child(watch) == [1, 0]


def test_each_child_starts_one_if_the_program_says_so() -> None:
    script = """
        import os, sysgenid
        os.register_at_fork(after_in_child=sysgenid.background)
        sysgenid.background()
        if os.fork() == 0:
            os._exit(42 if sysgenid.background().alive else 1)
        print(os.waitstatus_to_exitcode(os.wait()[1]))
    """
    assert run(script) == ("42\n", "", 0)


# The end of the interpreter


def run(script: str, timeout: float = 20) -> tuple[str, str, int]:
    # Children of a thread: newer interpreters warn of that.
    program = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(script)]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=patient(timeout))
    return ended.stdout, ended.stderr, ended.returncode


@pytest.mark.parametrize(
    ("end", "error", "code"),
    [
        ("pass", "", 0),
        ("sys.exit(3)", "", 3),
        ("raise ValueError", "ValueError", 1),
        ("threading.Thread(target=time.sleep, args=[0.1]).start()", "", 0),
        ("threading.Thread(target=watch.stop).start()", "", 0),
        ("del watch", "", 0),
    ],
)
def test_the_interpreter_ends_whichever_way(end: str, error: str, code: int) -> None:
    start = "import sys, threading, time, sysgenid; watch = sysgenid.background();"
    began = time.monotonic()
    out, err, returned = run(start + end)
    assert (out, returned) == ("", code), err
    assert (error in err) if error else err == ""
    assert time.monotonic() - began < patient(5)


def test_a_hook_that_never_ends_does_not_keep_the_interpreter() -> None:
    out, err, code = run(
        """
        import threading, sysgenid
        running = threading.Event()

        @sysgenid.after_restore
        def never():
            running.set()
            threading.Event().wait()

        sysgenid.background()
        sysgenid.Orchestrator().trigger()
        running.wait(20)
        print("the end", flush=True)
        """
    )
    assert (out, err, code) == ("the end\n", "", 0)


@pytest.mark.parametrize("timeout", ["None", "3600"])
def test_a_hook_that_is_busy_at_the_end_does_not_abort_the_process(timeout: str) -> None:
    out, err, code = run(
        f"""
        import threading, time, sysgenid
        running = threading.Event()

        @sysgenid.after_restore(timeout={timeout})
        def busy():
            running.set()
            while True:
                time.sleep(0.0001)  # asks for the interpreter's lock each time

        sysgenid.background()
        sysgenid.Orchestrator().trigger()
        running.wait(20)
        print("the end", flush=True)
        """
    )
    assert (out, err, code) == ("the end\n", "", 0)


def test_a_hook_that_is_running_may_end_before_the_interpreter() -> None:
    out, err, code = run(
        """
        import threading, time, sysgenid
        running = threading.Event()

        @sysgenid.after_restore
        def slow():
            running.set()
            time.sleep(0.2)
            print("handled", flush=True)

        sysgenid.background()
        sysgenid.Orchestrator().trigger()
        running.wait(20)
        """
    )
    assert (out, err, code) == ("handled\n", "", 0)


def test_the_end_in_the_middle_of_changes() -> None:
    for _ in range(5):
        out, err, code = run(
            """
            import threading, sysgenid
            sysgenid.after_restore(lambda: None)
            sysgenid.background()
            orchestrator = sysgenid.Orchestrator()
            def change():
                for _ in range(10000):
                    orchestrator.trigger()
            threading.Thread(target=change, daemon=True).start()
            """
        )
        assert (out, err, code) == ("", "", 0)


@pytest.mark.broker_only
def test_it_comes_to_rest_before_a_snapshot_and_goes_on_afterwards(
    found: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    broker = found
    log: list[str] = []
    sysgenid.after_restore(lambda change: log.append(f"after {change.generation}"))

    @sysgenid.before_snapshot
    def drain() -> None:
        log.append("before")
        if len(log) == 1:
            raise OSError("a transaction is open")

    def sysgenid_command(name: str) -> None:
        arguments = [name, "--timeout", f"{patient(30)}s", "--source", broker.source]
        program = command()
        assert program is not None
        subprocess.run([program, *arguments], check=True, stdout=subprocess.DEVNULL)

    with sysgenid.background() as background:
        sysgenid_command("quiesce")
        assert log == ["before", "before"]
        sysgenid_command("resume")
        assert log == ["before", "before", "after 0"]
        sysgenid_command("quiesce")
        with sysgenid.Orchestrator(broker.source) as orchestrator:
            orchestrator.trigger()
            acknowledged(orchestrator)
        sysgenid_command("resume")
        assert log[3:] == ["before", "after 1"]
        assert background.error is None
    assert "the process is not at rest before a snapshot: " in caplog.text
    assert "drain failed; it is tried again" in caplog.text
