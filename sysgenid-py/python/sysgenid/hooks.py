# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Functions that are to be called before a snapshot and after a restore.

The names and the orders are those of AWS Lambda SnapStart's `snapshot_restore_py`, and the orders
and what becomes of failures are those of Java's CRaC: before a snapshot in reverse order of
registration, after a restore in the order of registration; a hook that fails keeps no other from
running.

    import sysgenid

    @sysgenid.on_change
    def replace_session(generation: int) -> None: ...

    @sysgenid.before_snapshot
    def close_connections() -> None: ...

Nothing runs by itself. Hooks for a change are run by `sysgenid.watch_in_background`, or by a
program that waits itself: `watcher.handle(sysgenid.run_on_change, timeout)`. Nobody but the program
can know that a snapshot is about to be taken: it calls `run_before_snapshot` then.

Hooks are the process's. A forked child has its parent's.
"""

from __future__ import annotations

import contextlib
import types
from typing import TYPE_CHECKING, Any, TypeVar

from ._functions import is_async
from ._native import assume_restored, shows_restores
from ._native import generation as current_generation

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "HookError",
    "before_snapshot",
    "on_change",
    "register_after_restore",
    "register_before_snapshot",
    "run_before_snapshot",
    "run_on_change",
    "unregister",
]

_F = TypeVar("_F", bound="Callable[..., object]")


class HookError(RuntimeError):
    """Hooks have failed. All the others have run.

    `failures` has each hook that failed with its exception, in the order in which they ran. The
    first exception is the `__cause__` as well.
    """

    __module__ = "sysgenid"

    def __init__(self, failures: list[tuple[Callable[..., object], Exception]]) -> None:
        self.failures = tuple(failures)
        reasons = ", ".join(f"{_name(hook)} ({error!r})" for hook, error in failures)
        count = "a hook" if len(failures) == 1 else f"{len(failures)} hooks"
        super().__init__(f"{count} failed: {reasons}")


class _Hook:
    __slots__ = ("args", "function", "is_told", "kwargs")

    def __init__(
        self, function: Callable[..., object], is_told: bool, args: Any = (), kwargs: Any = None
    ) -> None:
        self.function = function
        self.is_told = is_told
        self.args = args
        self.kwargs = kwargs or {}

    def run(self, generation: int | None) -> None:
        result = (
            self.function(generation) if self.is_told else self.function(*self.args, **self.kwargs)
        )
        if isinstance(result, types.CoroutineType):
            result.close()
            raise TypeError(_NOT_ASYNC)


_NOT_ASYNC = "a hook is an ordinary function; for a coroutine there is sysgenid.aio.Watcher.handle"

# Each change of a list is one operation of the interpreter's, so that there is no lock that a
# signal handler or a forked child could wait for.
_after: list[_Hook] = []
_before: list[_Hook] = []


def on_change(function: _F, /) -> _F:
    """Has `function(generation)` called after each change, in the order of registration.

    >>> import sysgenid
    >>> @sysgenid.on_change
    ... def replace_session(generation: int) -> None:
    ...     print("a new session for generation", generation)
    >>> sysgenid.run_on_change(7)
    a new session for generation 7
    >>> sysgenid.hooks.unregister(replace_session)

    Returns the function as it is. It may be called more than once for a generation: again if
    another hook failed. Changes that follow one another quickly are one call, with the latest.

    Raises `TypeError` for a coroutine function.
    """
    _after.append(_Hook(_ordinary(function), True))
    return function


def before_snapshot(function: _F, /) -> _F:
    """Has `function()` called before a snapshot, in reverse order of registration.

    Returns the function as it is. What was set up last, on top of the rest, is taken down first.
    The program says when: `run_before_snapshot`.

    Raises `TypeError` for a coroutine function.
    """
    return register_before_snapshot(function)


def register_after_restore(function: _F, /, *args: Any, **kwargs: Any) -> _F:
    """Has `function(*args, **kwargs)` called after each change, as a hook of `on_change`.

    The name, the arguments and the order are those of `snapshot_restore_py`; it is a decorator as
    well. Hooks of both kinds are in one order.

    Raises `TypeError` for a coroutine function.
    """
    _after.append(_Hook(_ordinary(function), False, args, kwargs))
    return function


def register_before_snapshot(function: _F, /, *args: Any, **kwargs: Any) -> _F:
    """Has `function(*args, **kwargs)` called before a snapshot, as a hook of `before_snapshot`.

    The name, the arguments and the order are those of `snapshot_restore_py`.

    Raises `TypeError` for a coroutine function.
    """
    _before.append(_Hook(_ordinary(function), False, args, kwargs))
    return function


def unregister(function: Callable[..., object], /) -> None:
    """Forgets each registration of `function`, of either kind. None is fine, as with `atexit`.

    A hook that is unregistered while others run is not called any more.
    """
    for hooks in (_after, _before):
        for hook in list(hooks):
            if hook.function == function:
                with contextlib.suppress(ValueError):  # another thread was faster
                    hooks.remove(hook)


def run_on_change(generation: int | None = None) -> None:
    """Runs the hooks for a change, in the order of registration; `None` is the current generation.

    If it is not a generation that the process sees by itself, as without a source and on a driver
    of the v5 dialect, `assume_restored` is called before: all that is guarded, cached and seeded
    is old.

    A hook that is registered meanwhile is not run this time. Two threads that run hooks at the same
    time are not kept apart.

    Raises `HookError` if hooks failed, after all the others have run. What is no `Exception`, such
    as `KeyboardInterrupt`, comes through at once.
    """
    is_seen = shows_restores()  # first, because it looks for a source
    if generation is None:
        generation = current_generation()
    if not is_seen or generation != current_generation():
        # Only a watcher has seen it: whoever looks at the process sees nothing. (Without a source
        # the number of the process means nothing.)
        assume_restored()
    _run(list(_after), _after, generation)


def run_before_snapshot() -> None:
    """Runs the hooks for a snapshot, in reverse order of registration.

    Raises `HookError` if hooks failed, after all the others have run: do not take the snapshot
    then.
    """
    _run(_before[::-1], _before, None)


def _run(hooks: list[_Hook], registered: list[_Hook], generation: int | None) -> None:
    failures: list[tuple[Callable[..., object], Exception]] = []
    for hook in hooks:
        if hook not in registered:
            continue
        try:
            hook.run(generation)
        except Exception as error:
            failures.append((hook.function, error))
    if failures:
        raise HookError(failures) from failures[0][1]


def _ordinary(function: _F) -> _F:
    if not callable(function):
        raise TypeError("a hook is a function")
    if is_async(function):
        raise TypeError(_NOT_ASYNC)
    return function


def _name(function: Callable[..., object]) -> str:
    return getattr(function, "__qualname__", None) or repr(function)
