# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Locks that do not hang a forked child.

A child has a copy of every lock, and only one of the parent's threads. What another thread held at
the fork would stay locked in the child for ever.
"""

from __future__ import annotations

import os
import threading

_depth = 0
"""How many forks this process is away from the one that was started."""


def _in_child() -> None:
    global _depth
    _depth += 1


os.register_at_fork(after_in_child=_in_child)


class Hold:
    """A lock that knows which thread has it."""

    __slots__ = ("_lock", "_owner")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0

    def acquire(self) -> bool:
        """Waits for the lock. False if this thread has it already."""
        me = threading.get_ident()
        # Only this thread ever stores this number, so the answer cannot change meanwhile.
        if self._owner == me:
            return False
        self._lock.acquire()
        self._owner = me
        return True

    def release(self) -> None:
        self._owner = 0
        self._lock.release()


class ForkLock:
    """One lock for each process. Released is what was acquired, also if a fork came in between."""

    __slots__ = ("_holds",)

    def __init__(self) -> None:
        self._holds: dict[int, Hold] = {}

    def hold(self) -> Hold:
        """This process's lock."""
        depth = _depth
        hold = self._holds.get(depth)
        # Of several threads that come here at once, all get what the first has set.
        return hold if hold is not None else self._holds.setdefault(depth, Hold())
