# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`python -m sysgenid serve`: a broker that needs no command of Rust's."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import support
import sysgenid
from support import patient

#: Each test serves a directory of its own.
pytestmark = pytest.mark.broker_only


@contextlib.contextmanager
def served(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A broker that has said that it serves, killed at the end if it has not ended."""
    with subprocess.Popen(
        [sys.executable, "-m", "sysgenid", "serve", "--dir", str(folder), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def end(process: subprocess.Popen[str]) -> str:
    """Waits for its end, and returns what it said on its standard error."""
    _, errors = process.communicate(timeout=patient(20))
    return errors


def test_it_serves_watchers_and_says_where(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    with served(folder) as process:
        line = first_line(process)
        assert line.startswith(f"serving generation 0 in {folder}, with room for ")
        with sysgenid.Watcher(folder) as watcher, sysgenid.Orchestrator(folder) as orchestrator:
            assert orchestrator.trigger() == 1
            change = watcher.wait(patient(10))
            assert change.generation == 1
            assert [straggler.pid for straggler in orchestrator.stragglers()] == [os.getpid()]
            assert change.acknowledge()
            assert orchestrator.settle(patient(10)).generation == 1
        assert process.stdout is not None
        process.send_signal(signal.SIGTERM)
        assert f"export SYSGENID_SOURCE='{folder}'" in process.stdout.read()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_ends_it_in_order(tmp_path: Path, signum: signal.Signals) -> None:
    with served(tmp_path / "served") as process:
        assert first_line(process)
        with sysgenid.Watcher(tmp_path / "served") as watcher:
            process.send_signal(signum)
            assert end(process) == ""
            assert process.returncode == 0
            with pytest.raises(sysgenid.LostError):
                watcher.wait(patient(10))
    left = {path.name for path in (tmp_path / "served").iterdir()}
    assert "page" in left
    assert not {"watch.sock", "control.sock"} & left


def test_the_generation_goes_on_in_the_next_one(tmp_path: Path) -> None:
    folder = tmp_path / "served"
    with served(folder) as process:
        assert first_line(process)
        assert sysgenid.trigger(folder) == 1
        process.send_signal(signal.SIGTERM)
        end(process)
    with served(folder) as process:
        assert first_line(process).startswith("serving generation 1 ")


def test_it_ends_with_its_input_if_it_is_to(tmp_path: Path) -> None:
    with served(tmp_path / "served", "--until-eof") as process:
        assert first_line(process)
        assert process.poll() is None
        assert end(process) == ""
        assert process.returncode == 0


#: A broker that does not end.
HANGING = """
    import threading
    from types import SimpleNamespace
    from sysgenid import _serve

    class Server:
        def __init__(self, directory):
            self.directory, self.capacity = directory, 10**6

        def run(self, warn):
            threading.Event().wait()

        def stop(self):
            print("stopping", flush=True)

    class Probe:
        def __init__(self, path):
            self.generation = 0

    _serve._native = SimpleNamespace(Server=Server, Probe=Probe)
    _serve.serve("/", until_eof=False)
"""


def test_a_second_signal_ends_it_at_once() -> None:
    program = [sys.executable, "-c", textwrap.dedent(HANGING)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert first_line(process)
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        assert any(line == "stopping\n" for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        assert process.wait(patient(20)) == -signal.SIGTERM


def test_what_cannot_be_served(tmp_path: Path) -> None:
    folder = tmp_path / "served"
    with served(folder) as process:
        assert first_line(process)
        with served(folder) as other:
            assert "another broker serves this directory" in end(other)
            assert other.returncode == 1
    with served(tmp_path / "no" / "parent") as process:
        errors = end(process)
        assert process.returncode == 1
        assert errors.startswith("sysgenid: ")
        assert errors.count("\n") == 1


def test_its_words_are_those_of_the_command(tmp_path: Path) -> None:
    folder = tmp_path / "served"
    said = []
    ours, theirs = [sys.executable, "-m", "sysgenid"], [str(support.command())]
    for program, options in (ours, []), (theirs, ["--follow", "none"]):
        with subprocess.Popen(
            [*program, "serve", "--dir", str(folder), "--until-eof", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            words, _ = process.communicate(timeout=patient(20))
            # How many descriptors are open already is a process's own.
            said.append([word for word in words.split() if not word.isdigit()])
    assert said[0] == said[1]
