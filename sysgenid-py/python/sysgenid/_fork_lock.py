# SPDX-License-Identifier: Apache-2.0 OR MIT
from __future__ import annotations

import os
import threading


class Lock:
    """A lock that a thread may take several times, and that a child finds open.

    The child looks for itself: handlers that the program has registered before those of this
    package may be the first to take it there.
    """

    def __init__(self) -> None:
        self._own = os.getpid(), threading.RLock()
        self._held = threading.local()

    def __enter__(self) -> None:
        process, lock = self._own
        if process != os.getpid():
            # Another thread of the parent may have held it.
            lock = threading.RLock()
            self._own = os.getpid(), lock
        lock.acquire()
        self._held.locks = [*getattr(self._held, "locks", ()), lock]

    def __exit__(self, *_: object) -> None:
        *self._held.locks, lock = self._held.locks
        lock.release()
