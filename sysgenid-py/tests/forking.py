# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A function in a forked child, and what it returns.

From 3.12 on the interpreter warns of a fork in a process with several threads, as those of the
tests are. The warning is not silenced: it must come when it is due, and only then.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import TypeVar

from support import patient

T = TypeVar("T")


def fork() -> int:
    """`os.fork`, which has warned of threads exactly if there are any."""
    with warned_of_threads() as check:
        pid = os.fork()
    if pid != 0:
        check()
    return pid


@contextlib.contextmanager
def warned_of_threads() -> Iterator[Callable[[], None]]:
    """For forks. The check is to be made afterwards, in the parent."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        # Those of the interpreter and of this package are not in `threading`.
        before = len(os.listdir("/proc/self/task"))

        def check() -> None:
            texts = [str(warning.message) for warning in told]
            assert all("multi-threaded, use of" in text for text in texts), texts
            if sys.version_info < (3, 12) or before == 1:
                assert not texts
            elif len(os.listdir("/proc/self/task")) > 1:
                assert texts, "there are threads"

        yield check


def in_child(function: Callable[[], T], timeout: float = 10) -> T:
    """What `function` returns in a child; the child's exception is this one's."""
    reader, writer = os.pipe()
    pid = fork()
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
