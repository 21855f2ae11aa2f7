# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Functions that are to be called before a snapshot and after a restore.

The words and the orders are those of AWS Lambda SnapStart and of Java's CRaC: before a snapshot in
reverse order of registration, after a restore in the order of registration; a hook that fails keeps
no other from running.

    import sysgenid

    @sysgenid.after_restore
    async def replace_session(change: sysgenid.Change) -> None: ...

    @sysgenid.before_snapshot
    def close_connections() -> None: ...

Nothing runs by itself. Hooks for a change are run by `sysgenid.background`, or by
`sysgenid.Orchestrator.settle`. Only the program knows that a snapshot is about to be taken: it does
so in a `sysgenid.snapshot` block.

Hooks are the process's. A forked child has its parent's. One run is made at a time: a second thread
waits for the first, and a hook that runs hooks gets a `RuntimeError`.

What is registered with AWS Lambda's `snapshot_restore_py` runs as well, if that module is loaded:
before a snapshot after the hooks of this package, after a restore before them.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import sys
import threading
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from types import TracebackType
from typing import Any, Generic, Literal, ParamSpec, TypeVar, overload

from . import _native
from ._functions import is_async
from ._typing import Self
from .errors import Error

__all__ = [
    "Hook",
    "HookError",
    "after_restore",
    "before_snapshot",
    "register_after_restore",
    "register_before_snapshot",
    "run_after_restore",
    "run_before_snapshot",
    "snapshot",
    "unregister",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_log = logging.getLogger("sysgenid")

# Which thread runs which hook, for a look at what hangs.
_running: dict[int, Any] = {}


class HookError(Error):
    """Hooks have failed. All the others have run.

    `failures` has each hook that failed with its exception, in the order in which they ran. The
    first exception that is not ignored is the `__cause__` as well.
    """

    __module__ = "sysgenid"

    def __init__(self, failures: list[tuple[Callable[..., object] | None, BaseException]]) -> None:
        self.failures: tuple[tuple[Callable[..., object] | None, BaseException], ...]
        flat: list[tuple[Callable[..., object] | None, BaseException]] = []
        for hook, error in failures:
            inner = error.failures if isinstance(error, HookError) else ()
            flat += inner if isinstance(hook, _SnapStart) else [(hook, error)]
        self.failures = tuple(flat)
        reasons = ", ".join(f"{_name(hook)} ({error!r})" for hook, error in flat)
        count = "a hook" if len(flat) == 1 else f"{len(flat)} hooks"
        super().__init__(f"{count} failed: {reasons}")

    def __reduce__(self) -> tuple[Any, ...]:
        # The functions and their exceptions may belong to this process alone.
        return _unpickled, (str(self),)


def _unpickled(message: str) -> HookError:
    error = HookError([])
    error.args = (message,)
    return error


class Hook(Generic[_P, _R]):
    """A function that is registered, and can be called as before."""

    __module__ = "sysgenid"
    __name__: str

    def __init__(
        self, function: Callable[_P, _R], before: bool, call: Callable[[Any], object]
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self._before = before
        self._call = call
        self._registration: _native.Registration | None = None

    def remove(self) -> None:
        """Forgets the registration; to do it twice is fine.

        A hook that is removed while others run is not called any more.
        """
        # The two hold each other, and the collector does not see it.
        registration, self._registration = self._registration, None
        if registration is not None:
            registration.remove()

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Calls the function."""
        return self.function(*args, **kwargs)

    def __get__(self, instance: object, owner: type[object] | None = None) -> Any:
        # As the function of a class that it may be.
        get = getattr(self.function, "__get__", None)
        return self if instance is None or get is None else get(instance, owner)

    def __repr__(self) -> str:
        when = "before_snapshot" if self._before else "after_restore"
        return f"<sysgenid.Hook {_name(self)} of {when}>"


@overload
def after_restore(function: Callable[_P, _R], /) -> Hook[_P, _R]: ...
@overload
def after_restore(
    function: None = None,
    /,
    *,
    timeout: float | timedelta | None = None,
    on_failure: Literal["abort", "ignore"] = "abort",
) -> Callable[[Callable[_P, _R]], Hook[_P, _R]]: ...
@overload
def after_restore(
    function: Callable[_P, _R],
    /,
    *,
    timeout: float | timedelta | None = None,
    on_failure: Literal["abort", "ignore"] = "abort",
) -> Hook[_P, _R]: ...
def after_restore(function: Any = None, /, **options: Any) -> Any:
    """Has `function(change)` called after each change, in the order of registration.

    >>> import sysgenid
    >>> @sysgenid.after_restore
    ... def replace_session(change: sysgenid.Change) -> None:
    ...     print("a new session for generation", change.generation)
    >>> sysgenid.run_after_restore(7)
    a new session for generation 7
    >>> replace_session.remove()

    Returns a `Hook`, which can be called as the function, and be removed. A function that can be
    called without arguments is called so.

    It may be called more than once for a generation: again if another hook failed. Changes that
    follow one another quickly are one call, with the latest. A change that comes after the
    registration, and before something runs the hooks, is not missed.

    The function may be a coroutine function. It runs in the event loop in which it was registered,
    as long as that runs, and otherwise in a loop that is made for the call.

    With `timeout`, in seconds or as a `timedelta`, the hook runs on a thread of its own. If it has
    not ended in time it has failed, and the run goes on; the hook does so as well, and is not
    called again before it has ended. With `on_failure="ignore"` a failure is only logged:

    >>> @sysgenid.after_restore(timeout=2.0, on_failure="ignore")
    ... def warm_up() -> None: ...
    >>> warm_up.remove()

    A function that replaces one of the same name and module takes its place, as a cell of a
    notebook does that is run again.

    Raises `TypeError` for what cannot be called with a change or without arguments.
    """
    return _register(function, options, before=False)


@overload
def before_snapshot(function: Callable[_P, _R], /) -> Hook[_P, _R]: ...
@overload
def before_snapshot(
    function: None = None,
    /,
    *,
    timeout: float | timedelta | None = None,
    on_failure: Literal["abort", "ignore"] = "abort",
) -> Callable[[Callable[_P, _R]], Hook[_P, _R]]: ...
@overload
def before_snapshot(
    function: Callable[_P, _R],
    /,
    *,
    timeout: float | timedelta | None = None,
    on_failure: Literal["abort", "ignore"] = "abort",
) -> Hook[_P, _R]: ...
def before_snapshot(function: Any = None, /, **options: Any) -> Any:
    """Has `function()` called before a snapshot, in reverse order of registration.

    What was set up last, on top of the rest, is taken down first. The program says when:
    `snapshot`. All else is as with `after_restore`.

    Raises `TypeError` for what cannot be called without arguments.
    """
    return _register(function, options, before=True)


def register_after_restore(
    func: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs
) -> Hook[_P, _R]:
    """Has `func(*args, **kwargs)` called after each change, as a hook of `after_restore`.

    The name, the arguments and the order are those of AWS Lambda's `snapshot_restore_py`; it is a
    decorator as well. Hooks of both kinds are in one order.

    Raises `TypeError` if it cannot be called like that.
    """
    hook: Hook[_P, _R] = _add(func, False, args, kwargs)
    return hook


def register_before_snapshot(
    func: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs
) -> Hook[_P, _R]:
    """Has `func(*args, **kwargs)` called before a snapshot, as a hook of `before_snapshot`.

    The name, the arguments and the order are those of AWS Lambda's `snapshot_restore_py`.

    Raises `TypeError` if it cannot be called like that.
    """
    hook: Hook[_P, _R] = _add(func, True, args, kwargs)
    return hook


def unregister(function: Callable[..., object], /) -> None:
    """Removes each hook of `function`, for those who do not have the `Hook`. None is fine."""
    for hook in _native.registered_hooks():
        if isinstance(hook, Hook) and function in (hook, hook.function):
            hook.remove()


def run_after_restore(generation: int | None = None) -> None:
    """Runs the hooks for a change, in the order of registration; `None` is the current generation.

    If it is not a generation that the process sees by itself, as without a source and on a driver
    of the v5 dialect, `assume_restored` is called before: all that is guarded, cached and seeded
    is old.

    A hook that is registered meanwhile is not run this time. In an event loop, await
    `aio.run_after_restore`.

    Raises `HookError` if hooks failed, after all the others have run. What is no `Exception`, such
    as `KeyboardInterrupt`, comes through at once; `SystemExit` is a failure of the hook.
    """
    _stand()
    _log_ignored(_native.run_after_restore(generation))


def run_before_snapshot() -> None:
    """Runs the hooks for a snapshot, in reverse order of registration.

    Raises `HookError` if hooks failed, after all the others have run: do not take the snapshot
    then. A `snapshot` block does that.
    """
    _stand()
    _log_ignored(_native.run_before_snapshot())


class snapshot:
    """Around the moment at which a snapshot is taken: the hooks before it, then those after it.

    >>> import sysgenid
    >>> closing = sysgenid.before_snapshot(lambda: print("closing"))
    >>> opening = sysgenid.after_restore(lambda: print("opening"))
    >>> with sysgenid.snapshot():
    ...     print("the snapshot is taken")
    closing
    the snapshot is taken
    opening
    >>> closing.remove(), opening.remove()
    (None, None)

    The block ends in the system that goes on, and in each one that is restored from the snapshot.

    If a hook before the snapshot fails, the block is not entered: the hooks after it run, so that
    what was closed is open again, and then the `HookError` is raised. So do they if the block
    raises. The hooks after it may raise a `HookError` as well. For asyncio there is `aio.snapshot`.
    """

    def __enter__(self) -> Self:
        try:
            run_before_snapshot()
        except BaseException:
            run_after_restore()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        run_after_restore()


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
    if isinstance(function, Hook):
        function = function.function
    if not callable(function):
        raise TypeError("a hook is a function")
    call = _caller(function, before, arguments, named)
    _stand()
    hook: Hook[..., Any] = Hook(function, before, call)
    replaced = [] if arguments or named else _replaced(function, before)
    hook._registration = _native.register_hook(
        hook, before=before, name=_name(function), timeout=timeout, on_failure=on_failure
    )
    for old in replaced:
        old.remove()
    return hook


def _caller(
    function: Callable[..., Any],
    before: bool,
    arguments: tuple[Any, ...] | None,
    named: dict[str, Any] | None,
) -> Callable[[Any], object]:
    """What is called with the change, once it is known that the function can be."""
    call: Callable[[Any], Any]
    if arguments is not None:
        given, by_name = arguments, named or {}
        if not _takes(function, given, by_name):
            raise TypeError(f"{_name(function)} cannot be called with these arguments")
        call = lambda change: function(*given, **by_name)  # noqa: E731
    elif _takes(function, (), {}):
        # Also one that has defaults, which may be what a loop has given it.
        call = lambda change: function()  # noqa: E731
    elif before or not _takes(function, (None,), {}):
        wanted = "without arguments" if before else "with a change, or without arguments"
        raise TypeError(f"a hook is called {wanted}: {_name(function)} cannot be")
    else:
        call = function
    if not _is_coroutine_function(function):
        if is_async(function):
            raise TypeError("a hook is no generator: nothing would run it")
        return lambda change: _native.refuse_deferred(call(change), "a hook")
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        loop = None
    return lambda change: _run(call(change), loop)


def _takes(function: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> bool:
    try:
        inspect.signature(function).bind(*arguments, **named)
    except TypeError:
        return False
    except ValueError:  # it is a built-in one that does not say
        return True
    return True


def _is_coroutine_function(function: Any) -> bool:
    # Of an object that is callable, it is its method that is asynchronous.
    return any(map(inspect.iscoroutinefunction, (function, getattr(function, "__call__", None))))  # noqa: B004


def _run(work: Awaitable[object], loop: AbstractEventLoop | None) -> None:
    """Runs an asynchronous hook to its end."""
    try:
        here: AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        here = None

    async def wait() -> None:
        await work

    if loop is not None and loop.is_running():
        if here is loop:
            if isinstance(work, Coroutine):
                work.close()
            raise RuntimeError("hooks of this event loop: await sysgenid.aio.run_after_restore()")
        asyncio.run_coroutine_threadsafe(wait(), loop).result()
    elif here is None:
        asyncio.run(wait())
    else:
        failures: list[BaseException] = []

        def run() -> None:
            try:
                asyncio.run(wait())
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=run, name="sysgenid-hook")
        thread.start()
        thread.join()
        if failures:
            raise failures[0]


def _replaced(function: Any, before: bool) -> list[Hook[..., Any]]:
    """The hooks that this one takes the place of: of the same function, or of one that was there
    under its name before a cell or a module was run again."""
    hooks = [hook for hook in _native.registered_hooks() if isinstance(hook, Hook)]
    return [it for it in hooks if it._before == before and _is_again(function, it.function)]


def _is_again(new: Any, old: Any) -> bool:
    if new is old or (inspect.ismethod(new) and new == old):
        return True
    code, code_before = getattr(new, "__code__", None), getattr(old, "__code__", None)
    if code is None or code_before is None or inspect.ismethod(new) or inspect.ismethod(old):
        return False
    # Those that one definition makes, as in a loop, have the same code. Others of one file and one
    # name, as several that are called `_`, are on different lines. A local name says nothing.
    name = new.__qualname__
    return (
        name == old.__qualname__
        and "<" not in name
        and name != "_"
        and new.__module__ == old.__module__
        and code is not code_before
        and (
            code.co_filename != code_before.co_filename
            or code.co_firstlineno == code_before.co_firstlineno
        )
    )


def _invoke(hook: Hook[..., Any] | _SnapStart, change: _native.Change | None) -> None:
    """Calls a hook. All of it that is Python's happens in here."""
    thread = threading.get_ident()
    _running[thread] = hook
    try:
        hook._call(change)
    finally:
        del _running[thread]


class _SnapStart:
    """Runs what is registered with AWS Lambda's `snapshot_restore_py`."""

    def __init__(self, before: bool) -> None:
        self._before = before
        self.__qualname__ = "snapshot_restore_py"

    def _call(self, change: object) -> None:
        registry: Any = sys.modules.get("snapshot_restore_py")
        if registry is None:
            return
        hooks = registry.get_before_snapshot() if self._before else registry.get_after_restore()
        failures: list[tuple[Callable[..., object] | None, BaseException]] = []
        for func, args, kwargs in list(reversed(hooks) if self._before else hooks):
            try:
                result = func(*args, **kwargs)
                if inspect.iscoroutine(result):
                    _run(result, None)
                else:
                    _native.refuse_deferred(result, "a hook")
            except (Exception, SystemExit) as error:
                failures.append((func, error))
        if failures:
            raise HookError(failures) from failures[0][1]


_snap_start: list[_native.Registration] = []


def _stand() -> None:
    """Registers those first that run what `snapshot_restore_py` has, whenever that is loaded."""
    while len(_snap_start) < 2:
        before = bool(_snap_start)
        hook = _SnapStart(before)
        name = "snapshot_restore_py"
        _snap_start.append(
            _native.register_hook(hook, before=before, name=name, timeout=None, on_failure="abort")
        )


def _log_ignored(failures: list[tuple[Any, BaseException]]) -> None:
    for hook, error in failures:
        _log.warning("%s failed, which is ignored", _name(hook), exc_info=error)


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", None) or repr(function)
