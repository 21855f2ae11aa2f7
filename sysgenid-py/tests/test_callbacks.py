# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Nothing counts as done that has yet to run: coroutines, futures, generators."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import io
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from unittest import mock

import pytest
import sysgenid
from support import patient
from sysgenid._functions import is_async as is_deferred


async def coroutine(*_: object) -> None: ...


async def asynchronous_generator(*_: object) -> AsyncGenerator[None, None]:
    yield


def generator(*_: object) -> Generator[None, None, None]:
    yield


class Handler:
    async def method(self, *_: object) -> None: ...

    @classmethod
    async def of_class(cls, *_: object) -> None: ...

    async def __call__(self, *_: object) -> None: ...


#: Functions of which it can be told without calling them.
ASYNC: dict[str, Callable[..., object]] = {
    "coroutine function": coroutine,
    "asynchronous generator function": asynchronous_generator,
    "generator function": generator,
    "method": Handler().method,
    "class method": Handler.of_class,
    "callable object": Handler(),
    "partial": functools.partial(coroutine, 1),
    "partial of a partial of a method": functools.partial(functools.partial(Handler().method)),
    "mock": mock.AsyncMock(),
}


@contextlib.contextmanager
def managed() -> Iterator[None]:
    yield


@contextlib.asynccontextmanager
async def managed_asynchronously() -> AsyncGenerator[None, None]:
    yield


class Awaitable:
    def __await__(self) -> Iterator[None]:
        yield


#: What an ordinary function may return that has not run.
DEFERRED: dict[str, Callable[[], object]] = {
    "coroutine": coroutine,
    "asynchronous generator": asynchronous_generator,
    "generator": generator,
    "generator expression": lambda: (it for it in [1]),
    "map": lambda: map(print, []),
    "filter": lambda: filter(None, []),
    "future of a thread": concurrent.futures.Future,
    "awaitable": Awaitable,
    "context manager": managed,
    "asynchronous context manager": managed_asynchronously,
}


@pytest.fixture(params=ASYNC)
def function(request: pytest.FixtureRequest) -> Callable[..., object]:
    return ASYNC[request.param]


@pytest.fixture(params=DEFERRED)
def promising(request: pytest.FixtureRequest) -> Callable[..., object]:
    """A function that returns what has yet to run."""
    made = DEFERRED[request.param]
    return lambda *_: made()


def test_asynchronous_functions_are_told_from_others(function: Callable[..., object]) -> None:
    assert is_deferred(function)


@pytest.mark.parametrize(
    "ordinary", [print, len, list, Handler, lambda: 0, [].append, mock.Mock(), object(), None]
)
def test_ordinary_functions_are_not_refused(ordinary: object) -> None:
    assert not is_deferred(ordinary)


def test_a_hook_that_returns_what_has_yet_to_run_has_failed(
    promising: Callable[..., object],
) -> None:
    hook = sysgenid.after_restore(promising)
    try:
        with pytest.raises(sysgenid.HookError, match="yet to run"):
            sysgenid.run_after_restore(1)
    finally:
        hook.remove()


def test_an_orchestrator_does_not_settle_by_what_has_yet_to_run(
    orchestrator: sysgenid.Orchestrator, promising: Callable[..., object]
) -> None:
    hook = sysgenid.after_restore(promising)
    orchestrator.trigger()
    with pytest.raises(sysgenid.HookError, match="yet to run"):
        orchestrator.settle(patient(5))
    hook.remove()
    assert orchestrator.try_changed() is not None, "it stays outdated"


def test_a_guard_is_not_made_of_asynchronous_functions(function: Callable[..., object]) -> None:
    with pytest.raises(TypeError, match="build"):
        sysgenid.Guarded(function)
    with pytest.raises(TypeError, match="wipe"):
        sysgenid.Guarded(bytearray, wipe=function)


def test_a_build_that_has_yet_to_run_is_refused(promising: Callable[..., object]) -> None:
    guard = sysgenid.Guarded(promising)
    for _ in range(2):
        with pytest.raises(TypeError, match="yet to run"):
            guard.get()
    assert repr(guard) == "<sysgenid.Guarded, empty>"


def test_a_use_that_has_yet_to_run_is_refused(promising: Callable[..., object]) -> None:
    key = sysgenid.Guarded(lambda: bytearray(b"key"), wipe=bytearray.clear)
    with pytest.raises(TypeError, match="yet to run"):
        key.use(promising)
    assert key.use(bytes) == b"key"


def test_a_use_by_a_coroutine_function_is_refused() -> None:
    key = sysgenid.Guarded(lambda: bytearray(b"key"), wipe=bytearray.clear)
    with pytest.raises(TypeError, match="yet to run"):
        key.use(coroutine)  # type: ignore[deprecated]


def test_a_wipe_that_has_yet_to_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[BaseException | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda it: told.append(it.exc_value))
    key = sysgenid.Guarded(bytearray, wipe=lambda value: coroutine(value))
    key.use(len)
    key.forget()
    assert [type(error) for error in told] == [TypeError]


def test_results_that_have_yet_to_run_are_not_kept(promising: Callable[..., object]) -> None:
    kept = sysgenid.cached(promising)
    for _ in range(2):
        with pytest.raises(TypeError, match="yet to run"):
            kept()
    assert kept.cache_info().currsize == 0


def test_asynchronous_functions_are_not_cached(function: Callable[..., object]) -> None:
    with pytest.raises(TypeError, match="cannot be kept"):
        sysgenid.cached(function)


@pytest.mark.parametrize("made", [list, dict, lambda: iter([1]), io.StringIO, Handler])
def test_what_is_done_is_not_refused(made: Callable[[], object]) -> None:
    guard = sysgenid.Guarded(made)
    assert guard.use(lambda it: it) is guard.get()
