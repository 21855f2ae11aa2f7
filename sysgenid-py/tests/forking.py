# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A function in a forked child, and what it returns."""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import TypeVar

from support import patient

T = TypeVar("T")


def in_child(function: Callable[[], T], timeout: float = 10) -> T:
    """What `function` returns in a child; the child's exception is this one's."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # That other threads may hold locks is what some of the tests are about.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _answer(writer, function)
    os.close(writer)
    try:
        answered, _, _ = select.select([reader], [], [], patient(timeout))
        if not answered:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert answered, "the child hangs"
        with open(reader, "rb", closefd=False) as pipe:
            failure, result = pickle.load(pipe)
    finally:
        os.close(reader)
    assert failure is None, failure
    outcome: T = result
    return outcome


def _answer(writer: int, function: Callable[[], object]) -> None:
    answer: tuple[str | None, object]
    try:
        answer = (None, function())
    except BaseException:
        answer = (traceback.format_exc(), None)
    finally:
        with open(writer, "wb") as pipe:
            pickle.dump(answer, pipe)
        sys.stdout.flush()
        os._exit(0)
