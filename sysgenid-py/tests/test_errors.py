# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Errors say what to do; those of the system have its number and the source."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import support
import sysgenid
import telling

CLASSES = [
    it
    for it in vars(sysgenid.errors).values()
    if isinstance(it, type) and issubclass(it, sysgenid.Error)
]

#: Everything that opens a source by its path.
OPENERS: list[Callable[[str], object]] = [
    sysgenid.Probe,
    sysgenid.Watcher,
    sysgenid.Orchestrator,
    sysgenid.status,
]


#: What the system or a broker refused.
OF_THE_SYSTEM = [it for it in CLASSES if issubclass(it, OSError)]


def test_errors_of_the_program_are_not_of_the_system() -> None:
    others = {it.__name__ for it in CLASSES} - {it.__name__ for it in OF_THE_SYSTEM}
    assert others - {"HookError"} == {
        "Error",
        "ForkedError",
        "MissingError",
        "OutdatedError",
        "ReentrantError",
        "StaleError",
        "UnsettledError",
    }
    assert all(it.__module__ == "sysgenid" for it in CLASSES)
    # `except OSError` around a file does not take what is no file's.
    assert not issubclass(sysgenid.HookError, OSError)


def test_errors_are_also_what_python_has_for_them() -> None:
    assert issubclass(sysgenid.AbsentError, FileNotFoundError)
    assert issubclass(sysgenid.DeniedError, PermissionError)
    assert issubclass(sysgenid.TimedOutError, TimeoutError)
    assert issubclass(sysgenid.LostError, ConnectionError)


@pytest.mark.parametrize("error", CLASSES)
def test_errors_can_be_pickled(error: type[sysgenid.Error]) -> None:
    if error not in OF_THE_SYSTEM:
        copied = pickle.loads(pickle.dumps(error("it failed")))
        assert (type(copied), str(copied)) == (error, "it failed")
        return
    raised = error(errno.EIO, "it failed", "/path")
    copy = pickle.loads(pickle.dumps(raised))
    assert type(copy) is error
    assert isinstance(copy, OSError)
    assert (copy.errno, copy.strerror, copy.filename) == (errno.EIO, "it failed", "/path")


@pytest.mark.parametrize("opener", OPENERS)
def test_an_absent_source(opener: Callable[[str], object], tmp_path: Path) -> None:
    path = str(tmp_path / "absent")
    with pytest.raises(sysgenid.AbsentError) as caught:
        opener(path)
    assert caught.value.errno == errno.ENOENT
    assert caught.value.filename == path
    assert caught.value.strerror
    assert path in str(caught.value)


@pytest.mark.parametrize("opener", OPENERS)
def test_something_else_is_there(opener: Callable[[str], object], tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (str(fifo), "/dev/null"):
        with pytest.raises(sysgenid.WrongKindError) as caught:
            opener(path)
        assert caught.value.filename == path
        assert caught.value.errno


def test_a_probe_of_an_empty_file(tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.touch()
    with pytest.raises(sysgenid.BrokenError) as caught:
        sysgenid.Probe(str(page))
    assert caught.value.filename == str(page)


def test_a_page_file_has_no_watchers(tmp_path: Path, broker: support.Broker) -> None:
    page = str(tmp_path / "copy")
    shutil.copy(broker.folder / "page", page)
    for opener in (sysgenid.Watcher, sysgenid.Orchestrator):
        with pytest.raises(sysgenid.UnsupportedError) as caught:
            opener(page)
        assert caught.value.errno == errno.EOPNOTSUPP
        assert caught.value.filename == page
    assert sysgenid.Probe(page).kind == "page-file"


def test_a_broker_that_has_ended(broker: support.Broker) -> None:
    broker.stop()
    with pytest.raises(sysgenid.LostError) as caught:
        sysgenid.Watcher(broker.source)
    # The socket that nobody listens to.
    assert Path(caught.value.filename).parent == broker.folder
    # Its number is still there.
    assert sysgenid.Probe(broker.source).generation >= 0


def test_permission_is_denied(broker: support.Broker, tmp_path: Path) -> None:
    # To be somebody else takes root. Without it, we take everything from ourselves.
    nobody = "os.setgid(65534); os.setuid(65534)" if os.getuid() == 0 else "pass"
    script = (
        "import os, sys, sysgenid, sysgenid.errors\n"
        f"{nobody}\n"
        "try:\n"
        "    sysgenid.Watcher(sys.argv[1])\n"
        "except sysgenid.DeniedError as error:\n"
        "    print(error.errno, error.filename)\n"
    )
    for path in (broker.folder, *broker.folder.iterdir()):
        path.chmod(path.stat().st_mode & ~(stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO))
    try:
        told = subprocess.run(
            [sys.executable, "-c", script, broker.source],
            capture_output=True,
            text=True,
            timeout=support.patient(30),
            check=True,
        )
    finally:
        broker.folder.chmod(0o700)
    assert told.stdout.split() == [str(errno.EACCES), broker.source]


@pytest.mark.parametrize("opener", OPENERS)
def test_what_is_no_path(opener: Callable[[object], object]) -> None:
    for path in (3, 3.5, b"/dev/sysgenid", ["/dev/sysgenid"]):
        with pytest.raises(TypeError):
            opener(path)


@pytest.mark.parametrize("opener", OPENERS)
def test_a_path_that_no_file_can_have(opener: Callable[[str], object]) -> None:
    with pytest.raises((ValueError, sysgenid.Error)):
        opener("/dev/sysgenid\0")
    with pytest.raises(sysgenid.Error):
        opener("/dev/" + "x" * 5000)
    with pytest.raises(sysgenid.Error):
        opener("")


def test_a_path_in_no_encoding(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    with pytest.raises(sysgenid.AbsentError) as caught:
        sysgenid.Probe(path)
    assert caught.value.filename == path


def test_paths_are_path_like(source: str) -> None:
    with sysgenid.Watcher(Path(source)) as watcher:
        assert watcher.path == source


def test_a_stale_acknowledgement_tells_the_current_generation(
    orchestrator: sysgenid.Orchestrator,
) -> None:
    triggered = orchestrator.trigger()
    newer = orchestrator.trigger()
    with pytest.raises(sysgenid.StaleError) as caught:
        orchestrator.acknowledge(triggered)
    assert caught.value.current == newer
    # Nothing is acknowledged.
    assert telling.told(orchestrator) == newer
    orchestrator.acknowledge(newer)
    assert orchestrator.try_changed() is None
