# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What the tests of others are given: the fixtures in a pytest of their own, and what they are made
of."""

from __future__ import annotations

import os
import pickle
import signal
from pathlib import Path

import pytest
import support
import sysgenid
import telling
from sysgenid import testing
from sysgenid.testing import Broker, ChildError


def test_a_restore_makes_old_what_this_process_has() -> None:
    built = iter(range(10))
    guarded = sysgenid.Guarded(lambda: next(built))
    assert guarded.get() == 0
    for number in range(1, 4):
        before, generation = sysgenid.uniqueness(), sysgenid.generation()
        testing.restore()
        assert not before.is_current()
        assert sysgenid.generation() == generation
        assert guarded.get() == number


def test_a_restore_runs_the_hooks_when_everything_is_old() -> None:
    built = iter(range(10))
    guarded = sysgenid.Guarded(lambda: next(built))
    assert guarded.get() == 0
    seen = []

    @sysgenid.after_restore
    def hook(_: object) -> None:
        seen.append(guarded.get())
        if len(seen) == 2:
            raise ZeroDivisionError

    try:
        testing.restore()
        assert seen == [1]
        with pytest.raises(sysgenid.HookError, match="ZeroDivisionError"):
            testing.restore()
        assert seen == [1, 2]
    finally:
        sysgenid.hooks.unregister(hook)


def test_a_fork_is_a_real_one_and_answers() -> None:
    before = sysgenid.uniqueness()
    assert testing.fork(os.getppid) == os.getpid()
    assert testing.fork(before.is_current) is False
    assert before.is_current()
    assert testing.fork(int, "ff", base=16) == 255
    # More than a pipe holds.
    assert testing.fork(bytes, 1_000_000) == bytes(1_000_000)


def test_a_fork_beside_threads_gives_no_warning() -> None:
    with Broker():
        assert testing.fork(len, "ab") == 2


class Odd(Exception):
    """It can be pickled, and not be unpickled."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} {two}")


def test_what_fails_in_a_fork_fails_here() -> None:
    def fails() -> None:
        raise KeyError("a name")

    def is_odd() -> None:
        raise Odd(1, 2)

    with pytest.raises(ChildError, match="in fails\n") as caught:
        testing.fork(fails)
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(ChildError, match="Odd: 1 2") as caught:
        testing.fork(is_odd)
    assert caught.value.__cause__ is None
    with pytest.raises(ChildError, match="pickle"):
        testing.fork(lambda: lambda: 1)
    with pytest.raises(ChildError, match=r"ended with -9,"):
        testing.fork(lambda: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(ChildError, match=r"ended with 3,"):
        testing.fork(os._exit, 3)


def test_a_fork_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testing, "_FORK_TIMEOUT", 0.2)
    with pytest.raises(TimeoutError):
        testing.fork(signal.pause)


def test_a_broker_serves_a_directory_of_its_own_until_it_is_closed() -> None:
    with Broker() as broker, Broker() as other:
        folder = Path(broker.path)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert broker.path != other.path
        with sysgenid.Watcher(broker.path) as watcher, sysgenid.Watcher(other.path) as idle:
            before = sysgenid.uniqueness()
            assert broker.trigger() == 1
            assert not before.is_current()
            assert telling.wait(watcher, support.patient(10)) == 1
            assert idle.try_changed() is None
    assert broker.closed
    assert not folder.exists()
    broker.close()
    with pytest.raises(ValueError, match="closed"):
        broker.trigger()


def test_a_broker_that_is_restarted_goes_on_with_the_generation() -> None:
    with Broker() as broker, sysgenid.Watcher(broker.path) as watcher:
        assert broker.trigger() == 1
        broker.stop()
        with pytest.raises(OSError, match=r"control\.sock"):
            broker.trigger()
        broker.restart()
        watcher.reconnect(support.patient(10))
        assert broker.trigger() == 2
        assert telling.wait(watcher, support.patient(10)) == 2


def test_a_broker_is_its_processs_own() -> None:
    with Broker() as broker:
        with pytest.raises(TypeError, match="pickled"):
            pickle.dumps(broker)

        def closed_by_a_child() -> bool:
            broker.close()
            return broker.closed

        assert support.in_child(closed_by_a_child)
        assert broker.trigger() == 1


FIXTURES = """
    import os, subprocess, sys
    from pathlib import Path

    import pytest
    import sysgenid

    GENERATION = "import sysgenid; print(sysgenid.generation())"
    OUTSIDE = os.environ.get("SYSGENID_SOURCE")
    SOURCES = sysgenid.protection().sources
    seen = []

    @pytest.fixture
    def key():
        built = iter(range(100))
        return sysgenid.Guarded(lambda: next(built))

    def test_restore(sysgenid_restore, key):
        assert key.get() == key.get() == 0
        sysgenid_restore()
        assert key.get() == 1

    def test_fork(sysgenid_fork, key):
        assert key.get() == 0
        assert sysgenid_fork(key.get) == 1
        assert key.get() == 0

    @pytest.mark.parametrize("number", range(2))
    def test_broker(sysgenid_broker, key, number):
        seen.append(sysgenid_broker.path)
        with sysgenid.Watcher() as watcher:
            assert watcher.path == sysgenid_broker.path
            assert key.get() == 0
            assert sysgenid_broker.trigger() == 1
            assert watcher.wait(60).generation == 1
            assert key.get() == 1
        child = subprocess.run([sys.executable, "-c", GENERATION], capture_output=True, check=True)
        assert int(child.stdout) == 1

    def test_nothing_is_left(key):
        assert os.environ.get("SYSGENID_SOURCE") == OUTSIDE
        assert len(set(seen)) == 2
        assert not any(Path(path).exists() for path in seen)
        assert sysgenid.protection().sources == SOURCES
        assert key.get() == key.get() == 0
"""


def test_the_fixtures_are_there_wherever_the_package_is(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(FIXTURES)
    outcome = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error")
    outcome.assert_outcomes(passed=5)


def test_the_fixtures_can_be_left_out(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(FIXTURES)
    outcome = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:sysgenid")
    outcome.assert_outcomes(errors=4, failed=1)


def test_the_fixtures_document_themselves(pytester: pytest.Pytester) -> None:
    listed = pytester.runpytest_subprocess("--fixtures")
    listed.stdout.fnmatch_lines(["sysgenid_restore*", "sysgenid_fork*", "sysgenid_broker*"])
