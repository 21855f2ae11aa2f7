# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Restores and forks that a test plays, for programs that use this package.

For pytest they are fixtures, which the package brings along: `sysgenid_restore`, `sysgenid_fork`
and `sysgenid_broker`.

>>> import sysgenid
>>> from sysgenid import testing
>>> before = sysgenid.uniqueness()
>>> testing.restore()
>>> before.is_current()
False
>>> testing.fork(before.is_current), testing.fork(sum, [1, 2, 3])
(False, 6)
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any, NoReturn, ParamSpec, TypeVar

from sysgenid._native import Broker, assume_restored

__all__ = ["Broker", "ChildError", "fork", "restore"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

_FORK_TIMEOUT = 60.0
"""Seconds that a forked child may take."""


class ChildError(RuntimeError):
    """What a forked child was to do failed there. The message has the child's traceback.

    The exception itself is the `__cause__`, if it can be pickled.
    """

    __module__ = "sysgenid.testing"


def restore() -> None:
    """Plays a restore in this process: what it guards, caches and seeds is old, and hooks run.

    `sysgenid.uniqueness()`, `Guarded`, `cached` and the generators of `sysgenid.random` see it, in
    every thread. Then the hooks of `after_restore` run, in this thread and to their end.
    `sysgenid.generation()` stays the same, and watchers are told nothing: that takes a `Broker`.

    Raises `HookError` if a hook failed, after all the others have run.
    """
    from sysgenid.hooks import run_after_restore

    assume_restored()
    run_after_restore()


def fork(function: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Calls `function` in a forked child, and returns what it returned there.

    The fork is a real one: the child is a copy of this process, and ends after the call without
    running what is registered for the end. What the function returns must be picklable. It has a
    minute; then the child is killed.

    Raises `ChildError` if the function raised, if its result cannot be pickled, or if the child
    died; and `TimeoutError` if it took too long.
    """
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # The caller asks for a fork, and the thread of a `Broker` has no lock of the interpreter.
        warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os.close(reader)
        _answer(writer, function, args, kwargs)
    os.close(writer)
    try:
        with open(reader, "rb", closefd=True) as pipe:
            answer = _read(pipe.fileno(), child)
    finally:
        _, status = os.waitpid(child, 0)
    if not answer:
        raise ChildError(f"the child ended with {os.waitstatus_to_exitcode(status)}, by itself")
    text, outcome = pickle.loads(answer)
    if text is None:
        result: _R = outcome
        return result
    raise ChildError(text) from outcome


def _read(reader: int, child: int) -> bytes:
    deadline = time.monotonic() + _FORK_TIMEOUT
    answer = bytearray()
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            os.kill(child, signal.SIGKILL)
            raise TimeoutError(f"the child took longer than {_FORK_TIMEOUT:.0f} seconds")
        part = os.read(reader, 65536)
        if not part:
            return bytes(answer)
        answer += part


def _answer(
    writer: int, function: Callable[..., object], args: Any, kwargs: dict[str, Any]
) -> NoReturn:
    """In the child, which ends in here whatever happens."""
    try:
        try:
            answer = pickle.dumps((None, function(*args, **kwargs)))
        except BaseException as error:
            answer = _failure(error)
        with open(writer, "wb") as pipe:
            pipe.write(answer)
    finally:
        os._exit(0)


def _failure(error: BaseException) -> bytes:
    text = "".join(traceback.format_exception(error)).rstrip()
    try:
        answer = pickle.dumps((text, error))
        # Some exceptions can be pickled and not be unpickled.
        pickle.loads(answer)
    except Exception:
        return pickle.dumps((text, None))
    return answer
