# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Stands in for `sysgenid._native` where there is none: what is asked raises `UnsupportedError`.

A program that uses the package can be imported on such a system: it may make guards and register
hooks, as it does when its modules are loaded. Only the names that do no more than that are here.
Any other name of the native part raises when it is called.
"""

from __future__ import annotations

import errno
import inspect
import sys
from collections.abc import Callable
from typing import Any, NoReturn

__version__ = "@VERSION@"


def _refuse(*_: object, **__: object) -> NoReturn:
    from sysgenid.errors import UnsupportedError

    if sys.platform == "linux":
        reason = (
            "this is the wheel of sysgenid that sees nothing, because there is no other for this "
            "interpreter and C library: install it from its sources, with Rust, by `pip install "
            "--force-reinstall --no-binary sysgenid sysgenid`"
        )
    else:
        reason = f"sysgenid sees restores and forks on Linux only, and this is {sys.platform}"
    raise UnsupportedError(errno.EOPNOTSUPP, reason)


class _Made:
    """What may be made where a module is loaded, and not used."""

    __slots__ = ()

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name.startswith("__"):
            raise AttributeError(name)
        return _refuse

    def __class_getitem__(cls, _: object) -> type[_Made]:
        return cls

    def __reduce__(self) -> NoReturn:
        raise TypeError("it cannot be pickled")


class Guarded(_Made):
    """A guard whose value is never built."""

    __slots__ = ()

    __module__ = "sysgenid"


class GuardedLock(_Made):
    """The lock of a generator of numpy's."""

    __slots__ = ()


class GuardedDraws(_Made):
    """A generator that draws nothing."""

    __slots__ = ()

    last_epoch = 0
    core = property(_refuse)

    def outdate(self) -> None:
        """There is nothing to draw, old or new."""


class CachedBase(_Made):
    """A function that is never called."""

    __slots__ = ()

    __call__ = _refuse

    def __get__(self, instance: object, owner: type[object] | None = None, /) -> Any:
        return self


def is_deferred(function: object) -> bool:
    """Whether it has yet to run when it has returned."""
    kinds = inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction
    return any(is_kind(function) for is_kind in kinds)


def register_hook(*_: object, **__: object) -> None:
    """Registers what never runs: what would run hooks raises."""


def unregister_hooks(*_: object) -> None:
    """None is registered."""


def registered_hooks() -> list[Callable[..., object]]:
    """None is registered."""
    return []


def __getattr__(name: str) -> type[object]:
    if name.startswith("__"):
        raise AttributeError(name)
    # A class, because some are the bases of others.
    refused = type(name, (), {"__new__": _refuse, "__doc__": "Refused."})
    globals()[name] = refused
    return refused
