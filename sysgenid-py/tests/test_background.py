# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The thread that runs the hooks."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator

import pytest
import sysgenid
from forking import in_child
from support import Broker, eventually, patient
from sysgenid import _native, hooks


@pytest.fixture(autouse=True)
def _none_is_left() -> Iterator[None]:
    assert _native.registered_hooks() == []
    yield
    for hook in _native.registered_hooks():
        hooks.unregister(hook)
    assert not [thread for thread in threading.enumerate() if thread.name == "sysgenid-watch"]


def acknowledged(orchestrator: sysgenid.Orchestrator, timeout: float = 10) -> None:
    orchestrator.acknowledge()
    orchestrator.wait_for_watchers(patient(timeout))


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_it_runs_the_hooks_and_acknowledges(orchestrator: sysgenid.Orchestrator) -> None:
    seen: list[int] = []
    sysgenid.after_restore(seen.append)
    with sysgenid.watch_in_background() as background:
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
    background = sysgenid.watch_in_background()
    assert "generation" in repr(background)
    assert background.stop(patient(10))
    assert background.stop()
    assert descriptors() == before
    orchestrator.trigger()
    acknowledged(orchestrator)  # nobody waits for it any more


def test_there_is_one(broker: Broker) -> None:
    with sysgenid.watch_in_background() as background:
        assert sysgenid.watch_in_background() is background
        with pytest.raises(RuntimeError, match="runs already"):
            sysgenid.watch_in_background(tracked=False)
        with pytest.raises(RuntimeError, match="stop that one"):
            sysgenid.watch_in_background(broker.source)
    with sysgenid.watch_in_background(broker.source) as another:
        assert another is not background
        assert another.path == broker.source


def test_errors_of_opening_are_the_callers() -> None:
    with pytest.raises(sysgenid.AbsentError):
        sysgenid.watch_in_background("/nonexistent/sysgenid")


def test_a_change_whose_hook_fails_is_not_acknowledged_and_is_tried_again(
    orchestrator: sysgenid.Orchestrator, caplog: pytest.LogCaptureFixture
) -> None:
    may_succeed = threading.Event()
    attempts: list[int] = []

    @sysgenid.after_restore
    def reseed(generation: int) -> None:
        attempts.append(generation)
        if not may_succeed.is_set():
            raise OSError("no entropy")

    with sysgenid.watch_in_background() as background:
        generation = orchestrator.trigger()
        orchestrator.acknowledge()
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


def test_another_generation_is_tried_at_once(
    orchestrator: sysgenid.Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysgenid.background._FIRST_PAUSE", 3600.0)
    monkeypatch.setattr("sysgenid.background._LONGEST_PAUSE", 3600.0)
    failing: list[int] = []
    seen: list[int] = []

    @sysgenid.after_restore
    def reseed(generation: int) -> None:
        if not failing:
            failing.append(generation)
            raise OSError
        seen.append(generation)

    with sysgenid.watch_in_background():
        orchestrator.trigger()
        eventually(lambda: bool(failing), "the failure")
        generation = orchestrator.trigger()
        acknowledged(orchestrator)
        eventually(lambda: seen == [generation], "the next generation")


def test_a_hook_cannot_end_the_thread(orchestrator: sysgenid.Orchestrator) -> None:
    ended: list[int] = []

    @sysgenid.after_restore
    def leave(generation: int) -> None:
        if not ended:
            ended.append(generation)
            sys.exit("goodbye")

    with sysgenid.watch_in_background() as background:
        orchestrator.trigger()
        acknowledged(orchestrator)
        assert background.alive
    assert len(ended) == 1


def test_a_hook_may_stop_it(orchestrator: sysgenid.Orchestrator) -> None:
    stopped: list[bool] = []
    background = sysgenid.watch_in_background()
    sysgenid.after_restore(lambda generation: stopped.append(background.stop()))
    orchestrator.trigger()
    eventually(lambda: not background.alive, "the end of the thread")
    assert stopped == [False], "it runs still"


def test_a_broker_that_is_restarted_is_watched_again(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sysgenid")
    seen: list[int] = []
    sysgenid.after_restore(seen.append)
    with sysgenid.watch_in_background(broker.source) as background:
        broker.kill()
        eventually(lambda: isinstance(background.error, sysgenid.LostError), "the loss")
        assert background.alive
        broker.start()
        with sysgenid.Orchestrator(broker.source) as orchestrator:
            generation = orchestrator.trigger()
            eventually(lambda: seen == [generation], "the change after the restart")
            acknowledged(orchestrator)
        eventually(lambda: background.error is None, "all is well")
    levels = [record.levelno for record in caplog.records]
    assert levels[0] == logging.WARNING
    assert levels[-1] == logging.INFO
    assert levels.count(logging.WARNING) == 1, "it is not said at each attempt"


def test_it_stops_while_it_waits_for_a_broker(broker: Broker) -> None:
    with sysgenid.watch_in_background(broker.source) as background:
        broker.kill()
        eventually(lambda: background.error is not None, "the loss")
        time.sleep(0.5)  # until the pauses are long
        assert background.stop(patient(1))


# Forks


def test_a_child_has_none(orchestrator: sysgenid.Orchestrator) -> None:
    with sysgenid.watch_in_background() as background:
        before = descriptors()

        def look() -> tuple[bool, bool, bool]:
            # The child's copies are closed: they would keep the parent's watcher open.
            kept = before & descriptors()
            return background.alive, background.stop(), len(kept) < len(before)

        assert in_child(look) == (False, True, True)
        assert background.alive
        orchestrator.trigger()
        acknowledged(orchestrator)


def test_a_child_may_have_one_and_misses_nothing(orchestrator: sysgenid.Orchestrator) -> None:
    seen: list[int] = []
    sysgenid.after_restore(seen.append)

    def watch() -> list[int]:
        # A change that comes before the child has a watcher of its own.
        with sysgenid.Orchestrator() as another:
            generation = another.trigger()
            with sysgenid.watch_in_background() as background:
                eventually(lambda: background.generation == generation, "the first change")
                generation = another.trigger()
                eventually(lambda: background.generation == generation, "the second change")
        return [generation - number for number in seen]

    with sysgenid.watch_in_background():
        assert in_child(watch) == [1, 0]


def test_each_child_starts_one_if_the_program_says_so() -> None:
    script = """
        import os, sysgenid
        os.register_at_fork(after_in_child=sysgenid.watch_in_background)
        sysgenid.watch_in_background()
        if os.fork() == 0:
            os._exit(42 if sysgenid.watch_in_background().alive else 1)
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
    start = "import sys, threading, time, sysgenid; watch = sysgenid.watch_in_background();"
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
        def never(generation):
            running.set()
            threading.Event().wait()

        sysgenid.watch_in_background()
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
        def slow(generation):
            running.set()
            time.sleep(0.2)
            print("handled", flush=True)

        sysgenid.watch_in_background()
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
            sysgenid.after_restore(lambda generation: None)
            sysgenid.watch_in_background()
            orchestrator = sysgenid.Orchestrator()
            def change():
                for _ in range(10000):
                    orchestrator.trigger()
            threading.Thread(target=change, daemon=True).start()
            """
        )
        assert (out, err, code) == ("", "", 0)
