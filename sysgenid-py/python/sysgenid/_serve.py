# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`python -m sysgenid serve`: the userspace driver, as the command `sysgenid serve`.

It needs neither that command nor Rust: it is linked into the package. It follows nothing that
announces restores, so each change is triggered.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import threading
from typing import Any

from . import _native
from .errors import UnsupportedError

#: A second one of any of these ends the process at once.
_ENDING = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP")
    if hasattr(signal, name)
]

#: What the broker is built for.
_WANTED_WATCHERS = 10_000


def serve(directory: str | None, *, until_eof: bool) -> int:
    """Serves until a signal, or until the standard input ends. Returns the exit code."""
    stopping = threading.Event()
    # Before the directory is taken, so that a signal never leaves its sockets behind.
    _on_signals(stopping)
    # A client of another user that comes back at the wrong moment would take a narrower mode of the
    # socket for a lack of permission. The broker gives each file that it creates an explicit mode.
    os.umask(0)
    try:
        server = _native.Server(directory)
    except (OSError, ValueError) as error:
        return _failed(error)
    _announce(server)
    failures: list[OSError] = []
    running = threading.Thread(target=_run, args=(server, stopping, failures), daemon=True)
    running.start()
    if until_eof:
        threading.Thread(target=_await_end, args=(stopping,), daemon=True).start()
    stopping.wait()
    server.stop()
    running.join()
    return _failed(failures[0]) if failures else 0


def _run(server: _native.Server, stopping: threading.Event, failures: list[OSError]) -> None:
    # They are the main thread's, which would not wake up for one that this thread got.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        server.run(lambda incident: _say(sys.stderr, f"sysgenid: warning: {incident}"))
    except OSError as error:
        failures.append(error)
    finally:
        stopping.set()


def _on_signals(stopping: threading.Event) -> None:
    def stop(*_: object) -> None:
        for signum in handled:
            signal.signal(signum, signal.SIG_DFL)
        stopping.set()

    # Under nohup it is ignored, and stays so.
    hang_up = getattr(signal, "SIGHUP", None)
    is_ignored = hang_up is not None and signal.getsignal(hang_up) is signal.SIG_IGN
    handled = [signum for signum in _ENDING if signum != hang_up or not is_ignored]
    for signum in handled:
        signal.signal(signum, stop)


def _await_end(stopping: threading.Event) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    with contextlib.suppress(OSError):  # what cannot be read has ended, too
        while os.read(0, 4096):
            pass
    stopping.set()


def _announce(server: _native.Server) -> None:
    directory, capacity = server.directory, server.capacity
    generation = _native.Probe(directory).generation
    # A name that a terminal would obey, or that is no text, is shown escaped.
    is_plain = directory.isprintable()
    shown = directory if is_plain else ascii(directory)
    if capacity < _WANTED_WATCHERS:
        _say(
            sys.stderr,
            f"sysgenid: {shown}: warning: the limits of this process leave room for {capacity} "
            f"watchers, fewer than {_WANTED_WATCHERS}; raise those of open files (`ulimit -Hn`) "
            "and of mappings (`sysctl vm.max_map_count`)",
        )
    lines = [f"serving generation {generation} in {shown}, with room for {capacity} watchers"]
    lines.append("follows nothing: whoever restores runs `sysgenid trigger`")
    if is_plain:
        lines += ["clients find it with", ""]
        lines += [f"    export SYSGENID_SOURCE={shlex.quote(directory)}", ""]
    lines.append("stop it with Ctrl-C; the generation stays in the directory")
    _say(sys.stdout, "\n".join(lines))


def _say(stream: Any, text: str) -> None:
    # Clients depend on the broker, whether or not anybody reads this.
    with contextlib.suppress(OSError, ValueError):
        print(text, file=stream, flush=True)


def _failed(error: OSError | ValueError) -> int:
    if isinstance(error, ValueError):
        message = f"serve: {error}, so there is no directory to serve by default; name one with"
        _say(sys.stderr, f"sysgenid: {message} --dir")
        return 2
    _say(sys.stderr, f"sysgenid: {error.strerror or error}")
    if isinstance(error, UnsupportedError):
        return 6
    return 4 if isinstance(error, PermissionError) else 1
