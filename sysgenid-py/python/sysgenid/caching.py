# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Caches of results that a restore or a fork empties."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from ._native import CachedBase, is_deferred, refuse_deferred, shows_restores, uniqueness
from .errors import UnsettledError

__all__ = ["cached", "cached_property"]

_P = ParamSpec("_P")
_Q = ParamSpec("_Q")
_Self = TypeVar("_Self")
_R_co = TypeVar("_R_co", covariant=True)
_R = TypeVar("_R")


class _Cached(Protocol[_P, _R_co]):
    """A function with a cache, as `functools.lru_cache` makes them."""

    __name__: str

    @property
    def __wrapped__(self) -> Callable[_P, _R_co]: ...
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...
    @overload
    def __get__(self, instance: None, owner: type[object] | None = None) -> _Cached[_P, _R_co]: ...
    @overload
    def __get__(
        self: _Cached[Concatenate[_Self, _Q], _R_co],
        instance: _Self,
        owner: type[object] | None = None,
    ) -> Callable[_Q, _R_co]: ...
    def __get__(self, instance: object, owner: type[object] | None = None) -> Any: ...
    def cache_clear(self) -> None: ...
    def cache_info(self) -> functools._CacheInfo: ...
    def cache_parameters(self) -> dict[str, object]: ...


@overload
def cached(function: Callable[_P, _R], /) -> _Cached[_P, _R]: ...
@overload
def cached(
    function: None = None, /, *, maxsize: int | None = None, typed: bool = False
) -> Callable[[Callable[_P, _R]], _Cached[_P, _R]]: ...
def cached(
    function: Callable[..., Any] | None = None,
    /,
    *,
    maxsize: int | None = None,
    typed: bool = False,
) -> Any:
    """Keeps the results of a function, as `functools.cache` does, until a restore or a fork.

    >>> import sysgenid
    >>> @sysgenid.cached
    ... def token(user: str) -> str:
    ...     return sysgenid.entropy(8).hex()
    >>> token("ann") == token("ann"), token("ann") == token("bob")
    (True, False)

    With `maxsize` and `typed` it is as `functools.lru_cache`: `@sysgenid.cached(maxsize=128)`. So
    are `cache_clear()`, `cache_info()`, `cache_parameters()` and `__wrapped__`; arguments must be
    hashable, and what the function raises is not kept. A method's cache has the object in its key,
    and so keeps it alive.

    >>> token.cache_info()
    CacheInfo(hits=2, misses=2, maxsize=None, currsize=2)

    What is guaranteed: what is returned was computed since the last change that can be seen at the
    return, and not across it. The whole cache is forgotten, and its numbers begin anew. No lock is
    held while the function runs: threads may share it, and a forked child never waits for its
    parent's.

    What is not: that the function runs once. Threads that ask for the same result at the same time
    may each compute it, and a computation that a change overtook is made again. A change that
    cannot be seen yet, see `Guarded`.

    Raises `UnsettledError` if something changed during each of a few calls, and
    `TypeError` for a coroutine function or a generator function, and in a call whose result has yet
    to run, such as a coroutine, a future or a generator.
    """
    if function is None:
        return functools.partial(cached, maxsize=maxsize, typed=typed)
    if not callable(function):
        raise TypeError("@cached takes a function; its options are named: @cached(maxsize=128)")
    if is_deferred(function):
        raise TypeError("a coroutine or a generator cannot be kept: it runs once, and later")
    wrapper = _Wrapper(function, functools.lru_cache(maxsize, typed))
    return functools.update_wrapper(wrapper, function)


class _Wrapper(CachedBase):
    """What `cached` makes: it has the attributes of the function."""

    # Here, because the garbage collector looks at these only in a class of Python's.
    __slots__ = ("__dict__", "__weakref__")


_ATTEMPTS = 4


class cached_property(Generic[_R]):
    """As `functools.cached_property`, but computed again after a restore and after a fork.

    >>> import sysgenid
    >>> class Client:
    ...     @sysgenid.cached_property
    ...     def session(self) -> str:
    ...         return sysgenid.entropy(8).hex()
    >>> client = Client()
    >>> before = client.session
    >>> client.session == before
    True
    >>> sysgenid.assume_restored()
    >>> client.session == before
    False

    The value is kept in the object's `__dict__`, beside the attribute's name: `del client.session`
    drops it. Threads may share the object; several that find no value may each compute one, and one
    stays.

    Reading it raises `UnsettledError` if something changed during each of a few computations, and
    `TypeError` if the result has yet to run, such as a coroutine.
    """

    def __init__(self, function: Callable[[Any], _R]) -> None:
        if is_deferred(function):
            raise TypeError("a coroutine or a generator cannot be kept: it runs once, and later")
        self.func = function
        self.attrname: str | None = None
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__

    def __set_name__(self, owner: type[object], name: str) -> None:
        if self.attrname not in (None, name):
            raise TypeError("a cached_property has one name: make another for the second")
        self.attrname = name

    @overload
    def __get__(self, instance: None, owner: type[object] | None = None) -> cached_property[_R]: ...
    @overload
    def __get__(self, instance: object, owner: type[object] | None = None) -> _R: ...
    def __get__(self, instance: object, owner: type[object] | None = None) -> Any:
        if instance is None:
            return self
        place, key = self._place(instance)
        kept = place.get(key)
        if kept is not None and kept[0].is_current():
            return kept[1]
        place.pop(key, None)
        for _ in range(_ATTEMPTS):
            shows_restores()  # looks for a source, if there was none
            mark = uniqueness()
            value = self.func(instance)
            refuse_deferred(value, "a cached property")
            if mark.is_current():
                place[key] = (mark, value)
                return value
        raise UnsettledError(f"something changed during each of {_ATTEMPTS} computations")

    def __set__(self, instance: object, value: object) -> None:
        raise AttributeError(f"{self.attrname} is computed")

    def __delete__(self, instance: object) -> None:
        place, key = self._place(instance)
        place.pop(key, None)

    def _place(self, instance: object) -> tuple[dict[str, Any], str]:
        if self.attrname is None:
            raise TypeError("a cached_property is made in the body of a class")
        return vars(instance), f"_sysgenid_{self.attrname}"
