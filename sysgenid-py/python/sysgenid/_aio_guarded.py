# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A value that is built asynchronously, and not used across a restore or a fork."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Generic, NoReturn, TypeVar

from . import _native
from ._native import Uniqueness
from .errors import UnsettledError
from .hooks import _is_coroutine_function

_T = TypeVar("_T")

_ATTEMPTS = 4


class Guarded(Generic[_T]):
    """A `sysgenid.Guarded` whose build is a coroutine function: a connection, a key of a service.

    >>> import asyncio, sysgenid
    >>> from sysgenid import aio
    >>> async def connect() -> str:
    ...     return sysgenid.entropy(8).hex()
    >>> async def main() -> None:
    ...     session = aio.Guarded(connect)
    ...     before = await session.get()
    ...     print(await session.get() == before)
    ...     sysgenid.assume_restored()
    ...     print(await session.get() == before)
    ...     async with session.use() as used:
    ...         print(len(used))
    >>> asyncio.run(main())
    True
    False
    16

    `get` returns a value that was built since the last change that could be seen at its return.
    Tasks of one loop build one at a time. In a forked child, and in another loop, it is built
    again.

    Raises `TypeError` if `build` is no coroutine function.
    """

    __slots__ = ("__weakref__", "_build", "_built", "_turn")

    def __init__(self, build: Callable[[], Awaitable[_T]]) -> None:
        if not _is_coroutine_function(build):
            raise TypeError("build is a coroutine function: async def")
        self._build = build
        self._built: tuple[Uniqueness, asyncio.AbstractEventLoop, _T] | None = None
        self._turn: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    async def get(self) -> _T:
        """The value, which is built if there is none or something has changed.

        Raises what the build raises, and then the next call builds again; `UnsettledError` if
        something changed during each of a few builds.

        Cancelled in a build, it cancels that.
        """
        return (await self._current())[1]

    @contextlib.asynccontextmanager
    async def use(self) -> AsyncGenerator[_T, None]:
        """The value for a block, at whose end it is looked once more whether something has changed.

        Raises as `get`, and `UnsettledError` at the end of the block if something changed
        meanwhile: what came of the use is to be dropped, and the value is not used again.
        """
        mark, value = await self._current()
        yield value
        if not mark.is_current():
            raise UnsettledError("something changed while the value was used: drop what came of it")

    def forget(self) -> None:
        """Drops the value. The next use builds another: `before_snapshot(guard.forget)`."""
        self._built = None

    async def _current(self) -> tuple[Uniqueness, _T]:
        loop = asyncio.get_running_loop()
        found = self._look(loop)
        if found is not None:
            return found
        if self._turn is None or self._turn[0] is not loop:
            self._turn = loop, asyncio.Lock()
        async with self._turn[1]:
            found = self._look(loop)
            if found is not None:
                return found
            # First, so that a build that fails leaves no old value behind.
            self._built = None
            for _ in range(_ATTEMPTS):
                _native.shows_restores()  # looks for a source, if there was none
                mark = _native.uniqueness()
                value = await self._build()
                if mark.is_current():
                    self._built = mark, loop, value
                    return mark, value
        raise UnsettledError(f"something changed during each of {_ATTEMPTS} builds")

    def _look(self, loop: asyncio.AbstractEventLoop) -> tuple[Uniqueness, _T] | None:
        built = self._built
        if built is None or built[1] is not loop or not built[0].is_current():
            return None
        return built[0], built[2]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a guard cannot be pickled or copied: make one in the other process")

    def __repr__(self) -> str:
        if self._built is None:
            return "<sysgenid.aio.Guarded, empty>"
        return f"<sysgenid.aio.Guarded, built in generation {self._built[0].generation}>"
