# SPDX-License-Identifier: Apache-2.0 OR MIT
from __future__ import annotations

import _random
import copyreg
import random as _stdlib
from collections.abc import Callable
from typing import Any

from sysgenid._native import GuardedDraws
from sysgenid._typing import Self

_State = tuple[int, ...]


class Core(_random.Random):
    """Stands between the methods of `random.Random` and the generator in C that they are made of.

    Those methods are the standard library's own. All that they know of a generator is here, so that
    it makes no difference whether one of them was bound to its instance before or after the
    instance got this class.
    """

    __slots__ = ()

    _draws: GuardedDraws
    # A number that `gauss` keeps for its next call, and in which epoch of the state it was made.
    _kept: tuple[int, Any]

    def random(self) -> float:
        """random() -> x in the interval [0, 1)."""
        return self._draws.random()

    def getrandbits(self, k: int, /) -> int:
        """getrandbits(k) -> x. Generates an int with k random bits."""
        return self._draws.getrandbits(k)

    def seed(self, *args: Any) -> None:
        if not args or args[0] is None:
            # Not by the core, which asks the C library: see `sysgenid.entropy`.
            self._draws.reseed()
        else:
            self._draws.renew(self._draws.core.seed, *args)

    def getstate(self) -> _State:
        # Nobody wants a copy of a state that will not be used any more.
        self._draws.epoch()
        state: _State = self._draws.core.getstate()
        return state

    def setstate(self, state: _State, /) -> None:
        self._draws.renew(self._draws.core.setstate, state)
        # `random.Random.setstate` has just set it, and it belongs to this state.
        self.gauss_next = self._kept[1]

    @property
    def gauss_next(self) -> Any:
        epoch, kept = self._kept
        return kept if epoch == self._draws.epoch() else None

    @gauss_next.setter
    def gauss_next(self, number: Any) -> None:
        self._kept = self._draws.last_epoch, number


# The mixin comes second: `super()` in the methods of `random.Random` finds it.
class Random(_stdlib.Random, Core):  # pyright: ignore[reportIncompatibleMethodOverride]
    """A `random.Random` that draws nothing a second time after a restore or a fork.

    It draws the numbers of the standard library's generator, from the same seeds. Before a number
    is returned it is checked: if the system was restored or the process forked since the generator
    was seeded, the number is thrown away, the generator is seeded from the kernel, and another is
    drawn.

    >>> from sysgenid.random import Random
    >>> rng = Random()
    >>> token = rng.getrandbits(64)
    >>> servers = ["a", "b", "c"]
    >>> rng.shuffle(servers)

    With a seed it repeats what the standard library draws, **until the first change**. A simulation
    that has to be repeated across restores and forks wants `random.Random`.

    >>> import random
    >>> Random(42).random() == random.Random(42).random()
    True

    What holds:

    - The check comes after each draw, so no number is returned that was drawn before, or across, a
      change that `sysgenid.uniqueness()` shows. After a few changes during one draw, its bits come
      from the kernel: a draw always ends.
    - `seed(a)`, `setstate` and the copies made by `copy` and `pickle` are the caller's will. A
      state from before a change that is set after it is used as it is, by every clone that does so.
      `getstate` never returns a state from before a change.
    - The number that `gauss` keeps for its next call is forgotten at a change.

    What does not:

    - A method that draws several numbers (`choices`, `sample`, `shuffle`) may have drawn some
      before a change and the rest after it. Clones have the first of them in common.
    - Without a source only forks are seen, and clones draw the same numbers: `sysgenid.verify()`
      raises then, and an `UnprotectedWarning` is given once. A draw does not look for a source that
      appears later; a new seed does.
    - Keys and passwords must not be made from it, as from the standard library's:
      `sysgenid.entropy` is for those.

    Drawing raises `EntropyError` if a new seed is needed and the kernel gives none. The next draw
    tries again.
    """

    __module__ = "sysgenid.random"

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        # The seed is `__init__`'s business. The state in here is not used: the object would hold
        # bound methods of its own, and only the garbage collector could end that.
        self: Self = super().__new__(cls, 0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        guard(self, GuardedDraws(_random.Random(0)), cls)
        return self


# Found in an instance before the methods of its class, and without another call in between.
SHORTCUTS = ("random", "getrandbits")


def guard(generator: Any, draws: GuardedDraws, kind: type[Random], kept: Any = None) -> None:
    """Has `generator`, which is or will be of this kind, draw by `draws`."""
    generator._draws = draws
    generator._kept = draws.last_epoch, kept
    for name in SHORTCUTS:
        # A subclass may have its own.
        if getattr(kind, name) is getattr(Random, name):
            setattr(generator, name, getattr(draws, name))


def _draws_in(state: _State) -> GuardedDraws:
    core = _random.Random(0)
    core.setstate(state)
    return GuardedDraws(core)


def _reduce(draws: GuardedDraws) -> tuple[Callable[[_State], GuardedDraws], tuple[_State]]:
    draws.epoch()
    return _draws_in, (draws.core.getstate(),)


# For `rng.random` and `random.random`, which are its bound methods, and can be pickled elsewhere.
copyreg.pickle(GuardedDraws, _reduce)
