# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Values that must not outlive a restore or a fork: checked before their use, and after it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ._forks import ForkLock
from ._functions import is_async
from ._native import shows_restores, uniqueness
from .errors import ReentrantError, UnsettledError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._native import Uniqueness

__all__ = ["Guarded"]

_T = TypeVar("_T")
_R = TypeVar("_R")

ATTEMPTS = 4
"""How often a call starts over because something changed meanwhile.

A change is a restore of the whole system, or a fork: four in the time of one use is not a system
that is up.
"""


def unsettled() -> UnsettledError:
    return UnsettledError(
        errno.EAGAIN,
        f"the generation changed during each of {ATTEMPTS} attempts; try again once the system has "
        "settled",
    )


class _Built(Generic[_T]):
    """A value, and what the process had seen when it was built."""

    __slots__ = ("mark", "value")

    def __init__(self, mark: Uniqueness, value: _T) -> None:
        self.mark = mark
        self.value = value


class _Wiped(_Built[_T]):
    """A value that is wiped when the last of its users has let go of it.

    The interpreter counts the references, so that nobody's value is wiped under their hands.
    """

    __slots__ = ("_wipe",)

    def __init__(self, mark: Uniqueness, value: _T, wipe: Callable[[_T], object]) -> None:
        super().__init__(mark, value)
        self._wipe = wipe

    def __del__(self) -> None:
        self._wipe(self.value)


class Guarded(Generic[_T]):
    """A cached value that is built again when the system was restored or the process forked.

    `build` is called without arguments at the first use, and again at the first use after a change:
    check, use, check again. It must take its entropy from the kernel, by `sysgenid.entropy`; from
    anything in this process's memory it would get the same value in every clone. That includes
    `secrets` and `os.urandom` where CRIU before 4.2 restores a process with glibc 2.41 or later.

    >>> import sysgenid
    >>> node = sysgenid.Guarded(lambda: sysgenid.entropy(8).hex())
    >>> node.get() == node.get()
    True
    >>> node.use(lambda node: f"{node}-1") == f"{node.get()}-1"
    True

    With `wipe`, a value that is no longer wanted is given to that function before it is dropped, to
    be overwritten. Then the value is used by `use` alone: one that `get` had handed out could be
    wiped while it is in use.

    >>> key = sysgenid.Guarded(lambda: bytearray(sysgenid.entropy(32)), wipe=bytearray.clear)
    >>> key.use(len)
    32

    What is guaranteed:

    - `get` returns a value that was built since the last change that could be seen at its return.
      `use` returns a result only if no change is seen from before the use until after it.
    - A build that fails leaves no old value behind: the next call builds again. Its exception comes
      through as it is.
    - A value whose use was overtaken by a change is not used again.
    - It may be shared by threads. One of them builds, and the others wait for it; if it fails, the
      next one builds. While the value is up to date nobody waits, and no lock is taken.
    - In a forked child the value is built anew. A build that another thread of the parent was at
      does not hold up the child.

    What is not:

    - A change that cannot be seen *yet* is not: there is a window between the resume of a restored
      machine and the change of its counter. Without a source only forks are seen
      (`sysgenid.verify`), and the use of a value that is built already does not look for one.
    - After `get` has returned, nothing is known. After `use` has, its result is the caller's.
    - A snapshot that is taken after the last check copies the value with everything else: `forget`
      it before that.
    - `wipe` sees this object, and no copies that `build`, `use` or the interpreter made of it. It
      is called when the last use has ended, in the thread where that was; a traceback is a use as
      well. What it raises goes to `sys.unraisablehook`.
    - `use` takes ordinary functions. A coroutine would run after the check.
    """

    __slots__ = ("__weakref__", "_build", "_built", "_turn", "_wipe")

    def __init__(
        self, build: Callable[[], _T], *, wipe: Callable[[_T], object] | None = None
    ) -> None:
        if not callable(build) or is_async(build):
            raise TypeError("build is an ordinary function, without arguments, of a value")
        self._build = build
        self._wipe = wipe
        self._built: _Built[_T] | None = None
        self._turn = ForkLock()

    def get(self) -> _T:
        """The value of this moment, built if need be.

        Raises `UnsettledError` (`EAGAIN`) if something changed during each of a few builds;
        `ReentrantError` (`EDEADLK`) if the call is made by the guard's own build, and `TypeError`
        if the guard wipes its values; and what `build` raises.
        """
        if self._wipe is not None:
            raise TypeError("this guard wipes its values, so they are used within `use` only")
        # As `_current` begins, and here for speed.
        built = self._built
        if built is not None and built.mark.is_current():
            return built.value
        return self._current().value

    def use(self, function: Callable[[_T], _R]) -> _R:
        """What `function` makes of the value, if nothing changed from before that until after it.

        Otherwise the value is built and the function called again: it should have no effect but its
        result. It may use the guard itself.

        Raises `UnsettledError` if something changed during each of a few calls; else as `get`, and
        what `function` raises.
        """
        for _ in range(ATTEMPTS):
            built = self._current()
            result = function(built.value)
            if built.mark.is_current():
                return result
            # So that it is not that one again, whatever is seen by then.
            if self._built is built:
                self._built = None
            del built
        raise unsettled()

    def forget(self) -> None:
        """Drops the value. The next use builds another.

        For a hook that runs before a snapshot: `sysgenid.before_snapshot(guard.forget)`.
        """
        self._built = None

    def _current(self) -> _Built[_T]:
        # The value first, and then what it is compared with: a change that was to be seen when this
        # was called is in what is looked at last.
        built = self._built
        if built is not None and built.mark.is_current():
            return built
        del built  # or it would be this that keeps an old value from being wiped
        return self._renewed()

    def _renewed(self) -> _Built[_T]:
        turn = self._turn.hold()
        if not turn.acquire():
            raise ReentrantError(
                errno.EDEADLK,
                "the guard is in use by its own caller: a value cannot be used while it is built",
            )
        try:
            # Somebody else may have built it while this thread waited.
            built = self._built
            if built is not None and built.mark.is_current():
                return built
            # First, so that a build that fails leaves no old value behind.
            built = self._built = None
            # A source that appeared is a change, which the mark is to have.
            shows_restores()
            for _ in range(ATTEMPTS):
                mark = uniqueness()
                built = self._wrapped(mark, self._build())
                if mark.is_current():
                    self._built = built
                    return built
            raise unsettled()
        finally:
            turn.release()

    def _wrapped(self, mark: Uniqueness, value: _T) -> _Built[_T]:
        if self._wipe is None:
            return _Built(mark, value)
        return _Wiped(mark, value, self._wipe)

    def __repr__(self) -> str:
        """Shows the generation and not the value, which is a secret."""
        built = self._built
        state = "empty" if built is None else f"built in generation {built.mark.generation}"
        return f"<sysgenid.Guarded, {state}>"

    def __reduce__(self) -> Any:
        raise TypeError("a guard cannot be pickled: make one in the other process")
