# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Changes of whichever source there is, in an event loop: to be handled, or to be iterated over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from asyncio import AbstractEventLoop, Future
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import timedelta

from . import _native, hooks
from ._native import Change
from ._tasks import in_thread

_log = logging.getLogger("sysgenid")


async def run_after_restore(generation: int | None = None) -> None:
    """Runs the hooks for a change, as `sysgenid.run_after_restore`, and does not hold up the loop.

    Hooks that are coroutine functions run in the loop in which they were registered; ordinary ones
    run in a thread. Cancelled, they go on to their end.
    """
    await in_thread(hooks.run_after_restore, generation)


async def run_before_snapshot() -> None:
    """Runs the hooks for a snapshot, as `sysgenid.run_before_snapshot`: see `run_after_restore`."""
    await in_thread(hooks.run_before_snapshot)


@contextlib.asynccontextmanager
async def snapshot() -> AsyncGenerator[None, None]:
    """Around the moment at which a snapshot is taken: as `sysgenid.snapshot`.

    The hooks run as in `run_after_restore`.
    """
    try:
        await run_before_snapshot()
        yield
    finally:
        await run_after_restore()


@contextlib.asynccontextmanager
async def handling(
    callback: Callable[[Change], Awaitable[object]] | Callable[[], Awaitable[object]],
    *,
    tracked: bool = True,
    look_every: float | timedelta = 1.0,
) -> AsyncGenerator[None, None]:
    """Awaits `callback(change)` for each change while the block runs, and acknowledges it then.

    >>> import asyncio, sysgenid
    >>> from sysgenid import aio
    >>> async def main() -> None:
    ...     replaced = asyncio.Event()
    ...     async def replace_keys(change: sysgenid.Change) -> None:
    ...         print("new keys")
    ...         replaced.set()
    ...     async with aio.handling(replace_keys):
    ...         sysgenid.trigger()  # stands for a restore
    ...         await replaced.wait()
    >>> asyncio.run(main())
    new keys

    A callback that fails is logged to `sysgenid`, and nothing is acknowledged: orchestrators go on
    waiting, and name this process. It is called again after a tenth of a second, then after twice
    as long, up to half a minute. A broker that has ended is waited for, and what changed meanwhile
    is told then. There need not be a source: one that appears counts as a change. A callback that
    can be called without arguments is called so.

    If the block ends while a change is not handled, the process stays a straggler until it ends.

    Raises `TypeError` if the callback is no coroutine function, or takes other arguments.
    """
    if not hooks._is_coroutine_function(callback):
        raise TypeError("the callback is a coroutine function: async def")
    takes_change = not hooks._takes(callback, (), {})
    if takes_change and not hooks._takes(callback, (None,), {}):
        raise TypeError("the callback is called with a change, or without arguments")
    changes = _native.Changes(tracked=tracked, look_every=look_every)
    # So that orchestrators wait for it from now on.
    first = changes.try_next()
    task = asyncio.create_task(_handle(changes, first, callback, takes_change))
    del first
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        changes._leave()


async def _handle(
    changes: _native.Changes,
    first: Change | None,
    callback: Callable[..., Awaitable[object]],
    takes_change: bool,
) -> None:
    change = first
    del first
    while True:
        if change is None:
            change = await _next(changes)
        try:
            await (callback(change) if takes_change else callback())
            change.acknowledge()
        except Exception as error:
            _log.error(
                "generation %d is not handled: %s failed; it is tried again",
                change.generation,
                hooks._name(callback),
                exc_info=error,
            )
        # A change that is not acknowledged is told again.
        change = None


async def watch(
    *, tracked: bool = True, look_every: float | timedelta = 1.0
) -> AsyncGenerator[Change, None]:
    """Waits for changes, and yields each, through restarts and replacements of the source.

    >>> import asyncio, sysgenid
    >>> from sysgenid import aio
    >>> async def main() -> None:
    ...     async with aio.Orchestrator() as orchestrator:
    ...         async def restore() -> None:
    ...             await asyncio.sleep(0.1)
    ...             await orchestrator.trigger()
    ...         restoring = asyncio.create_task(restore())
    ...         async for change in aio.watch():
    ...             print("rebuilding")
    ...             change.acknowledge()
    ...             break
    ...         await restoring
    >>> asyncio.run(main())
    rebuilding

    It is open, and up to date, when the first change is waited for: earlier ones are not told. A
    change that is not acknowledged when the next is asked for is told again after a tenth of a
    second, then after twice as long, up to half a minute; a newer one at once.

    If the loop ends, by an exception or otherwise, while a change is not acknowledged, the process
    stays a straggler: orchestrators go on waiting until the change is acknowledged, or the process
    ends.

    Cancelled while it waits, it loses nothing that another watcher would not be told of; a new one
    begins up to date. `contextlib.aclosing` closes it at a moment of one's own.
    """
    changes = _native.Changes(tracked=tracked, look_every=look_every)
    try:
        while True:
            yield await _next(changes)
    finally:
        changes._leave()


async def _next(changes: _native.Changes) -> Change:
    loop = asyncio.get_running_loop()
    while True:
        change, seconds = changes._look()
        if change is not None:
            return change
        await _readable(loop, changes._fileno(), seconds)


async def _readable(loop: AbstractEventLoop, fd: int, seconds: float) -> None:
    """Waits until a descriptor is readable, for so long at most."""
    future: Future[None] = loop.create_future()

    def wake() -> None:
        if not future.done():
            future.set_result(None)

    # Whatever rounds it down in the loop, it is not looked at before its time in a hurry.
    timer = loop.call_later(seconds + 0.001, wake)
    if fd >= 0:
        loop.add_reader(fd, wake)
    try:
        await future
    finally:
        timer.cancel()
        if fd >= 0:
            loop.remove_reader(fd)
