# SPDX-License-Identifier: Apache-2.0 OR MIT
"""How tasks of asyncio wait: for a descriptor, for a blocking call, and for the watchers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import MissingError, TimedOutError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from collections.abc import Callable
    from datetime import timedelta

    from ._native import Change, Orchestrator, Settled, Watcher

_T = TypeVar("_T")

SLICE = 0.1
"""Seconds that a helper thread may not notice that nobody waits for it any more."""
SHORTEST = 0.005
"""A slice when the deadline is near. A broker has a tenth of a second to answer all the same."""


def deadline_of(timeout: float | timedelta | None) -> float:
    """The moment of `time.monotonic` at which a timeout is over."""
    if timeout is None:
        return math.inf
    seconds = timeout if isinstance(timeout, (int, float)) else _seconds(timeout)
    if not math.isfinite(seconds):
        raise ValueError("a timeout is a finite number of seconds; None waits for ever")
    return time.monotonic() + seconds


def _seconds(timeout: Any) -> float:
    try:
        return float(timeout.total_seconds())
    except AttributeError:
        raise TypeError(
            "a timeout is a number of seconds, a datetime.timedelta, or None to wait for ever"
        ) from None


class Readiness:
    """Wakes the tasks that wait until a descriptor is readable, with what was found there.

    The descriptor stays readable until the change is acknowledged. So the loop looks at it only as
    long as somebody waits: a look that finds nobody is the last one, until there is somebody again.
    That is one look too many at times, and saves two system calls for each change.
    """

    __slots__ = ("_fd", "_look", "_loop", "_source", "_waiting", "armed_in", "is_left")

    def __init__(self, source: Watcher | Orchestrator) -> None:
        self.is_left = False
        self._source = source
        self._look = source.try_changed
        self._fd = source.fileno()
        self._loop: AbstractEventLoop | None = None
        self.armed_in: AbstractEventLoop | None = None
        """The loop that looks at the descriptor."""
        self._waiting: set[Future[Change]] = set()

    def wait(self, loop: AbstractEventLoop) -> Future[Change]:
        """What is awaited. `forget` it if the task is cancelled."""
        if loop is not self.armed_in:
            self._arm(loop)
        future: Future[Change] = loop.create_future()
        self._waiting.add(future)
        return future

    def forget(self, future: Future[Change]) -> None:
        self._waiting.discard(future)

    def _arm(self, loop: AbstractEventLoop) -> None:
        # Raises if it is closed, its broker is gone, or this is a forked child.
        self._source.try_changed()
        if loop is not self._loop:
            if self._loop is not None and not self._loop.is_closed():
                raise RuntimeError(
                    "it is used in another event loop, which is still open: open one for each loop"
                )
            self._waiting.clear()
        loop.add_reader(self._fd, self._on_readable)
        self._loop = self.armed_in = loop

    def _disarm(self) -> None:
        loop, self.armed_in = self.armed_in, None
        if loop is not None and not loop.is_closed():
            loop.remove_reader(self._fd)

    def _on_readable(self) -> None:
        waiting = self._waiting
        if not waiting:
            self._disarm()
            return
        try:
            change = self._look()
        except Exception as error:
            self._fail(error)
            return
        if change is None:
            return  # it was acknowledged between the loop's look and this one
        while waiting:
            future = waiting.pop()
            if not future.done():
                future.set_result(change)

    def _fail(self, error: Exception) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_exception(error)
        self._waiting.clear()

    def close(self) -> None:
        """In the loop's thread, or after the loop has ended."""
        self._disarm()
        self._source.close()
        self._fail(ValueError("it was closed while a task waited"))

    def leave(self) -> None:
        """As `close`, but the source stays open if it is outdated, until that is acknowledged."""
        self._disarm()
        self._source._leave()
        self.is_left = True
        self._fail(ValueError("it was left by an exception while a task waited"))

    def abandon(self) -> None:
        """As `close`, for one that nobody has any more. In any thread."""
        loop = self.armed_in
        if loop is not None:
            # The loop has the descriptor, so it must let go of it before that is closed.
            with contextlib.suppress(RuntimeError):  # it is closed
                loop.call_soon_threadsafe(self.leave)
                return
        self._source._leave()


async def in_thread(function: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
    """Makes a call that may have to wait for an answer, in a thread of its own.

    Not in one of the loop's pool, which may be full of what waits for this. Cancelled, the call
    goes on to its end, and its result is dropped. The interpreter waits for it when it exits.
    """
    loop = asyncio.get_running_loop()
    future: Future[_T] = loop.create_future()
    call = functools.partial(function, *args, **kwargs)
    arguments = (loop, future, call)
    threading.Thread(target=_call, args=arguments, name="sysgenid-call", daemon=False).start()
    del arguments
    try:
        return await future
    finally:
        # It may have a result that nobody takes, and the traceback would keep that.
        del future


def _call(loop: AbstractEventLoop, future: Future[_T], call: Callable[[], _T]) -> None:
    try:
        result = call()
    except BaseException as error:
        answer(loop, future, error=error)
    else:
        answer(loop, future, result)


def answer(
    loop: AbstractEventLoop,
    future: Future[Any],
    result: object = None,
    *,
    error: BaseException | None = None,
) -> None:
    """Gives a task of another thread its answer, if it still waits for one."""

    def give() -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    with contextlib.suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(give)


def is_abandoned(loop: AbstractEventLoop) -> bool:
    """Whether its tasks never get on: waiting for them would keep the interpreter from its end."""
    return loop.is_closed() or not (loop.is_running() or threading.main_thread().is_alive())


class WatcherWait:
    """Has one helper thread wait for the watchers, in slices, as long as a task wants to know.

    A thread of its own, because a wait takes as long as its deadline allows. One for all the tasks,
    because all of them ask the same.
    """

    __slots__ = ("_is_running", "_lock", "_orchestrator", "_waiting")

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator
        self._lock = threading.Lock()
        self._is_running = False
        # Who waits, and until when.
        self._waiting: dict[Future[Settled], tuple[AbstractEventLoop, float]] = {}

    async def wait(self, deadline: float) -> Settled:
        loop = asyncio.get_running_loop()
        future: Future[Settled] = loop.create_future()
        with self._lock:
            self._waiting[future] = (loop, deadline)
            must_start, self._is_running = not self._is_running, True
        try:
            if must_start:
                self._start()
            return await future
        finally:
            with self._lock:
                self._waiting.pop(future, None)

    def _start(self) -> None:
        try:
            threading.Thread(target=self._run, name="sysgenid-wait", daemon=False).start()
        except BaseException:
            self._is_running = False
            raise

    def _run(self) -> None:
        while True:
            with self._lock:
                # Those who come later are not told what was true before they came.
                asked = {
                    future: who for future, who in self._waiting.items() if not is_abandoned(who[0])
                }
                if not asked:
                    self._waiting.clear()
                    self._is_running = False
                    return
            nearest = min(deadline for _, deadline in asked.values())
            left = nearest - time.monotonic()
            settled: Settled | None = None
            error: BaseException | None = None
            try:
                settled = self._orchestrator.wait_for_watchers(min(max(left, SHORTEST), SLICE))
            except (MissingError, TimedOutError) as late:
                error, now = late, time.monotonic()
                asked = {future: who for future, who in asked.items() if who[1] <= now}
            except BaseException as failure:
                error = failure
            with self._lock:
                for future in asked:
                    self._waiting.pop(future, None)
            for future, (loop, _) in asked.items():
                answer(loop, future, settled, error=error)
