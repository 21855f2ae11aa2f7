# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Functions that are to be called before a snapshot and after a restore.

The words and the orders are those of AWS Lambda SnapStart and of Java's CRaC: before a snapshot in
reverse order of registration, after a restore in the order of registration; a hook that fails keeps
no other from running.

    import sysgenid

    @sysgenid.after_restore
    def replace_session(generation: int) -> None: ...

    @sysgenid.before_snapshot
    def close_connections() -> None: ...

Nothing runs by itself. Hooks for a change are run by `sysgenid.background`, or by a program that
waits itself: `watcher.handle(sysgenid.run_after_restore, timeout)`. Only the program knows that a
snapshot is about to be taken: it calls `run_before_snapshot` then.

Hooks are the process's. A forked child has its parent's. One run is made at a time: a second thread
waits for the first, and a hook that runs hooks gets a `RuntimeError`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal, ParamSpec, TypeVar, overload

from . import _native
from ._functions import is_async

__all__ = [
    "HookError",
    "after_restore",
    "before_snapshot",
    "register_after_restore",
    "register_before_snapshot",
    "run_after_restore",
    "run_before_snapshot",
    "unregister",
]

_F = TypeVar("_F", bound="Callable[..., object]")
_P = ParamSpec("_P")
_R = TypeVar("_R")
_NOT_ASYNC = "a hook is an ordinary function; for a coroutine there is sysgenid.aio.Watcher.handle"
_log = logging.getLogger("sysgenid")


class HookError(RuntimeError):
    """Hooks have failed. All the others have run.

    `failures` has each hook that failed with its exception, in the order in which they ran. The
    first exception that is not ignored is the `__cause__` as well.
    """

    __module__ = "sysgenid"

    def __init__(self, failures: list[tuple[Callable[..., object] | None, BaseException]]) -> None:
        self.failures: tuple[tuple[Callable[..., object] | None, BaseException], ...]
        self.failures = tuple(failures)
        reasons = ", ".join(f"{_name(hook)} ({error!r})" for hook, error in failures)
        count = "a hook" if len(failures) == 1 else f"{len(failures)} hooks"
        super().__init__(f"{count} failed: {reasons}")


@overload
def after_restore(function: _F, /) -> _F: ...
@overload
def after_restore(
    function: None = None,
    /,
    *,
    timeout: float | timedelta | None = None,
    on_failure: Literal["abort", "ignore"] = "abort",
) -> Callable[[_F], _F]: ...
def after_restore(function: Any = None, /, **options: Any) -> Any:
    """Has `function(generation)` called after each change, in the order of registration.

    >>> import sysgenid
    >>> @sysgenid.after_restore
    ... def replace_session(generation: int) -> None:
    ...     print("a new session for generation", generation)
    >>> sysgenid.run_after_restore(7)
    a new session for generation 7
    >>> sysgenid.hooks.unregister(replace_session)

    Returns the function as it is. It may be called more than once for a generation: again if
    another hook failed. Changes that follow one another quickly are one call, with the latest.

    With `timeout`, in seconds or as a `timedelta`, the hook runs on a thread of its own. If it has
    not ended in time it has failed, and the run goes on; the hook does so as well, and is not
    called again before it has ended. With `on_failure="ignore"` a failure is only logged:

    >>> @sysgenid.after_restore(timeout=2.0, on_failure="ignore")
    ... def warm_up(generation: int) -> None: ...
    >>> sysgenid.hooks.unregister(warm_up)

    Raises `TypeError` for a coroutine function.
    """
    return _register(function, options, before=False)


@overload
def before_snapshot(function: _F, /) -> _F: ...
@overload
def before_snapshot(
    function: None = None,
    /,
    *,
    timeout: float | timedelta | None = None,
    on_failure: Literal["abort", "ignore"] = "abort",
) -> Callable[[_F], _F]: ...
def before_snapshot(function: Any = None, /, **options: Any) -> Any:
    """Has `function()` called before a snapshot, in reverse order of registration.

    Returns the function as it is. What was set up last, on top of the rest, is taken down first.
    The program says when: `run_before_snapshot`. `timeout` and `on_failure` are those of
    `after_restore`.

    Raises `TypeError` for a coroutine function.
    """
    return _register(function, options, before=True)


def register_after_restore(
    function: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs
) -> Callable[_P, _R]:
    """Has `function(*args, **kwargs)` called after each change, as a hook of `after_restore`.

    The name, the arguments and the order are those of AWS Lambda's `snapshot_restore_py`; it is a
    decorator as well. Hooks of both kinds are in one order.

    Raises `TypeError` for a coroutine function.
    """
    registered: Callable[_P, _R] = _add(function, False, args, kwargs)
    return registered


def register_before_snapshot(
    function: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs
) -> Callable[_P, _R]:
    """Has `function(*args, **kwargs)` called before a snapshot, as a hook of `before_snapshot`.

    The name, the arguments and the order are those of AWS Lambda's `snapshot_restore_py`.

    Raises `TypeError` for a coroutine function.
    """
    registered: Callable[_P, _R] = _add(function, True, args, kwargs)
    return registered


def unregister(function: Callable[..., object], /) -> None:
    """Forgets each registration of `function`, of either kind. None is fine, as with `atexit`.

    A hook that is unregistered while others run is not called any more.
    """
    _native.unregister_hooks(function)


def run_after_restore(generation: int | None = None) -> None:
    """Runs the hooks for a change, in the order of registration; `None` is the current generation.

    If it is not a generation that the process sees by itself, as without a source and on a driver
    of the v5 dialect, `assume_restored` is called before: all that is guarded, cached and seeded
    is old.

    A hook that is registered meanwhile is not run this time.

    Raises `HookError` if hooks failed, after all the others have run. What is no `Exception`, such
    as `KeyboardInterrupt`, comes through at once.
    """
    _log_ignored(_native.run_after_restore(generation))


def run_before_snapshot() -> None:
    """Runs the hooks for a snapshot, in reverse order of registration.

    Raises `HookError` if hooks failed, after all the others have run: do not take the snapshot
    then.
    """
    _log_ignored(_native.run_before_snapshot())


def _register(function: Any, options: dict[str, Any], *, before: bool) -> Any:
    if function is None and options:
        return lambda hook: _add(hook, before, None, None, **options)
    return _add(function, before, None, None, **options)


def _add(
    function: Any,
    before: bool,
    arguments: tuple[Any, ...] | None,
    named: dict[str, Any] | None,
    timeout: float | timedelta | None = None,
    on_failure: Literal["abort", "ignore"] = "abort",
) -> Any:
    if not callable(function):
        raise TypeError("a hook is a function")
    if is_async(function):
        raise TypeError(_NOT_ASYNC)
    _native.register_hook(
        function,
        before=before,
        arguments=arguments,
        named=named,
        name=_name(function),
        timeout=timeout,
        on_failure=on_failure,
    )
    return function


def _invoke(
    function: Callable[..., object], arguments: tuple[Any, ...], named: dict[str, Any]
) -> None:
    """Calls a hook. All of it that is Python's happens in here."""
    _native.refuse_deferred(function(*arguments, **named), "a hook")


def _log_ignored(failures: list[tuple[Callable[..., object] | None, BaseException]]) -> None:
    for hook, error in failures:
        _log.warning("%s failed, which is ignored", _name(hook), exc_info=error)


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", None) or repr(function)
