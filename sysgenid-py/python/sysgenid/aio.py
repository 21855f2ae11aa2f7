# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Watchers and orchestrators for asyncio, on its own event loop and on uvloop.

    import asyncio
    from sysgenid import aio

    async def main() -> None:
        async with aio.handling(replace_keys):
            ...  # the service

What may have to wait for an answer, of a broker or of the kernel, does so in a thread that is there
for it, and with a deadline; an acknowledgement is made where it is called, because it never waits.
Nothing is lost if a task is cancelled: a change that nobody acknowledged is told again.

A task that waits is not the next to run when the generation changes. The loop goes on with what it
was at, in the old generation, until it comes to it: what must not be used in between belongs in a
`sysgenid.Guarded`.

An event loop does not survive a fork, and neither does what is opened in it: start a loop in the
child, and open a watcher there.

Other loops take the descriptor of a `sysgenid.Watcher`: `trio.lowlevel.wait_readable(watcher)`, or
`selectors`. Then `watcher.try_changed()` tells what there is.
"""

from __future__ import annotations

import asyncio
import errno
import time
import warnings
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import timedelta
from os import PathLike
from types import TracebackType
from typing import Generic, NoReturn, TypeVar

from . import _attempts, _native
from ._aio_changes import handling, run_after_restore, run_before_snapshot, snapshot, watch
from ._aio_guarded import Guarded
from ._native import Change
from ._tasks import Readiness, WatcherWait, deadline_of, in_thread
from ._typing import Self
from .errors import LostError, OutdatedError, TimedOutError

_S = TypeVar("_S", bound="_native.Watcher | _native.Orchestrator")

__all__ = [
    "Guarded",
    "Orchestrator",
    "Watcher",
    "handling",
    "run_after_restore",
    "run_before_snapshot",
    "snapshot",
    "watch",
]

# Seconds that a change which is not acknowledged is not told again, and how often it is looked
# meanwhile whether there is a newer one.
_SHORTEST_PAUSE, _LONGEST_PAUSE, _LOOK = 0.1, 30.0, 0.01


class _Changing(Generic[_S]):
    """What a watcher and an orchestrator have in common in an event loop."""

    __slots__ = ("__weakref__", "_readiness", "_source")

    def __init__(self, source: _S) -> None:
        self._source: _S = source
        self._readiness = Readiness(source)

    @property
    def generation(self) -> int:
        """The current generation, whether or not it has been acknowledged: one load from memory."""
        return self._source.generation

    @property
    def kind(self) -> str:
        """What kind of source it is on: "device" or "broker"."""
        return self._source.kind

    @property
    def path(self) -> str:
        """Where the source is."""
        return self._source.path

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._source.closed

    def fileno(self) -> int:
        """As that of the `sysgenid` object: for waiting in something else than this loop."""
        return self._source.fileno()

    def try_changed(self) -> Change | None:
        """The change that is to be handled if the watcher is outdated, else `None`. Never waits."""
        return self._source.try_changed()

    async def changed(self) -> Change:
        """Waits until the watcher is outdated, and returns the change that is to be handled.

        It tells again until the change is acknowledged; also then the loop gets a turn. Several
        tasks may wait at once, and each is told. It has no deadline of its own: that is
        `asyncio.wait_for(watcher.changed(), 5.0)`, or `asyncio.timeout`.

        Raises `LostError` if the broker has ended, `ForkedError` in a forked child, `ValueError` if
        it is closed, also meanwhile; and `RuntimeError` if another loop uses it that is still open.

        Cancelled, it loses nothing: the next call tells.
        """
        readiness = self._readiness
        future = readiness.wait(asyncio.get_running_loop())
        try:
            return await future
        except BaseException:
            readiness.forget(future)
            raise

    async def reconnect(self, timeout: float | timedelta | None = None) -> None:
        """Connects to the broker again after it was lost, and tries until the deadline: a broker
        that is started again is there a moment later. A change that was missed is told then.

        `timeout` is a number of seconds or a `datetime.timedelta`; `None` tries forever.

        Raises as `sysgenid.Watcher.reconnect`; then it is as it was.

        Cancelled, it may or may not be connected; doing it again is fine. Its helper thread ends
        within half a second, or within five if a broker is there that does not answer.
        """
        deadline = deadline_of(timeout)
        given = _attempts.FIRST
        while True:
            left = deadline - time.monotonic()
            try:
                return await in_thread(_reconnect, self._source, max(min(left, given), 0.0))
            except (LostError, TimedOutError) as error:
                if left <= given:
                    raise
                given = _attempts.after(given, error)

    def close(self) -> None:
        """Closes it: orchestrators do not wait for it any more.

        Tasks that wait for a change get a `ValueError`. To be called in the loop's thread, or after
        the loop has ended. To do it twice is fine.
        """
        self._readiness.close()

    async def __aenter__(self) -> Self:
        if self.closed:
            raise ValueError("it is closed")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is None:
            self.close()
        else:
            self._readiness.leave()

    def __del__(self) -> None:
        readiness = getattr(self, "_readiness", None)
        if readiness is not None and not (readiness.is_left or self._source.closed):
            message = f"unclosed {self!r}"
            readiness.abandon()  # first, because a warning may be an error
            warnings.warn(message, ResourceWarning, stacklevel=2, source=self)

    def __reduce__(self) -> NoReturn:
        # A copy would close the original, when it is dropped.
        raise TypeError(
            f"{type(self).__name__} cannot be pickled or copied: it is an event loop's, so open "
            "another"
        )

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"generation {self.generation}"
        return f"<sysgenid.aio.{type(self).__name__} of {self.path}, {state}>"


class Watcher(_Changing[_native.Watcher]):
    """A `sysgenid.Watcher` in an event loop.

    >>> import asyncio, sysgenid
    >>> from sysgenid import aio
    >>> async def main() -> None:
    ...     async with aio.Watcher() as watcher, aio.Orchestrator() as orchestrator:
    ...         generation = await orchestrator.trigger()
    ...         change = await watcher.changed()
    ...         print("rebuilding")
    ...         print(change.generation == generation, change.acknowledge())
    >>> asyncio.run(main())
    rebuilding
    True True

    Iteration is that of `changes`. A watcher that is left outdated stays open, as a
    `sysgenid.Watcher` does. One that goes on through restarts of its broker is `handling` or
    `watch`.

    To open one takes the broker's answer. That is some tens of microseconds, and at most
    `answer_within` if it hangs: `await Watcher.open()` does not hold up the loop meanwhile.

    Raises as `sysgenid.Watcher`.
    """

    __slots__ = ()

    def __init__(
        self,
        path: str | PathLike[str] | None = None,
        *,
        tracked: bool = True,
        answer_within: float | timedelta | None = 5.0,
    ) -> None:
        super().__init__(_native.Watcher(path, tracked=tracked, answer_within=answer_within))

    @classmethod
    async def open(
        cls,
        path: str | PathLike[str] | None = None,
        *,
        tracked: bool = True,
        answer_within: float | timedelta | None = 5.0,
    ) -> Watcher:
        """Opens one in a thread.

        Cancelled, it opens nothing that stays open.
        """
        opening = in_thread(_native.Watcher, path, tracked=tracked, answer_within=answer_within)
        return cls.of(await opening)

    @classmethod
    def of(cls, watcher: _native.Watcher) -> Watcher:
        """Takes a watcher that is open into an event loop. It is closed with this one."""
        self = cls.__new__(cls)
        _Changing.__init__(self, watcher)
        return self

    @property
    def watcher(self) -> _native.Watcher:
        """The watcher itself, for `probe`."""
        return self._source

    def set_tracking(self, tracked: bool) -> None:
        """Sets whether orchestrators wait for this watcher. Never waits.

        Raises as `sysgenid.Watcher.set_tracking`.
        """
        self._source.set_tracking(tracked)

    async def changes(self) -> AsyncGenerator[Change, None]:
        """Waits for changes, and yields each.

        A change that is not acknowledged is told again after a tenth of a second, then after twice
        as long, up to half a minute; a newer one at once. Raises as `changed`.
        """
        told, pause = None, _SHORTEST_PAUSE
        while True:
            end = time.monotonic() + pause
            while told is not None and time.monotonic() < end:
                pending = self._source.try_changed()
                if pending is None or pending.generation != told:
                    break
                await asyncio.sleep(_LOOK)
            change = await self.changed()
            pause = min(2 * pause, _LONGEST_PAUSE) if change.generation == told else _SHORTEST_PAUSE
            told = change.generation
            yield change
            del change

    def __aiter__(self) -> AsyncIterator[Change]:
        return self.changes()


class Orchestrator(_Changing[_native.Orchestrator]):
    """A `sysgenid.Orchestrator` in an event loop.

    >>> import asyncio, sysgenid
    >>> from sysgenid import aio
    >>> hook = sysgenid.after_restore(lambda: print("new keys of the agent's own"))
    >>> async def main() -> None:
    ...     async with aio.Orchestrator() as orchestrator:
    ...         generation = await orchestrator.trigger()
    ...         settled = await orchestrator.settle(timeout=5.0)
    ...         print(settled.generation == generation)
    >>> asyncio.run(main())
    new keys of the agent's own
    True
    >>> hook.remove()

    `require_watchers` and `answer_within` are those of `sysgenid.Orchestrator`, and it raises as
    that one. To open one may take the broker's answer, see `Watcher`.
    """

    __slots__ = ("_watcher_wait",)

    def __init__(
        self,
        path: str | PathLike[str] | None = None,
        *,
        require_watchers: int = 0,
        answer_within: float | timedelta | None = 5.0,
    ) -> None:
        self._take(
            _native.Orchestrator(
                path, require_watchers=require_watchers, answer_within=answer_within
            )
        )

    @classmethod
    async def open(
        cls,
        path: str | PathLike[str] | None = None,
        *,
        require_watchers: int = 0,
        answer_within: float | timedelta | None = 5.0,
    ) -> Orchestrator:
        """Opens one in a thread.

        Cancelled, it opens nothing that stays open.
        """
        opening = in_thread(
            _native.Orchestrator,
            path,
            require_watchers=require_watchers,
            answer_within=answer_within,
        )
        return cls.of(await opening)

    @classmethod
    def of(cls, orchestrator: _native.Orchestrator) -> Orchestrator:
        """Takes an orchestrator that is open into an event loop. It is closed with this one."""
        self = cls.__new__(cls)
        self._take(orchestrator)
        return self

    def _take(self, orchestrator: _native.Orchestrator) -> None:
        super().__init__(orchestrator)
        self._watcher_wait = WatcherWait(orchestrator)

    async def trigger(self, min: int = 0) -> int:  # noqa: A002
        """Changes the generation to the next one, or to `min` if that is more.

        Raises as `sysgenid.Orchestrator.trigger`.

        Cancelled, the generation may or may not change.
        """
        return await in_thread(self._source.trigger, min)

    async def stragglers(self) -> list[_native.Straggler]:
        """Names the tracked watchers that have not acknowledged the current generation.

        Raises as `sysgenid.Orchestrator.stragglers`. Cancelled, it changes nothing.
        """
        return await in_thread(self._source.stragglers)

    def acknowledge(self, generation: int) -> None:
        """Acknowledges for the orchestrator itself what it has triggered and handled. Never waits.

        Raises as `sysgenid.Orchestrator.acknowledge`.
        """
        self._source.acknowledge(generation)

    async def wait_for_watchers(self, timeout: float | timedelta | None = None) -> _native.Settled:
        """Waits until no tracked watcher is outdated, and there are as many as this orchestrator
        requires. `None` waits forever.

        Returns the generation that they have acknowledged, and how many they are.

        If several tasks wait with one orchestrator, each has its own deadline. One that is nearer
        than those of the others may be noticed a tenth of a second late.

        Raises as `sysgenid.Orchestrator.wait_for_watchers`: `TimedOutError` if the deadline passed,
        `MissingError` if fewer than required have acknowledged then, `OutdatedError` if the
        orchestrator's own watcher is outdated, `LostError` if the broker has ended; and
        `RuntimeError` if no thread can be started.

        Cancelled, it stops waiting, and loses nothing. Its helper thread ends within a tenth of a
        second.
        """
        return await self._watcher_wait.wait(deadline_of(timeout))

    async def settle(self, timeout: float | timedelta | None = None) -> _native.Settled:
        """After a change: runs the hooks of `after_restore` for what is this process's own,
        acknowledges, and waits for all others; starts over if the generation moves meanwhile.
        Returns the generation that every tracked watcher has acknowledged, and how many those are.

        If nothing has changed, no hook is run, and the others are waited for. `timeout` limits the
        waiting and the starting over, not the time that the hooks take.

        Raises `HookError` if hooks failed: then nothing is acknowledged. Else as
        `wait_for_watchers`, but never `OutdatedError`.

        Cancelled, it acknowledges nothing that is not handled: hooks that run go on to their end,
        and the next call runs them again.
        """
        deadline = deadline_of(timeout)
        while True:
            change = self._source.try_changed()
            if change is not None:
                await run_after_restore(change.generation)
            try:
                if change is None or change.acknowledge():
                    return await self._watcher_wait.wait(deadline)
            except OutdatedError:
                pass
            if time.monotonic() >= deadline:
                raise _watchers_timed_out(self.path)
            # Hooks that never wait would keep the loop while the generation moves.
            await asyncio.sleep(0)


def _watchers_timed_out(path: str) -> TimedOutError:
    return TimedOutError(
        errno.ETIME,
        "the deadline passed while tracked watchers had not acknowledged the current generation",
        path,
    )


def _reconnect(source: _native.Watcher | _native.Orchestrator, seconds: float) -> None:
    attempts = 50
    while True:
        try:
            return source.reconnect(seconds)
        except RuntimeError:  # a call that found the broker gone is about to end
            attempts -= 1
            if not attempts:
                raise
            time.sleep(0.02)
