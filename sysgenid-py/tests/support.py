# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What tests share: a broker, and how long they may wait."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

#: Emulated machines are slow: timeouts are multiplied by this.
PATIENCE = float(os.environ.get("SYSGENID_TEST_PATIENCE", "1"))


def patient(seconds: float) -> float:
    """A timeout for what happens much sooner, on the machine that the tests run on."""
    return seconds * PATIENCE


class Trigger(Protocol):
    """Changes the generation, and returns the new one."""

    def __call__(self, at_least: int = 0, /) -> int: ...


def command() -> Path | None:
    """The `sysgenid` command: what SYSGENID_COMMAND names, or what `cargo build` has left."""
    named = os.environ.get("SYSGENID_COMMAND")
    if named is not None:
        return Path(named)
    built = Path(__file__).parents[2] / "target/debug/sysgenid"
    found = str(built) if built.is_file() else shutil.which("sysgenid")
    return None if found is None else Path(found)


class Broker:
    """A userspace driver: `sysgenid serve`, a process that ends with this one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def source(self) -> str:
        """What is opened by its clients."""
        return str(self.folder)

    def start(self) -> None:
        """Starts it, and waits until it serves. Its number goes on if it served before."""
        program = command()
        assert program is not None, "no command: cargo build -p sysgenid-cli"
        with tempfile.TemporaryFile() as complaints:
            self._process = subprocess.Popen(
                [program, "serve", "--dir", self.folder, "--until-eof"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
            )
            assert self._process.stdout is not None
            # Its first line says that it serves.
            if not self._process.stdout.readline():
                complaints.seek(0)
                raise RuntimeError(complaints.read().decode())

    def kill(self) -> None:
        """Ends it without a chance to say goodbye."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def stop(self) -> None:
        """Ends it as its parent's end would."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._reap()

    def _reap(self) -> None:
        assert self._process is not None
        self._process.wait(patient(10))
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process = None


def eventually(condition: Callable[[], bool], what: str, timeout: float = 10) -> None:
    """Waits until a condition holds that nobody tells of."""
    deadline = time.monotonic() + patient(timeout)
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)
