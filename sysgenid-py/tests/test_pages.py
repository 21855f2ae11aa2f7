# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The programs on the pages. Each is run, while the generation changes."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sysgenid
from support import Broker, patient

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "docs/src/python.md", "docs/src/python-random.md", "sysgenid-py/README.md"]

#: A program that goes on for ever is ended when it has said this much.
LINES = 3

pytestmark = pytest.mark.broker_only


def programs() -> list[tuple[str, str]]:
    """Of all pages: a name, and the code of a fenced block in Python."""
    found = []
    for page in PAGES:
        path = ROOT / page
        blocks = path.read_text().split("```python\n")[1:] if path.is_file() else []
        for number, block in enumerate(blocks, 1):
            code = block.partition("\n```")[0] + "\n"
            is_for_trio = "import trio" in code
            if not is_for_trio or importlib.util.find_spec("trio") is not None:
                found.append((f"{page}, {number}", code))
    return found


PROGRAMS = dict(programs())


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_runs(name: str, broker: Broker, tmp_path: Path) -> None:
    script, said, complained = (tmp_path / name for name in ("program.py", "said", "complained"))
    script.write_text(PROGRAMS[name])
    with (
        said.open("w") as stdout,
        complained.open("w") as stderr,
        sysgenid.Orchestrator(broker.source) as orchestrator,
    ):
        # What is tests is run as such.
        runner = ["-m", "pytest", "-p", "no:cacheprovider"] if "def test_" in PROGRAMS[name] else []
        program = subprocess.Popen(
            [sys.executable, "-u", *runner, script],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, "SYSGENID_SOURCE": broker.source},
        )
        deadline = time.monotonic() + patient(20)
        goes_on = False
        while program.poll() is None and not goes_on and time.monotonic() < deadline:
            orchestrator.trigger()
            time.sleep(0.05)
            goes_on = is_endless(PROGRAMS[name]) and said.read_text().count("\n") >= LINES
        program.send_signal(signal.SIGTERM)
        code = program.wait(patient(10))
    complaint = complained.read_text()
    if "os.fork()" in PROGRAMS[name] and sys.version_info >= (3, 12):
        # The page says that the interpreter warns of the background thread, and of nothing else.
        assert complaint.count("Warning: ") == 1, complaint
        assert "is multi-threaded, use of fork()" in complaint
    else:
        assert complaint == ""
    assert said.read_text()
    assert code == (-signal.SIGTERM if goes_on else 0)


RECONNECTING = [name for name, code in PROGRAMS.items() if ".reconnect(" in code]


@pytest.mark.parametrize("name", RECONNECTING)
def test_it_survives_each_restart_of_its_broker(name: str, broker: Broker, tmp_path: Path) -> None:
    script, said = tmp_path / "program.py", tmp_path / "said"
    script.write_text(PROGRAMS[name])
    with said.open("w") as stdout:
        program = subprocess.Popen(
            [sys.executable, "-u", script],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "SYSGENID_SOURCE": broker.source},
        )
        for count in (1, 2, 3):
            with sysgenid.Orchestrator(broker.source, require_watchers=1) as orchestrator:
                orchestrator.wait_for_watchers(patient(20))  # it is there
                orchestrator.trigger()
                orchestrator.settle(patient(20))
            assert said.read_text().count("\n") == count
            broker.kill()
            time.sleep(0.2)  # until it has found nothing
            broker.start()
        program.terminate()
        _, complaint = program.communicate(timeout=patient(10))
    assert complaint == ""
    assert program.returncode == -signal.SIGTERM


def is_endless(code: str) -> bool:
    """Whether it goes on until it is ended."""
    return any(loop in code for loop in ("while True:", "in changes:", "in aio.watch():"))


def test_there_are_programs() -> None:
    assert len(RECONNECTING) >= 2
    for page in ("docs/src/python.md", "sysgenid-py/README.md"):
        assert any(name.startswith(page) for name in PROGRAMS), page
