# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What tests share: a broker, and how long they may wait."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import pickle
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

Result = TypeVar("Result")

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
                [program, "serve", "--dir", self.folder, "--until-eof", "--follow", "none"],
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

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stops its process, which keeps its sockets and answers nothing, until the block ends."""
        assert self._process is not None
        process = self._process
        process.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{process.pid}/stat")
        eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it runs still")
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

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


def in_child(work: Callable[[], Result]) -> Result:
    """Has a forked child do it, and returns what that returned, or raises what it raised."""
    from forking import fork  # Which needs this module.

    reader, writer = os.pipe()
    # Not by a context manager of anything: the child has only this thread, and ends in here.
    child = fork()
    if child == 0:
        try:
            try:
                told = True, work()
            except BaseException as error:
                told = False, error  # type: ignore[assignment]
            with open(writer, "wb") as stream:
                pickle.dump(told, stream)
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as stream:
        answer = stream.read()
    os.waitpid(child, 0)
    assert answer, "the child died"
    worked, result = pickle.loads(answer)
    if not worked:
        raise result
    return result  # type: ignore[no-any-return]


def run_python(program: str) -> None:
    """Runs it in an interpreter of its own, with warnings as errors."""
    command = [sys.executable, "-W", "error", "-c", program]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=patient(60), check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


#: The numbers of system calls that tests forbid.
_CALLS = {"getrandom": {"x86_64": 318, "aarch64": 278}}


def forbid(call: str) -> None:
    """Has a system call fail with ENOSYS in this process from now on, by seccomp."""

    class Filter(ctypes.Structure):
        _fields_ = (
            ("code", ctypes.c_ushort),
            ("if_equal", ctypes.c_ubyte),
            ("else", ctypes.c_ubyte),
            ("value", ctypes.c_uint),
        )

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filters", ctypes.POINTER(Filter)))

    load_number, jump_if_equal, end = 0x20, 0x15, 0x06
    filters = (Filter * 4)(
        Filter(load_number, 0, 0, 0),
        Filter(jump_if_equal, 0, 1, _CALLS[call][platform.machine()]),
        Filter(end, 0, 0, 0x0005_0000 | errno.ENOSYS),
        Filter(end, 0, 0, 0x7FFF_0000),
    )
    program = Program(len(filters), filters)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    no_new_privileges, set_seccomp, by_filter = 38, 22, 2
    for arguments in (no_new_privileges, 1, 0, 0, 0), (set_seccomp, by_filter, program):
        words = [
            ctypes.c_ulong(it) if isinstance(it, int) else ctypes.byref(it) for it in arguments
        ]
        assert prctl(*words) == 0, os.strerror(ctypes.get_errno())
